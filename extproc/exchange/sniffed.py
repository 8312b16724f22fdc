"""Answers whose content type does not tell what they are: their first bytes do."""

from __future__ import annotations

import msgspec

from extproc.exchange.bodies import ResponseBody, WholeAnswer, stream_of
from extproc.exchange.values import UNCHANGED, BodyReply, ResponsePlan
from extproc.payload.encodings import StreamDecoder
from extproc.payload.errors import PayloadError
from extproc.payload.operations.operation import UsageForm
from extproc.payload.stream_usage import AnswerKind, begins_events
from extproc.payload.usage import Usage

_EMPTY = BodyReply(body=b"")
_ENOUGH = 8
"""Bytes that tell the name of an event's first field."""
_MOST_BLANKS = 1024


class Sniffed:
    """Holds an answer back until it shows whether it is a stream, and then leaves it to what handles that kind."""

    __slots__ = ("_body", "_encoding", "_held", "_limit", "_otherwise", "_plan", "_streamed")

    def __init__(
        self, plan: ResponsePlan, encoding: str, limit: int, *, streamed: bool, otherwise: ResponseBody | None = None
    ) -> None:
        """`streamed`: the body comes in pieces. `otherwise` handles what is neither events nor JSON; None: that counts
        as JSON. Raises PayloadError for an encoding that cannot be read."""
        if encoding:
            StreamDecoder(encoding, limit)
        self._plan = plan
        self._encoding = encoding
        self._limit = limit
        self._streamed = streamed
        self._otherwise = otherwise
        self._held = b""
        self._body: ResponseBody | None = None

    @property
    def events(self) -> bool:
        return self._body is not None and self._body.events

    @property
    def usage(self) -> Usage | None:
        return None if self._body is None else self._body.usage

    @property
    def completion_bytes(self) -> int:
        return len(self._held) if self._body is None else self._body.completion_bytes

    @property
    def denied(self) -> bool:
        return self._body is not None and self._body.denied

    @property
    def kept(self) -> bytes | None:
        return None if self._body is None else self._body.kept

    def abandon(self) -> None:
        if self._body is not None:
            self._body.abandon()

    def feed(self, chunk: bytes, *, end: bool) -> BodyReply:
        if self._body is not None:
            return self._body.feed(chunk, end=end)
        held = self._held = self._held + chunk if self._held else chunk
        kind = self._kind(held, end=end)
        if kind is AnswerKind.UNDECIDED:
            return _EMPTY if self._plan.edits_body else UNCHANGED
        self._body = self._opened(kind)
        reply = self._body.feed(held, end=end)
        if reply.body is None and not reply.broken and self._plan.edits_body and len(held) != len(chunk):
            reply = msgspec.structs.replace(reply, body=held)
        if kind is AnswerKind.EVENTS and not self._streamed and reply.body is not None:
            reply = msgspec.structs.replace(reply, set_headers=(("content-length", b"%d" % len(reply.body)),))
        self._held = b""
        return reply

    def _opened(self, kind: AnswerKind) -> ResponseBody:
        if kind is AnswerKind.JSON:
            return WholeAnswer(self._plan, self._encoding, self._limit, streamed=self._streamed)
        if kind is AnswerKind.FRAMES and self._otherwise is not None:
            return self._otherwise
        return stream_of(self._plan, self._encoding, self._limit, kind)

    def _kind(self, held: bytes, *, end: bool) -> AnswerKind:
        """FRAMES stands for what is none of the others."""
        try:
            head = StreamDecoder(self._encoding, self._limit).feed(held) if self._encoding else held
        except PayloadError:
            return AnswerKind.JSON
        head = head.lstrip()
        if head[:1] in (b"{", b"["):
            lines = self._plan.operation.usage is UsageForm.OLLAMA and self._plan.stream
            return AnswerKind.LINES if lines else AnswerKind.JSON
        if not end and len(head) < _ENOUGH and len(held) < _MOST_BLANKS:
            return AnswerKind.UNDECIDED
        if begins_events(head):
            return AnswerKind.EVENTS
        return AnswerKind.JSON if self._otherwise is None else AnswerKind.FRAMES


class Passing:
    """An answer of a kind that nobody here looks into."""

    events = False
    usage: Usage | None = None
    completion_bytes = 0
    denied = False
    kept: bytes | None = None

    def feed(self, chunk: bytes, *, end: bool) -> BodyReply:
        return UNCHANGED

    def abandon(self) -> None:
        """Nothing was counted."""
