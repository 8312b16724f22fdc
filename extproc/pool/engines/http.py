"""Reads HTTP/1.1 answers to GET (RFC 9112), without doing any I/O: bytes in, at most one response out.

It is there for pages that are fetched many times a second, and takes nothing from the peer on trust: every part of an
answer has a limit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

_MAX_HEAD = 64 * 1024
"""Bytes of all heads and trailers of one response."""
_MAX_INTERIM = 8
_MAX_CHUNKS = 16_384
_MAX_CHUNK_LINE = 1024
_HEX = b"0123456789abcdefABCDEF"
_HEX_LENGTH = 8
_LENGTH_DIGITS = 15
_WITHOUT_BODY = (204, 304)
_SWITCHING = 101
_FINAL = 200
_HEAD_END = b"\r\n\r\n"
_LINE_END = b"\r\n"


class BadResponse(Exception):
    """What came is no HTTP/1.1 response, or not one within the limits. The text says why."""


class Response(NamedTuple):
    status: int
    body: bytes | None
    """As it was sent, or None where it is longer than the limit."""
    reusable: bool
    """Whether the connection may carry another request."""


class ResponseReader:
    """For one response: `feed` what arrives until it returns a response, `end` where the connection ends before."""

    __slots__ = (
        "_chunks",
        "_closes",
        "_interim",
        "_left",
        "_limit",
        "_parts",
        "_pending",
        "_read",
        "_seen",
        "_size",
        "_status",
    )

    def __init__(self, limit: int) -> None:
        """`limit` is for the body, in bytes."""
        self._limit = limit
        self._read: Callable[[bytes], Response | None] = self._head
        self._pending = b""
        self._seen = 0
        self._status = 0
        self._interim = 0
        self._closes = False
        self._left = 0
        self._size = 0
        self._chunks = 0
        self._parts: list[bytes] = []

    def feed(self, data: bytes) -> Response | None:
        """Raises BadResponse. Nothing may be fed after that, or after a response."""
        return self._read(data)

    def end(self) -> Response:
        """Raises BadResponse unless the response is one that the end of the connection completes."""
        if self._read != self._until_end:
            raise BadResponse("connection closed within the answer")
        return self._done(b"")

    def _head(self, data: bytes) -> Response | None:
        data = self._pending + data if self._pending else data
        end = data.find(_HEAD_END)
        if end < 0:
            if self._seen + len(data) > _MAX_HEAD:
                raise BadResponse("head too long")
            self._pending = data
            return None
        self._pending = b""
        self._seen += end
        if self._seen > _MAX_HEAD:
            raise BadResponse("head too long")
        self._status, headers = _parse_head(data[:end])
        self._choose(headers)
        rest = data[end + len(_HEAD_END) :]
        # A body of no bytes is complete without a further one.
        return self._read(rest) if rest or self._read == self._sized else None

    def _choose(self, headers: dict[bytes, bytes]) -> None:
        """How the rest has to be read."""
        if self._status < _FINAL:
            self._interim += 1
            if self._status == _SWITCHING or self._interim > _MAX_INTERIM:
                raise BadResponse("no final answer")
            return  # the next head follows
        self._closes = b"close" in headers.get(b"connection", b"").lower()
        coding, length = headers.get(b"transfer-encoding"), headers.get(b"content-length")
        if self._status in _WITHOUT_BODY:
            self._left, self._read = 0, self._sized
        elif coding is not None:
            if coding.lower() != b"chunked" or length is not None:
                raise BadResponse("unclear where the body ends")
            self._read = self._chunked
        elif length is not None:
            if not length.isdigit() or len(length) > _LENGTH_DIGITS:
                raise BadResponse("bad content-length")
            self._left, self._read = int(length), self._sized
        else:
            self._read, self._closes = self._until_end, True

    def _sized(self, data: bytes) -> Response | None:
        if self._left > self._limit:
            return self._too_long()
        self._left -= len(data)
        if self._left > 0:
            self._parts.append(data)
            return None
        return self._done(data if self._left == 0 else data[: self._left], surplus=self._left < 0)

    def _until_end(self, data: bytes) -> Response | None:
        return self._add(data)

    def _add(self, data: bytes) -> Response | None:
        """A response only where the body is too long."""
        self._size += len(data)
        if self._size > self._limit:
            return self._too_long()
        self._parts.append(data)
        return None

    def _chunked(self, data: bytes) -> Response | None:
        data = self._pending + data if self._pending else data
        at = 0
        while True:
            if self._left:  # within a chunk: its data and the line end after it
                part = data[at : at + self._left]
                at += len(part)
                self._left -= len(part)
                if part and (too_long := self._add(part)):
                    return too_long
                if self._left:
                    break
            line = data.find(_LINE_END, at)
            if line < 0:
                if len(data) - at > _MAX_CHUNK_LINE:
                    raise BadResponse("bad chunk")
                break
            if (left := self._chunk_size(data[at:line])) is None:
                return self._trailers(data[line + 2 :])
            at = line + 2
            self._left = left
        self._pending = data[at:]
        return None

    def _chunk_size(self, line: bytes) -> int | None:
        """Bytes of the chunk that this line begins; 0 for the line end of the one before; None for the last chunk."""
        if self._chunks % 2:
            self._chunks += 1
            if line:
                raise BadResponse("bad chunk")
            return 0
        self._chunks += 1
        digits = line.partition(b";")[0].strip()
        if not 0 < len(digits) <= _HEX_LENGTH or digits.strip(_HEX) or self._chunks > 2 * _MAX_CHUNKS:
            raise BadResponse("bad chunk")
        return int(digits, 16) or None

    def _trailers(self, data: bytes) -> Response | None:
        self._pending = b""
        self._read = self._trailer
        return self._trailer(data)

    def _trailer(self, data: bytes) -> Response | None:
        data = _LINE_END + data if not self._pending else self._pending + data
        end = data.find(_HEAD_END)
        if end < 0:
            if self._seen + len(data) > _MAX_HEAD:
                raise BadResponse("trailers too long")
            self._pending = data
            return None
        return self._done(b"", surplus=end + len(_HEAD_END) < len(data))

    def _done(self, last: bytes, *, surplus: bool = False) -> Response:
        body = b"".join((*self._parts, last)) if self._parts else last
        return Response(self._status, body, not (self._closes or surplus))

    def _too_long(self) -> Response:
        return Response(self._status, None, reusable=False)


def _parse_head(head: bytes) -> tuple[int, dict[bytes, bytes]]:
    """Status and headers, names in lower case. Raises BadResponse."""
    first, *lines = head.split(_LINE_END)
    version, _, rest = first.partition(b" ")
    status = rest[:3]
    if version not in (b"HTTP/1.1", b"HTTP/1.0") or not status.isdigit() or len(status) < 3 or rest[3:4].strip():
        raise BadResponse("no HTTP/1.1 answer")
    headers: dict[bytes, bytes] = {} if version == b"HTTP/1.1" else {b"connection": b"close"}
    for line in lines:
        name, _, value = line.partition(b":")
        name, value = name.lower(), value.strip()
        if name == b"content-length" and headers.get(name, value) != value:
            raise BadResponse("two lengths")
        if name == b"transfer-encoding" and name in headers:
            raise BadResponse("unclear where the body ends")
        headers[name] = value
    return int(status), headers
