"""Which handling an answer gets: nothing, counting, or editing; streamed or whole."""

from __future__ import annotations

import msgspec

from extproc.exchange.bodies import Counted, Emptied, ResponseBody, Withheld, stream_of
from extproc.exchange.sniffed import Passing, Sniffed
from extproc.exchange.values import BodyMode, Headers, HeadersReply, ResponsePlan, names_in
from extproc.payload.errors import PayloadError
from extproc.payload.guard.fields import OpenFilter, TextChannel
from extproc.payload.operations.table import OTHER
from extproc.payload.stream_usage import AnswerKind, kind_of_type

BUFFERED_LIMIT = 512 * 1024
"""JSON answers with a known length up to this are taken whole in one message, and keep their `content-length`. Envoy
itself buffers 1 MiB by default, so this stays clear of its limit."""

_LENGTH = ("content-length",)
_UNTOLD = (b"", b"text/plain", b"application/octet-stream")
"""Content types that some give to event streams."""
_ENVOY_READS = (b"text/event-stream", b"application/json")
"""What Envoy finds usage in, uncompressed. It adds trailers, which a body that is buffered here would wait for."""


def open_response(
    plan: ResponsePlan, headers: Headers, response_limit: int, bodies: BodyMode | None = None
) -> tuple[ResponseBody | None, BodyMode, HeadersReply]:
    """Chooses the handling of an answer from its headers, and what Envoy is told about it.

    `bodies` is how Envoy sends the body if it cannot be told.
    """
    if plan.open_filter is not None and not plan.watch_only and "location" in headers:
        plan = _with_location(plan, plan.open_filter, headers["location"].decode("utf-8", "replace"))
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
    encoding = headers.get("content-encoding", b"").decode("latin-1").strip().lower()
    encoding = "" if encoding == "identity" else encoding
    envoy_reads = headers.get("content-type", b"").lower().startswith(_ENVOY_READS)
    if plan.envoy_counts and bodies is None and not encoding and envoy_reads:
        return Counted(), BodyMode.NONE, unread[2]
    try:
        body, mode = _handled(plan, headers, encoding, response_limit, bodies, unreadable[0])
    except PayloadError:  # an encoding that cannot be read: the client gets what the destination sent
        return unreadable
    if body is None or body is unreadable[0]:
        return unreadable
    if mode is BodyMode.STREAMED and "content-length" in headers:
        remove = (*remove, "content-length")
    if encoding and plan.edits_body:
        remove = (*remove, "content-encoding")
    return body, mode, HeadersReply(mode, plan.set_headers, remove)


def _with_location(plan: ResponsePlan, open_filter: OpenFilter, location: str) -> ResponsePlan:
    """A redirect's address is text of the answer as well."""
    piece = open_filter(TextChannel("other", 0)).feed(location, end=True)
    if piece.denied:
        return msgspec.structs.replace(plan, remove_headers=(*plan.remove_headers, "location"))
    if piece.text == location:
        return plan
    return msgspec.structs.replace(plan, set_headers=(*plan.set_headers, ("location", piece.text.encode())))


def _handled(
    plan: ResponsePlan,
    headers: Headers,
    encoding: str,
    limit: int,
    bodies: BodyMode | None,
    unreadable: ResponseBody | None,
) -> tuple[ResponseBody | None, BodyMode]:
    """What handles an answer of this content type; `unreadable` where nothing can look into it."""
    content_type = headers.get("content-type", b"").lower()
    kind = kind_of_type(content_type)
    if kind in (AnswerKind.LINES, AnswerKind.FRAMES):
        if plan.fail_closed:
            return unreadable, BodyMode.STREAMED
        plan = msgspec.structs.replace(plan, open_filter=None)  # filters look into events and JSON only
        if kind is AnswerKind.FRAMES:
            plan = msgspec.structs.replace(plan, model=None, strip_usage=False)
    if kind is not AnswerKind.UNDECIDED:
        return stream_of(plan, encoding, limit, kind), BodyMode.STREAMED
    if b"json" in content_type:
        length = headers.get("content-length", b"")
        small = length.isdigit() and int(length) <= BUFFERED_LIMIT
        mode = bodies or (BodyMode.BUFFERED if small else BodyMode.STREAMED)
        return Sniffed(plan, encoding, limit, streamed=mode is BodyMode.STREAMED), mode
    if plan.stream and content_type.partition(b";")[0].strip() in _UNTOLD:
        otherwise = unreadable or Passing()
        return Sniffed(plan, encoding, limit, streamed=True, otherwise=otherwise), BodyMode.STREAMED
    return unreadable, BodyMode.STREAMED
