"""What is done to the body of an answer while it passes: nothing, counting, or editing; streamed or whole."""

from __future__ import annotations

from typing import ClassVar, Protocol

from extproc.exchange.values import (
    UNCHANGED,
    BodyMode,
    BodyReply,
    HeaderList,
    Headers,
    HeadersReply,
    ResponsePlan,
    names_in,
)
from extproc.payload.encodings import StreamDecoder, decode_body
from extproc.payload.errors import PayloadError
from extproc.payload.guard_answer import DIALECTS, guard_answer
from extproc.payload.guard_fields import Dialect
from extproc.payload.guard_stream import GuardedStream
from extproc.payload.stream_edit import StreamEditor, edit_json_answer
from extproc.payload.stream_usage import StreamUsage
from extproc.payload.usage import Usage, usage_from_json

BUFFERED_LIMIT = 512 * 1024
"""JSON answers with a known length up to this are taken whole in one message, and keep their `content-length`. Envoy
itself buffers 1 MiB by default, so this stays clear of its limit."""

_EMPTY = BodyReply(body=b"")
_BROKEN = BodyReply(broken=True)
"""For bodies whose encoding header is gone already, so that their raw bytes must not follow."""


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
    if bodies is BodyMode.NONE or not (plan.count or plan.edits_body) or not status.startswith(b"2"):
        return unread
    unreadable = (_Withheld(), BodyMode.STREAMED, HeadersReply(BodyMode.STREAMED)) if plan.fail_closed else unread
    content_type = headers.get("content-type", b"").lower()
    encoding = headers.get("content-encoding", b"").decode("latin-1").strip().lower()
    encoding = "" if encoding == "identity" else encoding
    body: ResponseBody
    try:
        if content_type.startswith(b"text/event-stream"):
            mode = BodyMode.STREAMED
            decoder = StreamDecoder(encoding, response_limit) if encoding else None
            body = _EditedStream(plan, decoder) if plan.edits_body else _CountedStream(decoder)
        elif b"json" in content_type:
            length = headers.get("content-length", b"")
            small = length.isdigit() and int(length) <= BUFFERED_LIMIT
            mode = bodies or (BodyMode.BUFFERED if small else BodyMode.STREAMED)
            body = _WholeAnswer(plan, encoding, response_limit, streamed=mode is BodyMode.STREAMED)
        else:
            return unreadable
    except PayloadError:  # an encoding that cannot be read: the client gets what the destination sent
        return unreadable
    if mode is BodyMode.STREAMED and "content-length" in headers:
        remove = (*remove, "content-length")
    if encoding and plan.edits_body:
        remove = (*remove, "content-encoding")
    return body, mode, HeadersReply(mode, plan.set_headers, remove)


class _Withheld:
    """An answer that nobody can look into, where nothing may pass unseen."""

    events: ClassVar[bool] = False
    usage: Usage | None = None
    completion_bytes = 0
    denied = True

    def feed(self, chunk: bytes, *, end: bool) -> BodyReply:
        return _BROKEN

    def abandon(self) -> None:
        """Nothing was counted."""


class _CountedStream:
    """An event stream that passes unchanged while its usage is read."""

    events: ClassVar[bool] = True
    denied = False
    __slots__ = ("_decoder", "_usage")

    def __init__(self, decoder: StreamDecoder | None) -> None:
        self._usage = StreamUsage()
        self._decoder = decoder

    @property
    def usage(self) -> Usage | None:
        return self._usage.usage

    @property
    def completion_bytes(self) -> int:
        return self._usage.completion_bytes

    def feed(self, chunk: bytes, *, end: bool) -> BodyReply:
        if self._decoder is None:
            self._usage.feed(chunk)
        else:
            self._feed_decoded(chunk, self._decoder)
        if end:
            self._usage.finish()
        return UNCHANGED

    def abandon(self) -> None:
        self._usage.finish()

    def _feed_decoded(self, chunk: bytes, decoder: StreamDecoder) -> None:
        try:
            self._usage.feed(decoder.feed(chunk))
        except PayloadError:  # unreadable from here on: what was counted so far stands
            self._decoder = None


class _EditedStream:
    """An event stream in which the model is renamed, the usage chunk is taken out, or texts pass through filters."""

    events: ClassVar[bool] = True
    __slots__ = ("_decoder", "_editor", "_guarded")

    def __init__(self, plan: ResponsePlan, decoder: StreamDecoder | None) -> None:
        self._editor = StreamEditor(plan.model, plan.strip_usage)
        self._decoder = decoder
        self._guarded: GuardedStream | None = None
        if plan.open_filter is not None:
            self._guarded = GuardedStream(plan.open_filter, refusal=plan.refusal, operation=plan.operation)

    @property
    def usage(self) -> Usage | None:
        return self._editor.usage

    @property
    def completion_bytes(self) -> int:
        return self._editor.completion_bytes

    @property
    def denied(self) -> bool:
        return self._guarded is not None and self._guarded.denied

    def feed(self, chunk: bytes, *, end: bool) -> BodyReply:
        if self._decoder is not None:
            try:
                chunk = self._decoder.feed(chunk)
            except PayloadError:
                return _BROKEN
        edited = self._editor.feed(chunk)
        if self._guarded is not None:
            passing = chunk if edited is None else edited
            rest = self._editor.finish() if end else b""
            return BodyReply(body=self._guarded.feed(passing + rest, end=end))
        if self._decoder is not None and edited is None:
            edited = chunk
        if not end:
            return UNCHANGED if edited is None else BodyReply(body=edited)
        rest = self._editor.finish()
        if not rest:
            return UNCHANGED if edited is None else BodyReply(body=edited)
        return BodyReply(body=(chunk if edited is None else edited) + rest)

    def abandon(self) -> None:
        self._editor.finish()


class _WholeAnswer:
    """A JSON answer, read and edited when it is complete."""

    events: ClassVar[bool] = False
    __slots__ = ("_encoding", "_held", "_limit", "_pieces", "_plan", "_streamed", "completion_bytes", "denied", "usage")

    def __init__(self, plan: ResponsePlan, encoding: str, limit: int, *, streamed: bool) -> None:
        self._plan = plan
        self._encoding = encoding
        self._limit = limit
        self._streamed = streamed
        self._pieces: list[bytes] | None = []
        self._held = 0
        self.usage: Usage | None = None
        self.completion_bytes = 0
        self.denied = False

    def feed(self, chunk: bytes, *, end: bool) -> BodyReply:
        pieces = self._pieces
        if pieces is None:
            return UNCHANGED
        pieces.append(chunk)
        self._held += len(chunk)
        if self._held > self._limit:  # too large to hold: it goes on as it came, uncounted
            self._pieces = None
            if (self._encoding and self._plan.edits_body) or self._plan.fail_closed:
                return _BROKEN
            return BodyReply(body=b"".join(pieces)) if self._plan.edits_body and len(pieces) > 1 else UNCHANGED
        if not end:
            return _EMPTY if self._plan.edits_body else UNCHANGED
        return self._complete(b"".join(pieces) if len(pieces) > 1 else chunk)

    def abandon(self) -> None:
        self._pieces = None

    def _complete(self, raw: bytes) -> BodyReply:
        try:
            body = decode_body(raw, self._encoding, self._limit) if self._encoding else raw
        except PayloadError:
            return _BROKEN if self._plan.edits_body else UNCHANGED
        self.usage = usage_from_json(body)
        self.completion_bytes = len(body)
        if not self._plan.edits_body:
            return UNCHANGED
        edited = self._filtered(edit_json_answer(body, self._plan.model))
        if edited == raw and not self._streamed:
            return UNCHANGED
        return BodyReply(body=edited, set_headers=self._length(edited))

    def _filtered(self, body: bytes) -> bytes:
        plan = self._plan
        if plan.open_filter is None:
            return body
        dialect = DIALECTS.get(plan.operation, Dialect.OTHER)
        answer = guard_answer(body, plan.open_filter, refusal=plan.refusal, dialect=dialect)
        self.denied = answer.denied
        return answer.body

    def _length(self, body: bytes) -> HeaderList:
        return () if self._streamed else (("content-length", b"%d" % len(body)),)
