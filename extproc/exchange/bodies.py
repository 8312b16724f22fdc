"""What is done to the body of an answer while it passes, one class for each way."""

from __future__ import annotations

from typing import ClassVar, Protocol

from extproc.exchange.values import UNCHANGED, BodyReply, HeaderList, ResponsePlan
from extproc.payload.encodings import StreamDecoder, decode_body
from extproc.payload.errors import PayloadError
from extproc.payload.guard.answer import guard_answer
from extproc.payload.guard.stream import GuardedStream
from extproc.payload.replay import StreamJoiner
from extproc.payload.stream_edit import StreamEditor, edit_json_answer
from extproc.payload.stream_usage import AnswerKind, StreamUsage, media_bytes
from extproc.payload.usage import Usage, usage_from_json

_EVENTS_PER_TEXT = 16
"""Bytes of an event stream for each byte of the JSON that says the same: tokens come in frames of their own."""
_EMPTY = BodyReply(body=b"")
_BROKEN = BodyReply(broken=True)
"""For bodies whose encoding header is gone already, so that their raw bytes must not follow."""


class ResponseBody(Protocol):
    """Handles one answer's body, piece by piece."""

    @property
    def events(self) -> bool:
        """Whether the answer is a stream, with a frame around each piece of text."""
        ...

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


class Withheld:
    """An answer that nobody can look into, where nothing may pass unseen."""

    events: ClassVar[bool] = False
    usage: Usage | None = None
    completion_bytes = 0
    denied = True
    kept: bytes | None = None

    def feed(self, chunk: bytes, *, end: bool) -> BodyReply:
        return _BROKEN

    def abandon(self) -> None:
        """Nothing was counted."""


class Emptied(Withheld):
    """An error in which nobody can look: its status tells enough, so it goes on without its text."""

    def feed(self, chunk: bytes, *, end: bool) -> BodyReply:
        return _EMPTY


class Counted:
    """An event stream that passes by while Envoy counts."""

    events: ClassVar[bool] = True
    completion_bytes = 0
    denied = False
    kept: bytes | None = None

    def __init__(self) -> None:
        self.usage: Usage | None = None

    def feed(self, chunk: bytes, *, end: bool) -> BodyReply:
        return UNCHANGED

    def abandon(self) -> None:
        """Nothing was seen."""


class CountedStream:
    """An event stream that passes unchanged while its usage is read."""

    denied = False
    __slots__ = ("_copy", "_decoder", "_usage")

    def __init__(self, usage: StreamUsage, decoder: StreamDecoder | None, copy: StreamJoiner | None) -> None:
        self._usage = usage
        self._decoder = decoder
        self._copy = copy

    @property
    def events(self) -> bool:
        return self._usage.kind is not AnswerKind.JSON

    @property
    def usage(self) -> Usage | None:
        return self._usage.usage

    @property
    def completion_bytes(self) -> int:
        return self._usage.completion_bytes

    @property
    def kept(self) -> bytes | None:
        return None if self._copy is None else self._copy.finish()

    def feed(self, chunk: bytes, *, end: bool) -> BodyReply:
        if self._decoder is None:
            self._usage.feed(chunk)
            if self._copy is not None:
                self._copy.feed(chunk)
        else:
            self._feed_decoded(chunk, self._decoder)
        if end:
            self._usage.finish()
        return UNCHANGED

    def abandon(self) -> None:
        self._usage.finish()

    def _feed_decoded(self, chunk: bytes, decoder: StreamDecoder) -> None:
        try:
            plain = decoder.feed(chunk)
        except PayloadError:  # unreadable from here on: what was counted so far stands
            self._decoder = None
            if self._copy is not None:
                self._copy.spoil()
            return
        self._usage.feed(plain)
        if self._copy is not None:
            self._copy.feed(plain)


class EditedStream:
    """An event stream in which the model is renamed, the usage chunk is taken out, or texts pass through filters."""

    __slots__ = ("_copy", "_decoder", "_editor", "_guarded", "_watch_only")

    def __init__(
        self, plan: ResponsePlan, editor: StreamEditor, decoder: StreamDecoder | None, copy: StreamJoiner | None
    ) -> None:
        self._copy = copy
        self._editor = editor
        self._decoder = decoder
        self._watch_only = plan.watch_only
        self._guarded: GuardedStream | None = None
        if plan.open_filter is not None:
            self._guarded = GuardedStream(plan.open_filter, refusal=plan.refusal, dialect=plan.operation.dialect)

    @property
    def events(self) -> bool:
        return self._editor.kind is not AnswerKind.JSON

    @property
    def usage(self) -> Usage | None:
        return self._editor.usage

    @property
    def completion_bytes(self) -> int:
        return self._editor.completion_bytes

    @property
    def denied(self) -> bool:
        return self._guarded is not None and self._guarded.denied and not self._watch_only

    @property
    def kept(self) -> bytes | None:
        return None if self._copy is None else self._copy.finish()

    def feed(self, chunk: bytes, *, end: bool) -> BodyReply:
        if self._decoder is not None:
            try:
                chunk = self._decoder.feed(chunk)
            except PayloadError:
                return _BROKEN
        if self._copy is not None:
            self._copy.feed(chunk)
        edited = self._editor.feed(chunk)
        if self._guarded is not None:
            passing = chunk if edited is None else edited
            rest = self._editor.finish() if end else b""
            filtered = self._guarded.feed(passing + rest, end=end)
            return BodyReply(body=passing + rest if self._watch_only else filtered)
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


def stream_of(plan: ResponsePlan, encoding: str, limit: int, kind: AnswerKind) -> CountedStream | EditedStream:
    """What handles a stream of this kind. Raises PayloadError for an encoding that cannot be read."""
    decoder = StreamDecoder(encoding, limit) if encoding else None
    copy = StreamJoiner(min(limit, plan.keep * _EVENTS_PER_TEXT)) if plan.keep else None
    form = plan.operation.usage
    if not plan.edits_body:
        return CountedStream(StreamUsage(limit, form, kind), decoder, copy)
    return EditedStream(plan, StreamEditor(plan.model, plan.strip_usage, limit, form, kind), decoder, copy)


class WholeAnswer:
    """A JSON answer, read and edited when it is complete."""

    events: ClassVar[bool] = False
    __slots__ = (
        "_encoding",
        "_held",
        "_limit",
        "_pieces",
        "_plan",
        "_streamed",
        "completion_bytes",
        "denied",
        "kept",
        "usage",
    )

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
        self.kept: bytes | None = None

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
        self.completion_bytes = len(body) if self.usage is not None else len(body) - media_bytes(body)
        self.kept = body if len(body) <= self._plan.keep else None
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
        answer = guard_answer(body, plan.open_filter, refusal=plan.refusal, dialect=plan.operation.dialect)
        if plan.watch_only:
            return body
        self.denied = answer.denied
        return answer.body

    def _length(self, body: bytes) -> HeaderList:
        return () if self._streamed else (("content-length", b"%d" % len(body)),)
