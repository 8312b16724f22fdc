"""One stream of a connection: its state, its windows, and what waits in it."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

import msgspec

from extproc.wire.http2.messages import Assembler
from extproc.wire.http2.states import State


class Stream:
    """The core keeps its books here; nobody else writes them."""

    __slots__ = ("assembler", "ending", "number", "outbox", "owner", "receive_window", "send_window", "state", "unread")

    def __init__(self, number: int, state: State, *, send_window: int, receive_window: int) -> None:
        self.number = number
        self.state = state
        self.send_window = send_window
        self.receive_window = receive_window
        self.assembler: Assembler | None = None
        """While a message is incomplete."""
        self.unread = 0
        """Bytes of messages that lie unread on this side."""
        self.outbox: deque[memoryview] | None = None
        """What the windows do not let out yet."""
        self.ending: bytes | None = None
        """Trailers that go out after the outbox."""
        self.owner: Any = None
        """For the driver: whoever serves this stream."""

    def __repr__(self) -> str:
        waiting = sum(map(len, self.outbox or ()))
        return f"Stream({self.number}, {self.state.name}, unread={self.unread}, outbox={waiting})"

    @property
    def held(self) -> int:
        """Bytes of the peer's that it keeps in memory."""
        return self.unread + (0 if self.assembler is None else self.assembler.size)


class Opened(msgspec.Struct, frozen=True, gc=False):
    """The peer calls `path`."""

    stream: Stream
    path: str
    metadata: Mapping[bytes, bytes] = {}


class Message(msgspec.Struct, frozen=True, gc=False):
    stream: Stream
    data: bytes


class Ended(msgspec.Struct, frozen=True, gc=False):
    """The peer has said everything; it still listens."""

    stream: Stream


class Lost(msgspec.Struct, frozen=True, gc=False):
    """The stream is over without this side having ended it: nothing can be sent on it."""

    stream: Stream


Event = Opened | Message | Ended | Lost
