"""The sending half of a connection: frames under flow control."""

from __future__ import annotations

from collections import deque
from struct import Struct

from extproc.wire.http2 import frames, headers
from extproc.wire.http2.frames import (
    DEFAULT_WINDOW,
    END_HEADERS,
    END_STREAM,
    FRAME_SIZE,
    LARGEST_WINDOW,
    Code,
    ConnectionFault,
    Kind,
    StreamFault,
)
from extproc.wire.http2.messages import PREFIX
from extproc.wire.http2.states import (
    HEARD,
    HEARD_ANSWERING,
    OPEN,
    SEND_DATA,
    SEND_HEADERS,
    SEND_RESET,
    SEND_TRAILERS,
    LocalFault,
    advance,
)
from extproc.wire.http2.stream import Stream

_SILENT = (OPEN, HEARD)
_DATA_FRAME, _HEADERS_FRAME, _NO_ERROR = Kind.DATA, Kind.HEADERS, Code.NO_ERROR
_HEARD = (HEARD, HEARD_ANSWERING)
_pack_message = Struct(">BHBBIBI").pack
"""Head of a DATA frame and prefix of the message that it begins with."""
_pack_prefix = Struct(">BI").pack


class Outbound:
    """Collects bytes in `out`, which the driver takes. Large messages stay where they are until they are written."""

    def __init__(self, unsent: int) -> None:
        """`unsent`: about how many bytes of large messages are collected at a time."""
        self._unsent = self._room = unsent
        self.out: list[bytes | memoryview] = []
        self.bulky = False
        """Whether there are pieces in `out` that are too long to be copied once more."""
        self.window = DEFAULT_WINDOW
        self.initial_window = DEFAULT_WINDOW
        self.table_notice = b""
        self.streams: dict[int, Stream] = {}
        """Those that are open, by number."""
        self._held = 0
        """Bytes of messages that are unread or incomplete, on all streams."""
        self.paused = False
        """Whether the transport has more than enough to write."""
        self._blocked: dict[Stream, None] = {}
        """Streams with something in the outbox, in the order of their turns."""
        self.drained: list[Stream] = []
        """Streams whose outbox has become empty, for the driver, which takes them out."""

    def message(self, stream: Stream, data: bytes) -> None:
        """One gRPC message. Raises LocalFault where the stream takes none."""
        if stream.ending is not None:
            raise LocalFault("a message after the end of the answer")
        state = stream.state
        if state in _SILENT:
            state = advance(state, SEND_HEADERS)
            self._send_headers(stream, headers.OPENING, 0)
        stream.state = advance(state, SEND_DATA)
        size = len(data) + PREFIX
        if (
            size <= FRAME_SIZE
            and size <= stream.send_window
            and size <= self.window
            and not stream.outbox
            and not self.paused
        ):
            stream.send_window -= size
            self.window -= size
            self.out.append(_pack_message(0, size, _DATA_FRAME, 0, stream.number, 0, len(data)))
            self.out.append(data)
            return
        if stream.outbox is None:
            stream.outbox = deque()
        first = FRAME_SIZE - PREFIX
        stream.outbox.append(memoryview(_pack_prefix(0, len(data)) + data[:first]))
        if len(data) > first:
            stream.outbox.append(memoryview(data)[first:])
        self._blocked[stream] = None
        self.pump()

    def end(self, stream: Stream, status: int, message: str = "") -> bool:
        """The trailers, after what is in the outbox; gives whether they are out. Raises LocalFault on a second end."""
        if stream.ending is not None:
            raise LocalFault("a second end of the answer")
        if stream.outbox:
            stream.ending = headers.trailers(status, message)
            return False
        only = stream.state in _SILENT
        self._finish(stream, headers.only_trailers(status, message) if only else headers.trailers(status, message))
        return True

    def refuse(self, stream: Stream, http_status: int) -> None:
        """Answers what is no gRPC."""
        self._finish(stream, headers.refusal(http_status))

    def reset(self, stream: Stream, code: Code) -> None:
        """Ends a stream without an answer."""
        stream.state = advance(stream.state, SEND_RESET)
        self.out.append(frames.reset(stream.number, code))
        self._forget(stream)

    def pump(self) -> None:
        """Sends from the outboxes what the windows allow, one frame of each stream in turn."""
        stuck: list[Stream] = []
        blocked = self._blocked
        while blocked and self.window > 0 and self._room > 0 and not self.paused:
            stream = next(iter(blocked))
            del blocked[stream]
            if not stream.outbox:
                continue
            if stream.send_window <= 0:
                stuck.append(stream)
                continue
            self._frame(stream, stream.outbox)
            if stream.outbox:
                blocked[stream] = None
            else:
                self.drained.append(stream)
                if stream.ending is not None:
                    self._finish(stream, stream.ending)
        for stream in stuck:
            blocked[stream] = None

    def open_stream(self, stream: Stream, increment: int) -> None:
        """Raises StreamFault where the window overflows."""
        if increment == 0:
            raise StreamFault(Code.PROTOCOL_ERROR, "a window update of nothing")
        if stream.send_window + increment > LARGEST_WINDOW:
            raise StreamFault(Code.FLOW_CONTROL_ERROR, "the window of a stream overflows")
        stream.send_window += increment

    def open_connection(self, increment: int) -> None:
        if increment == 0:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a window update of nothing")
        if self.window + increment > LARGEST_WINDOW:
            raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "the window of the connection overflows")
        self.window += increment

    def take(self) -> list[bytes | memoryview]:
        """What is to be written. There may be more after `pump`."""
        out, self.out, self.bulky, self._room = self.out, [], False, self._unsent
        return out

    def _frame(self, stream: Stream, outbox: deque[memoryview]) -> None:
        self.bulky = True
        piece = outbox[0]
        size = min(len(piece), FRAME_SIZE, stream.send_window, self.window)
        self._room -= size
        stream.send_window -= size
        self.window -= size
        self.out.append(frames.head(_DATA_FRAME, 0, stream.number, size))
        if size == len(piece):
            self.out.append(outbox.popleft())
        else:
            self.out.append(piece[:size])
            outbox[0] = piece[size:]

    def _finish(self, stream: Stream, block: bytes) -> None:
        heard = stream.state in _HEARD
        stream.state = advance(stream.state, SEND_TRAILERS)
        self._send_headers(stream, block, END_STREAM)
        if not heard:  # the peer need not say the rest
            self.out.append(frames.reset(stream.number, _NO_ERROR))
        self._forget(stream)

    def _forget(self, stream: Stream) -> None:
        """The stream is over; what it still had to send goes with it."""
        self.streams.pop(stream.number, None)
        self._blocked.pop(stream, None)
        self._held -= stream.held
        stream.outbox = None
        self.closed()

    def closed(self) -> None:
        """A stream is over, for whoever wants to know."""

    def _send_headers(self, stream: Stream, block: bytes, flags: int) -> None:
        if self.table_notice:
            block, self.table_notice = self.table_notice + block, b""
        self.out.append(frames.frame(_HEADERS_FRAME, END_HEADERS | flags, stream.number, block))
