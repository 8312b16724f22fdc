"""A server's end of one HTTP/2 connection, without I/O: bytes and times in, events and bytes out."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from extproc.wire.http2 import frames
from extproc.wire.http2.control import Control, unpadded
from extproc.wire.http2.frames import (
    END_HEADERS,
    END_STREAM,
    FRAME_SIZE,
    HEAD_SIZE,
    PADDED,
    PREFACE,
    PRIORITIZED,
    Code,
    ConnectionFault,
    Kind,
    StreamFault,
    unpack_head,
    unpack_word,
)
from extproc.wire.http2.greeting import Stranger, greeted
from extproc.wire.http2.headers import BlockDecoder, RequestHeaders
from extproc.wire.http2.limits import Limits
from extproc.wire.http2.messages import INTERNAL, PREFIX, RESOURCE_EXHAUSTED, Assembler, MessageFault
from extproc.wire.http2.states import ANSWERING, CLOSED, DATA, END, HEARD, OPEN, RESET, advance
from extproc.wire.http2.stream import Ended, Event, Lost, Message, Opened, Stream

_PRIORITY_SIZE = 5
_CONTINUATION = Kind.CONTINUATION


class _Block:
    """A header block of which CONTINUATION frames are still to come."""

    __slots__ = ("count", "flags", "number", "pieces", "size")

    def __init__(self, number: int, flags: int, piece: bytes) -> None:
        self.number, self.flags = number, flags
        self.pieces, self.size, self.count = [piece], len(piece), 0


class Connection(Control):
    """What the peer sends becomes events; what is to be sent collects in `out`.

    Once `over` is true, the bytes that are left have to be sent and the transport closed. `fault` says what the peer
    did, for the log; it is empty where nobody did anything wrong.
    """

    def __init__(self, limits: Limits, now: float) -> None:
        super().__init__(limits, now)
        self._decode = BlockDecoder(limits.header_list)
        self._rest = b""
        self._greeted = False
        self._block: _Block | None = None

    def receive(self, data: bytes, now: float) -> list[Event]:
        """What `data` says, whichever way it was split. Never raises, whatever the peer sends."""
        self._now = now
        events: list[Event] = []
        if self.over:
            return events
        if self._rest:
            data = self._rest + data
        try:
            self._rest = self._frames(data, events)
        except ConnectionFault as fault:
            self.fail(fault.code, str(fault))
        except Stranger as stranger:
            self.fault, self.over = str(stranger), True
            self.out = [stranger.goodbye]
        return events

    def keep(self, stream: Stream, size: int) -> bool:
        """A message of so many bytes stays unread for now. False if this peer's are too many; the stream must end."""
        if stream.state is CLOSED:
            return True
        stream.unread += size
        self._held += size
        return self._held <= self._limits.held

    def release(self, stream: Stream, size: int) -> None:
        """It has been read."""
        if stream.state is CLOSED:
            return
        stream.unread -= size
        self._held -= size
        self._open_window(stream)

    def _frames(self, data: bytes, events: list[Event]) -> bytes:
        """Takes in whole frames; gives what is left."""
        at, end = 0, len(data)
        if not self._greeted:
            if not greeted(data):
                return data
            self._greeted, at = True, len(PREFACE)
        handlers = self._STREAM_FRAMES
        while end - at >= HEAD_SIZE:
            high, low, kind, flags, number = unpack_head(data, at)
            size = high << 16 | low
            if size > FRAME_SIZE:
                raise ConnectionFault(Code.FRAME_SIZE_ERROR, f"a frame of {size} bytes")
            begin = at + HEAD_SIZE
            if begin + size > end:
                break
            at = begin + size
            if (self._block is not None and kind != _CONTINUATION) or not self._settled:
                self._expect(kind)
            number &= frames.LARGEST_WINDOW
            handler = handlers.get(kind)
            try:
                if handler is None:
                    self.control(kind, flags, number, data[begin:at])
                else:
                    handler(self, flags, number, data, begin, at, events)
            except StreamFault as fault:
                self._break(number, fault.code, events)
        return data[at:] if at else data

    def _expect(self, kind: int) -> None:
        if self._block is not None and kind != _CONTINUATION:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a header block is not continued")
        if not self._settled and kind != Kind.SETTINGS:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "the first frame is not SETTINGS")

    def _data(self, flags: int, number: int, data: bytes, begin: int, end: int, events: list[Event]) -> None:
        size = end - begin
        self._receive_window -= size
        if self._receive_window < self._limits.connection_window >> 1:
            self._open_connection_window()
        stream = self.streams.get(number)
        if stream is None:
            self._stray(number)
            return
        stream.receive_window -= size
        if stream.receive_window < 0:
            raise StreamFault(Code.FLOW_CONTROL_ERROR, "more than the window of the stream")
        stream.state = advance(stream.state, DATA)
        if flags & PADDED:
            begin, end = unpadded(data, begin, end)
        whole = begin + PREFIX
        if (
            whole <= end
            and stream.assembler is None
            and unpack_word(data, begin + 1)[0] == end - whole
            and not data[begin]
        ):
            events.append(Message(stream, data[whole:end]))  # nearly all frames are one message
        elif end > begin:
            self._assemble(stream, data[begin:end], events)
        elif not flags & END_STREAM:
            self.spend("empty")
        if flags & END_STREAM:
            self._end(stream, events)
        elif stream.receive_window < self._limits.stream_window >> 1:
            self._open_window(stream)

    def _assemble(self, stream: Stream, piece: bytes, events: list[Event]) -> None:
        assembler = stream.assembler
        if assembler is None:
            assembler = stream.assembler = Assembler(self._limits.message)
        self._held -= assembler.size
        try:
            messages = assembler.add(piece)
            if self._held + assembler.size > self._limits.held:
                raise MessageFault(RESOURCE_EXHAUSTED, "this connection has too many bytes in flight")
        except MessageFault as fault:
            self._held += assembler.size
            self._end_faulty(stream, fault, events)
            return
        self._held += assembler.size
        if assembler.complete:
            stream.assembler = None
        events += [Message(stream, message) for message in messages]

    def _end(self, stream: Stream, events: list[Event]) -> None:
        if stream.state is CLOSED:
            return
        stream.state = advance(stream.state, END)
        if stream.assembler is not None:
            self._end_faulty(stream, MessageFault(INTERNAL, "the last message is incomplete"), events)
        else:
            events.append(Ended(stream))

    def _headers(self, flags: int, number: int, data: bytes, begin: int, end: int, events: list[Event]) -> None:
        if not number & 1:
            raise ConnectionFault(Code.PROTOCOL_ERROR, f"headers on stream {number}")
        if flags & PADDED:
            begin, end = unpadded(data, begin, end)
        if flags & PRIORITIZED:
            begin += _PRIORITY_SIZE
            if begin > end:
                raise ConnectionFault(Code.FRAME_SIZE_ERROR, "headers shorter than their priority")
        if flags & END_HEADERS:
            self._block_complete(flags, number, data[begin:end], events)
        else:
            self._block, self._block_began = _Block(number, flags, data[begin:end]), self._now

    def _continuation(self, flags: int, number: int, data: bytes, begin: int, end: int, events: list[Event]) -> None:
        block = self._block
        if block is None or block.number != number:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a continuation of nothing")
        block.pieces.append(data[begin:end])
        block.size += end - begin
        block.count += 1
        if block.size > self._limits.header_list or block.count > self._limits.continuations:
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, "a header block in too many pieces")
        if flags & END_HEADERS:
            self._block = self._block_began = None
            self._block_complete(block.flags, number, b"".join(block.pieces), events)

    def _block_complete(self, flags: int, number: int, encoded: bytes, events: list[Event]) -> None:
        headers = self._decode(encoded)  # also where nobody wants it: the table must follow
        stream = self.streams.get(number)
        if stream is not None:
            if not flags & END_STREAM:
                raise StreamFault(Code.PROTOCOL_ERROR, "headers in the middle of a request")
            self._end(stream, events)
        elif number <= self._last_stream:
            self._stray(number)
        else:
            self._open(flags, number, headers, events)

    def _open(self, flags: int, number: int, headers: RequestHeaders, events: list[Event]) -> None:
        self._last_stream = number
        if len(self.streams) >= self._limits.streams or number > self._last_taken:
            self.spend("strays")
            raise StreamFault(Code.REFUSED_STREAM, "too many streams")
        if headers.malformed:
            self.spend("strays")
            raise StreamFault(Code.PROTOCOL_ERROR, headers.malformed)
        window, initial = self._limits.stream_window, self.initial_window
        stream = Stream(number, OPEN, send_window=initial, receive_window=window)
        ends = flags & END_STREAM
        if ends:
            stream.state = advance(OPEN, END)
        if headers.method != b"POST" or not headers.content_type.startswith(b"application/grpc"):
            self.spend("strays")
            self.refuse(stream, 405 if headers.method != b"POST" else 415)
            return
        self.streams[number] = stream
        events.append(Opened(stream, headers.path, headers.metadata))
        if ends:
            events.append(Ended(stream))

    def _reset(self, _flags: int, number: int, data: bytes, begin: int, end: int, events: list[Event]) -> None:
        if end - begin != 4:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "a reset of an odd size")
        stream = self.streams.get(number)
        if stream is None:
            self._stray(number)
            return
        if stream.state in (OPEN, HEARD):
            self.spend("early_resets")
        stream.state = advance(stream.state, RESET)
        self._forget(stream)
        events.append(Lost(stream))

    def _break(self, number: int, code: Code, events: list[Event]) -> None:
        """Resets a stream for what its peer did."""
        stream = self.streams.get(number)
        if stream is None:
            self.out.append(frames.reset(number, code))
        else:
            self.reset(stream, code)
            events.append(Lost(stream))

    def _end_faulty(self, stream: Stream, fault: MessageFault, events: list[Event]) -> None:
        """Ends a stream with a gRPC status, where half an answer is not on its way already."""
        if stream.outbox:
            self.reset(stream, Code.INTERNAL_ERROR)
        else:
            self.end(stream, fault.status, str(fault))
        events.append(Lost(stream))

    def _open_window(self, stream: Stream) -> None:
        """Lets the peer go on with a stream of which nothing lies unread."""
        whole = self._limits.stream_window
        if stream.unread == 0 and stream.receive_window < whole >> 1 and stream.state in (OPEN, ANSWERING):
            self.out.append(frames.window_update(stream.number, whole - stream.receive_window))
            stream.receive_window = whole

    _STREAM_FRAMES: ClassVar[dict[int, Callable[[Connection, int, int, bytes, int, int, list[Event]], None]]] = {
        Kind.DATA: _data,
        Kind.HEADERS: _headers,
        Kind.RST_STREAM: _reset,
        Kind.CONTINUATION: _continuation,
    }
