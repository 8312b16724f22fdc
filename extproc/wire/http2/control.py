"""What concerns a connection as a whole: its settings, pings, limits, timeouts and end."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal

from extproc.wire.http2 import frames
from extproc.wire.http2.frames import (
    ACK,
    DEFAULT_TABLE_SIZE,
    LARGEST_WINDOW,
    Code,
    ConnectionFault,
    Kind,
    Setting,
    StreamFault,
    unpack_word,
)
from extproc.wire.http2.headers import FORGET_TABLE
from extproc.wire.http2.limits import Allowance, Limits
from extproc.wire.http2.outbound import Outbound

Spendable = Literal["early_resets", "pings", "settings", "empty", "strays"]
_DRAINING, _ALIVE = b"draining", b"alive ? "
"""What pings of this side carry, each 8 bytes."""
_WORD, _PING_SIZE, _PRIORITY_SIZE = 4, 8, 5


class Control(Outbound):
    """Everything but streams. `over` says that the bytes in `out` are the last."""

    def __init__(self, limits: Limits, now: float) -> None:
        super().__init__(limits.unsent)
        self._limits = limits
        self._allowances = {
            "early_resets": Allowance(limits.early_resets, now),
            "pings": Allowance(limits.pings, now),
            "settings": Allowance(limits.settings, now),
            "empty": Allowance(limits.empty, now),
            "strays": Allowance(limits.strays, now),
        }
        self.over = False
        self.fault = ""
        self.shutting = False
        self._now = now
        """When something was heard of the peer."""
        self._began = now
        self._block_began: float | None = None
        """Since when a header block has been incomplete."""
        self._asked: float | None = None
        """When a ping was sent that has not been answered."""
        self._settled = False
        """Whether the peer's first settings have come."""
        self._empty_since: float | None = None
        """Since when a connection that is to go has had no streams."""
        self._last_stream = 0
        self._last_taken = LARGEST_WINDOW
        """Streams above it are refused."""
        self._receive_window = limits.connection_window
        own = {
            Setting.MAX_CONCURRENT_STREAMS: limits.streams,
            Setting.INITIAL_WINDOW_SIZE: limits.stream_window,
            Setting.MAX_HEADER_LIST_SIZE: limits.header_list,
        }
        self.out.append(frames.settings(own))
        self.out.append(frames.window_update(0, limits.connection_window - frames.DEFAULT_WINDOW))

    def tick(self, now: float) -> None:
        """Called every few seconds, for what has to end because nothing happens."""
        limits = self._limits
        if self.over:
            return
        if not self._settled and now - self._began > limits.handshake_timeout:
            self.fail(Code.SETTINGS_TIMEOUT, "no HTTP/2 greeting in time")
        elif self._empty_since is not None and now - self._empty_since > limits.linger:
            self.over = True
        elif self._block_began is not None and now - self._block_began > limits.handshake_timeout:
            self.fail(Code.ENHANCE_YOUR_CALM, "a header block takes too long")
        elif self._asked is not None:
            if now - self._asked > limits.keepalive_timeout:
                self.fail(Code.NO_ERROR, "the peer is silent")
        elif self.streams and now - self._now > limits.keepalive:
            self._ask(_ALIVE, now)
        elif not self.streams and now - self._now > limits.idle_timeout:
            self.shut(now)

    def shut(self, now: float) -> None:
        """Asks the peer to go: streams that it has begun, or begins before it has heard of this, are served."""
        if self.shutting or self.over:
            return
        self.shutting = True
        if not self._settled:
            self.over = True
            return
        self.out.append(frames.goaway(LARGEST_WINDOW, Code.NO_ERROR, "shutting down"))
        self._ask(_DRAINING, now)

    def fail(self, code: Code, reason: str) -> None:
        """Ends the connection with everything on it."""
        self.over, self.fault = True, reason
        self.out.append(frames.goaway(self._last_stream, code, reason))

    def spend(self, kind: Spendable) -> None:
        """Raises ConnectionFault if the peer does this too often."""
        if not self._allowances[kind].take(self._now):
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, f"too many {kind.replace('_', ' ')}")

    def closed(self) -> None:
        """A stream is over. After the last one of a connection that is to go, its peer closes it: what that still sends
        would break the connection before everything has been read, if this side did."""
        if self.shutting and not self.streams and self._last_taken != LARGEST_WINDOW:
            self._empty_since = self._now

    def _ask(self, payload: bytes, now: float) -> None:
        self._asked = now
        self.out.append(frames.frame(Kind.PING, 0, 0, payload))

    def control(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        """A frame that carries nothing of a stream's content."""
        take = self._CONTROL_FRAMES.get(kind)
        if take is None:
            self.spend("empty")  # RFC 9113, section 5.5: unknown kinds are ignored
        else:
            take(self, flags, number, payload)

    def _take_settings(self, flags: int, number: int, payload: bytes) -> None:
        if number:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "settings of a stream")
        if flags & ACK:
            if payload:
                raise ConnectionFault(Code.FRAME_SIZE_ERROR, "settings in an acknowledgement")
            return
        self.spend("settings")
        for name, value in frames.read_settings(payload):
            if name == Setting.INITIAL_WINDOW_SIZE:
                self._initial_window(value)
            elif name == Setting.HEADER_TABLE_SIZE and value < DEFAULT_TABLE_SIZE:
                self.table_notice = FORGET_TABLE
        self._settled = True
        self.out.append(frames.frame(Kind.SETTINGS, ACK, 0))
        self.pump()

    def _initial_window(self, value: int) -> None:
        difference, self.initial_window = value - self.initial_window, value
        for stream in self.streams.values():
            if stream.send_window + difference > LARGEST_WINDOW:
                raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "the window of a stream overflows")
            stream.send_window += difference

    def _take_ping(self, flags: int, number: int, payload: bytes) -> None:
        if number:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a ping on a stream")
        if len(payload) != _PING_SIZE:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "a ping of an odd size")
        if not flags & ACK:
            self.spend("pings")
            self.out.append(frames.frame(Kind.PING, ACK, 0, payload))
            return
        self._asked = None
        if payload == _DRAINING and self.shutting:
            self._last_taken = self._last_stream
            self.out.append(frames.goaway(self._last_stream, Code.NO_ERROR, "shutting down"))
            self.closed()

    def _take_goaway(self, _flags: int, number: int, payload: bytes) -> None:
        """The peer opens no more streams; those that it has go on."""
        if number:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "GOAWAY on a stream")
        if len(payload) < 2 * _WORD:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "a GOAWAY that is too short")
        self.spend("settings")

    def _take_window(self, _flags: int, number: int, payload: bytes) -> None:
        if len(payload) != _WORD:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "a window update of an odd size")
        increment = unpack_word(payload)[0] & LARGEST_WINDOW
        if number == 0:
            self.open_connection(increment)
            self.pump()
        elif (stream := self.streams.get(number)) is not None:
            self.open_stream(stream, increment)
            if stream.outbox:
                self.pump()
        else:
            self._stray(number)
            if increment == 0:
                raise StreamFault(Code.PROTOCOL_ERROR, "a window update of nothing")

    def _take_priority(self, _flags: int, number: int, payload: bytes) -> None:
        if number == 0:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "the priority of no stream")
        if len(payload) != _PRIORITY_SIZE:
            raise StreamFault(Code.FRAME_SIZE_ERROR, "a priority of an odd size")
        self.spend("empty")

    def _take_push(self, _flags: int, _number: int, _payload: bytes) -> None:
        raise ConnectionFault(Code.PROTOCOL_ERROR, "a push from a client")

    def _stray(self, number: int) -> None:
        """A frame on no open stream. Raises ConnectionFault if that stream has never been."""
        if not number & 1 or number > self._last_stream:
            raise ConnectionFault(Code.PROTOCOL_ERROR, f"a frame on stream {number}, which is idle")
        self.spend("strays")

    def _open_connection_window(self) -> None:
        """What has come has been looked at; what lies unread is limited elsewhere."""
        whole = self._limits.connection_window
        if self._receive_window < 0:
            raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "more than the window of the connection")
        self.out.append(frames.window_update(0, whole - self._receive_window))
        self._receive_window = whole

    _CONTROL_FRAMES: ClassVar[dict[int, Callable[[Control, int, int, bytes], None]]] = {
        Kind.PRIORITY: _take_priority,
        Kind.SETTINGS: _take_settings,
        Kind.PUSH_PROMISE: _take_push,
        Kind.PING: _take_ping,
        Kind.GOAWAY: _take_goaway,
        Kind.WINDOW_UPDATE: _take_window,
    }


def unpadded(data: bytes, begin: int, end: int) -> tuple[int, int]:
    """Where the content of a padded payload lies."""
    if begin == end:
        raise ConnectionFault(Code.FRAME_SIZE_ERROR, "padding without a length")
    end -= data[begin]
    begin += 1
    if end < begin:
        raise ConnectionFault(Code.PROTOCOL_ERROR, "more padding than payload")
    return begin, end
