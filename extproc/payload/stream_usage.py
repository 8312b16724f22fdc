"""Usage out of a streamed answer that passes through unedited.

A chunk that cannot hold usage costs a few substring searches; only what states it is parsed.
"""

import base64
import binascii
import re
from enum import Enum, auto

from extproc.payload.operations.operation import UsageForm
from extproc.payload.sse import Fragment, SSESplitter, event_data, split_frames
from extproc.payload.usage import Stated, Usage, merge, stated_in

MAX_JSON = 8 << 20
"""Default limit in bytes for a JSON answer to a streaming request, which has to be held to be read."""

USAGE_STATED = re.compile(rb'"usage"(?![ \t\n\r]*:[ \t\n\r]*null)')
"""OpenAI writes `"usage":null` into every event but the last."""

_BLANK_LINES = (b"\n\n", b"\n\r\n")
_LONGEST_DONE = 16  # bytes of `data: [DONE]` and the blank line
_PRELUDE, _CHECKSUM = 12, 4
_MOST_BLANKS = 1024  # bytes of leading white space after which an answer is taken for an event stream
_EVENT_START = re.compile(rb"(?:\xef\xbb\xbf)?(?:data|event|id|retry)?:")
_LONG_EVENT = 2048
"""Bytes; chunks whose events are longer than that on the average may hold media."""
_MEDIA = re.compile(rb"[A-Za-z0-9+/_=-]{1024,}")


class AnswerKind(Enum):
    """What an answer is made of."""

    UNDECIDED = auto()
    EVENTS = auto()
    """Server-sent events."""
    JSON = auto()
    """One value, an array of answers included."""
    LINES = auto()
    """A JSON value on each line, as Ollama streams."""
    FRAMES = auto()
    """Amazon's binary event stream."""


_KINDS_BY_TYPE = {
    b"text/event-stream": AnswerKind.EVENTS,
    b"application/x-ndjson": AnswerKind.LINES,
    b"application/ndjson": AnswerKind.LINES,
    b"application/jsonl": AnswerKind.LINES,
    b"application/x-jsonlines": AnswerKind.LINES,
    b"application/stream+json": AnswerKind.LINES,
    b"application/vnd.amazon.eventstream": AnswerKind.FRAMES,
}


def kind_of_type(content_type: bytes) -> AnswerKind:
    """The kind that a content type promises; of the rest, the first bytes tell."""
    return _KINDS_BY_TYPE.get(content_type.partition(b";")[0].strip(), AnswerKind.UNDECIDED)


def kind_of(head: bytes) -> AnswerKind:
    """The kind of an answer that starts with `head`."""
    first = head.lstrip()[:1]
    if first:
        return AnswerKind.JSON if first in (b"{", b"[") else AnswerKind.EVENTS
    return AnswerKind.UNDECIDED if len(head) <= _MOST_BLANKS else AnswerKind.EVENTS


def begins_events(head: bytes) -> bool:
    """Whether these bytes are the beginning of server-sent events, and of nothing else that is known."""
    return _EVENT_START.match(head.lstrip()) is not None


def media_bytes(text: bytes) -> int:
    """Bytes of images, audio and vectors in base64, which say nothing about tokens."""
    return sum(found.end() - found.start() for found in _MEDIA.finditer(text))


class StreamUsage:
    """Fed with the chunks of one answer, uncompressed, cut anywhere.

    `usage` is there as soon as it was seen. `completion_bytes` is all bytes of the answer, framing included and media
    not: with `events` a base for estimates where no usage is stated. An event, line or JSON answer over `max_json` is
    not looked at.
    """

    __slots__ = (
        "_aligned",
        "_data_lines",
        "_held",
        "_kind",
        "_last",
        "_marker",
        "_max_json",
        "_pattern",
        "_rest",
        "_size",
        "_splitter",
        "_stated",
        "completion_bytes",
    )

    def __init__(
        self,
        max_json: int = MAX_JSON,
        form: UsageForm = UsageForm.USAGE,
        kind: AnswerKind = AnswerKind.UNDECIDED,
    ) -> None:
        """`kind` where the content type tells it: JSON lines look like JSON at first."""
        self.completion_bytes = 0
        self._stated: Stated | None = None
        self._aligned = False  # an event stream, and at a frame border
        self._data_lines = 0
        self._held: list[bytes] | None = []  # until the kind is known, and of a JSON answer; None once given up
        told = kind is AnswerKind.LINES or kind is AnswerKind.FRAMES
        self._kind: AnswerKind = kind if told else AnswerKind.UNDECIDED
        self._last = b""  # the latest complete frames
        self._marker = form.value or UsageForm.USAGE.value
        self._pattern = USAGE_STATED if form is UsageForm.USAGE else re.compile(re.escape(self._marker))
        self._size = 0
        self._max_json = max_json
        self._rest = bytearray()  # of a line or binary frame
        self._splitter = SSESplitter(max_json)

    def __repr__(self) -> str:
        return f"StreamUsage({self.usage!r}, events={self.events}, bytes={self.completion_bytes})"

    @property
    def usage(self) -> Usage | None:
        return None if self._stated is None else self._stated.usage()

    @property
    def kind(self) -> AnswerKind:
        return self._kind

    @property
    def events(self) -> int:
        """Data lines in complete frames so far, without the closing `[DONE]`; a JSON answer has none."""
        return self._data_lines - (b"[DONE]" in self._last[-_LONGEST_DONE:])

    def feed(self, chunk: bytes) -> None:
        """Look at the next chunk."""
        size = len(chunk)
        self._size += size
        self.completion_bytes += size
        if size > _LONG_EVENT and chunk.count(b"\n") * (_LONG_EVENT // 2) < size:
            self.completion_bytes -= media_bytes(chunk)
        if self._aligned and chunk.endswith(_BLANK_LINES):
            self._last = chunk
            # A data line is counted by its line start. JSON holds no bare line feed, so content cannot fake one.
            self._data_lines += chunk.count(b"\ndata:") + chunk.startswith(b"data:")
            if self._marker in chunk and self._pattern.search(chunk):
                self._look(chunk)
        elif self._kind is AnswerKind.EVENTS:
            self._feed_events(chunk)
        elif self._kind is AnswerKind.LINES:
            self._feed_lines(chunk)
        elif self._kind is AnswerKind.FRAMES:
            self._feed_binary(chunk)
        else:
            self._feed_head(chunk)

    def finish(self) -> None:
        """The answer has ended, complete or not."""
        if self._kind is AnswerKind.EVENTS:
            rest = self._splitter.flush()
            if rest and type(rest) is not Fragment:
                self._complete([rest])
        elif self._kind is AnswerKind.LINES:
            self._feed_lines(b"\n")
        elif self._held:
            self._add_data(b"".join(self._held))
        self._held = None
        self._rest.clear()
        self._aligned = False

    def _feed_head(self, chunk: bytes) -> None:
        held = self._held
        if held is None:
            return
        held.append(chunk)
        if self._kind is AnswerKind.UNDECIDED:
            head = b"".join(held)
            self._kind = kind_of(head)
            if self._kind is AnswerKind.EVENTS:
                self._held = None
                self._feed_events(head)
        elif self._size > self._max_json:
            self._held = None

    def _feed_events(self, chunk: bytes) -> None:
        frames = self._splitter.feed(chunk)
        self._aligned = self._splitter.idle
        self._complete([frame for frame in frames if type(frame) is not Fragment])

    def _complete(self, frames: list[bytes]) -> None:
        for frame in frames:
            self._last = frame
            self._data_lines += frame.count(b"\ndata:") + frame.startswith(b"data:")
            if self._marker in frame and self._pattern.search(frame):
                self._add(frame)

    def _look(self, frames: bytes) -> None:
        for frame in split_frames(frames)[0]:
            if self._pattern.search(frame):
                self._add(frame)

    def _add(self, frame: bytes) -> None:
        data = event_data(frame)
        if data is not None:
            self._add_data(data)

    def _add_data(self, data: bytes) -> None:
        self._stated = merge(self._stated, stated_in(data))

    def _feed_lines(self, chunk: bytes) -> None:
        lines = chunk.split(b"\n")
        rest = self._rest
        rest += lines[0]
        for line in lines[1:]:
            if self._marker in rest and len(rest) <= self._max_json:
                self._add_data(bytes(rest))
            self._data_lines += bool(rest)
            rest[:] = line
        if len(rest) > self._max_json:
            del rest[: -len(self._marker)]  # too long to be looked at: neither is what follows of it

    def _feed_binary(self, chunk: bytes) -> None:
        """Frames as `application/vnd.amazon.eventstream` has them: the length of all, that of the headers, a checksum,
        headers, payload, a checksum."""
        rest = self._rest
        rest += chunk
        while len(rest) >= _PRELUDE:
            size, head = int.from_bytes(rest[:4], "big"), int.from_bytes(rest[4:8], "big")
            if not _PRELUDE + head + _CHECKSUM <= size <= self._max_json:
                self._kind, self._held = AnswerKind.JSON, None  # no such stream: nothing is read of the rest
                rest.clear()
                return
            if len(rest) < size:
                return
            payload = bytes(rest[_PRELUDE + head : size - _CHECKSUM])
            del rest[:size]
            self._data_lines += 1
            self._add_payload(payload)

    def _add_payload(self, payload: bytes) -> None:
        if payload.startswith(b'{"bytes":"') and (end := payload.find(b'"', 10)) > 0:
            try:
                payload = base64.b64decode(payload[10:end], validate=True)
            except binascii.Error:
                return
        self._add_data(payload)
