"""gRPC messages in the bytes of a stream: each with a flag and its length before it."""

from __future__ import annotations

from collections.abc import Callable

from extproc.wire.http2.frames import unpack_word

PREFIX = 5
_UNKNOWN = -1
INVALID_ARGUMENT, RESOURCE_EXHAUSTED, UNIMPLEMENTED, INTERNAL = 3, 8, 12, 13


class MessageFault(Exception):
    """What came is no message that can be taken: `status` is the gRPC status that the stream ends with."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Assembler:
    """Messages of one stream, of which pieces come in any size. A long message is put together once."""

    __slots__ = ("_limit", "_missing", "_pieces", "size")

    def __init__(self, limit: Callable[[], int]) -> None:
        self._limit = limit
        self._pieces: list[bytes] = []
        self._missing = _UNKNOWN
        """Bytes that the message begun still lacks."""
        self.size = 0
        """Bytes held of a message that is not complete."""

    def add(self, data: bytes) -> list[bytes]:
        """The messages that `data` completes. Raises MessageFault."""
        messages: list[bytes] = []
        while data:
            if self._missing == _UNKNOWN:
                data = self._begin(data)
                if self._missing == _UNKNOWN:
                    return messages
            missing = self._missing
            if len(data) < missing:
                self._pieces.append(data)
                self._missing -= len(data)
                self.size += len(data)
                return messages
            self._pieces.append(data if len(data) == missing else data[:missing])
            messages.append(self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces))
            self._pieces = []
            self._missing = _UNKNOWN
            self.size = 0
            data = data[missing:]
        return messages

    def _begin(self, data: bytes) -> bytes:
        """Takes a prefix, as far as it has come, and gives what follows it."""
        if self._pieces:
            data = self._pieces.pop() + data
        if len(data) < PREFIX:
            self._pieces.append(data)
            self.size = len(data)
            return b""
        if data[0]:
            raise MessageFault(UNIMPLEMENTED, "compressed messages are not understood")
        size: int = unpack_word(data, 1)[0]
        if size > self._limit():
            raise MessageFault(RESOURCE_EXHAUSTED, f"a message of {size} bytes is too large")
        self._missing = size
        self.size = 0
        return data[PREFIX:]

    @property
    def complete(self) -> bool:
        """Whether nothing is missing of what has begun."""
        return self._missing == _UNKNOWN and not self._pieces
