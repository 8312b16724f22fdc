"""What one peer may use and do. A limit that is reached is a clear error to that peer, and nobody else's."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

MIB = 2**20


class Rate(msgspec.Struct, frozen=True):
    """So many at once, and so many a second after that."""

    burst: float
    per_second: float


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Sizes in bytes, times in seconds. The rates are far above what Envoys do, even when all clients leave at once."""

    message: Callable[[], int] = lambda: 64 * MIB
    """One gRPC message. Asked whenever one comes in parts, so that it can follow the configuration."""
    connections: int = 1024
    """Connections of one server."""
    streams: int = 65536
    """Open streams of one connection."""
    stream_window: int = 4 * MIB
    """What a peer may send on one stream before anybody has read it, beside the message that is being read."""
    connection_window: int = 64 * MIB
    """What a peer may send on all streams before it has been looked at; a limit on bursts, not on memory."""
    held: int = 1024 * MIB
    """What one connection's unread and incomplete messages may take up together."""
    unsent: int = MIB
    """What a transport may hold before nothing more is read from its peer."""
    header_list: int = 64 * 1024
    """Decoded headers of one block; its encoded form may take the same."""
    continuations: int = 16
    """CONTINUATION frames of one block."""

    handshake_timeout: float = 10.0
    """For the preface and the first settings, and for a header block from its first byte to its last."""
    idle_timeout: float = 900.0
    """A connection without streams is asked to go after this."""
    keepalive: float = 60.0
    """A connection with streams that is silent for so long is asked whether it is still there."""
    keepalive_timeout: float = 20.0
    """For the answer to that, and for a peer that does not take what is sent."""
    linger: float = 2.0
    """For a peer to close a connection that it was asked to leave, once it has no streams."""

    early_resets: Rate = Rate(20_000, 2_000)
    """Streams reset before anything was answered."""
    pings: Rate = Rate(1_000, 200)
    settings: Rate = Rate(100, 10)
    empty: Rate = Rate(2_000, 200)
    """Frames with nothing in them: DATA without bytes or end, priorities, unknown kinds."""
    strays: Rate = Rate(50_000, 5_000)
    """Frames on streams that are over; many are on their way when a stream is answered early. And refused streams."""


class Allowance:
    """A bucket for one `Rate`."""

    __slots__ = ("_left", "_rate", "_since")

    def __init__(self, rate: Rate, now: float) -> None:
        self._rate = rate
        self._left = rate.burst
        self._since = now

    def take(self, now: float) -> bool:
        """False if this is one too many."""
        if self._left < 1.0:
            earned = max(0.0, now - self._since) * self._rate.per_second
            self._left = min(self._rate.burst, self._left + earned)
            self._since = now
            if self._left < 1.0:
                return False
        self._left -= 1.0
        return True
