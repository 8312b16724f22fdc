"""Which handling an answer gets: nothing, counting, or editing; streamed or whole."""

from __future__ import annotations

from typing import ClassVar, Protocol

import msgspec

from extproc.exchange.bodies import Counted, CountedStream, EditedStream, Emptied, WholeAnswer, Withheld
from extproc.exchange.values import BodyMode, BodyReply, Headers, HeadersReply, ResponsePlan, names_in
from extproc.payload.encodings import StreamDecoder
from extproc.payload.errors import PayloadError
from extproc.payload.operations.table import OTHER
from extproc.payload.replay import StreamJoiner
from extproc.payload.usage import Usage

BUFFERED_LIMIT = 512 * 1024
"""JSON answers with a known length up to this are taken whole in one message, and keep their `content-length`. Envoy
itself buffers 1 MiB by default, so this stays clear of its limit."""

_LENGTH = ("content-length",)
_EVENT_STREAM = b"text/event-stream"
_ENVOY_READS = (_EVENT_STREAM, b"application/json")
"""What Envoy finds usage in, uncompressed. It adds trailers, which a body that is buffered here would wait for."""
_EVENTS_PER_TEXT = 16
"""Bytes of an event stream for each byte of the JSON that says the same: tokens come in frames of their own."""


class ResponseBody(Protocol):
    """Handles one answer's body, piece by piece."""

    events: ClassVar[bool]
    """Whether the pieces are server-sent events."""

    @property
    def usage(self) -> Usage | None: ...

    @property
    def completion_bytes(self) -> int: ...

    def feed(self, chunk: bytes, *, end: bool) -> BodyReply: ...

    @property
    def denied(self) -> bool:
        """Whether a filter has put a refusal in place of what the destination said."""
        ...

    @property
    def kept(self) -> bytes | None:
        """The whole answer as unstreamed JSON, decoded, once it has ended; None where the plan wants no copy, or it is
        too large for one."""
        ...

    def abandon(self) -> None:
        """No more pieces will come: account for what is there."""


def open_response(
    plan: ResponsePlan, headers: Headers, response_limit: int, bodies: BodyMode | None = None
) -> tuple[ResponseBody | None, BodyMode, HeadersReply]:
    """Chooses the handling of an answer from its headers, and what Envoy is told about it.

    `bodies` is how Envoy sends the body if it cannot be told.
    """
    remove = names_in(headers, plan.remove_headers) if plan.remove_headers else ()
    unread = None, BodyMode.NONE, HeadersReply(BodyMode.NONE, plan.set_headers, remove)
    status = headers.get(":status", b"")
    failed = not status.startswith((b"1", b"2"))
    wanted = plan.open_filter is not None if failed else plan.count or plan.edits_body
    if not wanted or bodies is BodyMode.NONE or status.startswith(b"1"):
        return unread
    unreadable: tuple[ResponseBody | None, BodyMode, HeadersReply] = unread
    if plan.fail_closed:
        withheld = HeadersReply(BodyMode.STREAMED, remove_headers=names_in(headers, _LENGTH) if failed else ())
        unreadable = Emptied() if failed else Withheld(), BodyMode.STREAMED, withheld
    if failed:  # an error's text may repeat the request: it is filtered, and nothing else
        plan = msgspec.structs.replace(plan, keep=0, operation=OTHER)
    content_type = headers.get("content-type", b"").lower()
    encoding = headers.get("content-encoding", b"").decode("latin-1").strip().lower()
    encoding = "" if encoding == "identity" else encoding
    if plan.envoy_counts and bodies is None and not encoding and content_type.startswith(_ENVOY_READS):
        return Counted(), BodyMode.NONE, unread[2]
    body: ResponseBody
    try:
        if content_type.startswith(_EVENT_STREAM):
            mode = BodyMode.STREAMED
            decoder = StreamDecoder(encoding, response_limit) if encoding else None
            copy = StreamJoiner(min(response_limit, plan.keep * _EVENTS_PER_TEXT)) if plan.keep else None
            body = EditedStream(plan, decoder, copy) if plan.edits_body else CountedStream(decoder, copy)
        elif b"json" in content_type:
            length = headers.get("content-length", b"")
            small = length.isdigit() and int(length) <= BUFFERED_LIMIT
            mode = bodies or (BodyMode.BUFFERED if small else BodyMode.STREAMED)
            body = WholeAnswer(plan, encoding, response_limit, streamed=mode is BodyMode.STREAMED)
        else:
            return unreadable
    except PayloadError:  # an encoding that cannot be read: the client gets what the destination sent
        return unreadable
    if mode is BodyMode.STREAMED and "content-length" in headers:
        remove = (*remove, "content-length")
    if encoding and plan.edits_body:
        remove = (*remove, "content-encoding")
    return body, mode, HeadersReply(mode, plan.set_headers, remove)
