"""Usage out of a streamed answer that passes through unedited.

A chunk that cannot hold usage costs a few substring searches; only a frame whose `"usage"` is not null is parsed.
"""

import re
from enum import Enum, auto

from extproc.payload.sse import Fragment, SSESplitter, event_data, split_frames
from extproc.payload.usage import Usage, merge, usage_from_json

MAX_JSON = 8 << 20
"""Default limit in bytes for a JSON answer to a streaming request, which has to be held to be read."""

USAGE_STATED = re.compile(rb'"usage"(?![ \t\n\r]*:[ \t\n\r]*null)')
"""OpenAI writes `"usage":null` into every event but the last."""

_BLANK_LINES = (b"\n\n", b"\n\r\n")
_LONGEST_DONE = 16  # bytes of `data: [DONE]` and the blank line
_MOST_BLANKS = 1024  # bytes of leading white space after which an answer is taken for an event stream


class AnswerKind(Enum):
    """What the first byte of an answer that is no white space tells about it."""

    UNDECIDED = auto()
    EVENTS = auto()
    JSON = auto()


def kind_of(head: bytes) -> AnswerKind:
    """The kind of an answer that starts with `head`."""
    first = head.lstrip()[:1]
    if first:
        return AnswerKind.JSON if first == b"{" else AnswerKind.EVENTS
    return AnswerKind.UNDECIDED if len(head) <= _MOST_BLANKS else AnswerKind.EVENTS


class StreamUsage:
    """Fed with the chunks of one answer, uncompressed, cut anywhere.

    `usage` is there as soon as it was seen. `completion_bytes` is all bytes of the answer, framing included: with
    `events` a base for estimates where no usage is stated. A frame over the splitter's limit and a JSON answer over
    `max_json` are not looked at.
    """

    __slots__ = (
        "_aligned",
        "_data_lines",
        "_held",
        "_kind",
        "_last",
        "_max_json",
        "_splitter",
        "completion_bytes",
        "usage",
    )

    def __init__(self, max_json: int = MAX_JSON) -> None:
        self.completion_bytes = 0
        self.usage: Usage | None = None
        self._aligned = False  # an event stream, and at a frame border
        self._data_lines = 0
        self._held: list[bytes] | None = []  # until the kind is known, and of a JSON answer; None once given up
        self._kind = AnswerKind.UNDECIDED
        self._last = b""  # the latest complete frames
        self._max_json = max_json
        self._splitter = SSESplitter()

    def __repr__(self) -> str:
        return f"StreamUsage({self.usage!r}, events={self.events}, bytes={self.completion_bytes})"

    @property
    def kind(self) -> AnswerKind:
        return self._kind

    @property
    def events(self) -> int:
        """Data lines in complete frames so far, without the closing `[DONE]`; a JSON answer has none."""
        return self._data_lines - (b"[DONE]" in self._last[-_LONGEST_DONE:])

    def feed(self, chunk: bytes) -> None:
        """Look at the next chunk."""
        self.completion_bytes += len(chunk)
        if self._aligned and chunk.endswith(_BLANK_LINES):
            self._last = chunk
            # A data line is counted by its line start. JSON holds no bare line feed, so content cannot fake one.
            self._data_lines += chunk.count(b"\ndata:") + chunk.startswith(b"data:")
            if b'"usage"' in chunk and USAGE_STATED.search(chunk):
                self._look(chunk)
        elif self._kind is AnswerKind.EVENTS:
            self._feed_events(chunk)
        else:
            self._feed_head(chunk)

    def finish(self) -> None:
        """The answer has ended, complete or not."""
        if self._kind is AnswerKind.EVENTS:
            rest = self._splitter.flush()
            if rest and type(rest) is not Fragment:
                self._complete([rest])
        elif self._held:
            self.usage = merge(self.usage, usage_from_json(b"".join(self._held)))
        self._held = None
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
        elif self.completion_bytes > self._max_json:
            self._held = None

    def _feed_events(self, chunk: bytes) -> None:
        frames = self._splitter.feed(chunk)
        self._aligned = self._splitter.idle
        self._complete([frame for frame in frames if type(frame) is not Fragment])

    def _complete(self, frames: list[bytes]) -> None:
        for frame in frames:
            self._last = frame
            self._data_lines += frame.count(b"\ndata:") + frame.startswith(b"data:")
            if b'"usage"' in frame and USAGE_STATED.search(frame):
                self._add(frame)

    def _look(self, frames: bytes) -> None:
        for frame in split_frames(frames)[0]:
            if USAGE_STATED.search(frame):
                self._add(frame)

    def _add(self, frame: bytes) -> None:
        data = event_data(frame)
        if data is not None:
            self.usage = merge(self.usage, usage_from_json(data))
