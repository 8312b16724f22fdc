"""Header blocks: decoded once for each different one, and those of gRPC answers, encoded once for all."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

import msgspec
from hpack import Decoder, HPACKError, OversizedHeaderListError
from hpack.hpack import encode_integer
from hpack.table import HeaderTable

from extproc.wire.http2.frames import Code, ConnectionFault

_KEPT = 64
"""Header blocks of one connection that are kept decoded."""
_LONGEST_TEXT = 1000
_PLAIN = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")
"""What a gRPC status message need not escape."""
_CONNECTION_HEADERS = frozenset({b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"})
_PSEUDO = frozenset({b":method", b":scheme", b":path", b":authority"})


class RequestHeaders(msgspec.Struct, frozen=True):
    """What a server has to know of the headers that open a stream."""

    method: bytes
    path: str
    content_type: bytes
    malformed: str = ""
    """Why these are no request, if they are not."""
    metadata: Mapping[bytes, bytes] = {}
    """The other headers."""


class _Table(HeaderTable):
    """HPACK's dynamic table, which says whether it has changed."""

    def __init__(self) -> None:
        super().__init__()
        self.version = 0

    def add(self, name: bytes, value: bytes) -> None:
        self.version += 1
        super().add(name, value)

    @property
    def maxsize(self) -> int:
        return super().maxsize

    @maxsize.setter
    def maxsize(self, size: int) -> None:
        self.version += 1
        HeaderTable.maxsize.fset(self, size)  # type: ignore[attr-defined]


class BlockDecoder:
    """Decodes the header blocks of one connection, each of which has to come here, in order.

    Peers send the same block for most of their streams. The same bytes mean the same headers as long as the dynamic
    table is the same, so results are kept until it changes: by an entry that a block adds, or by a size update. A block
    that itself changes the table is never kept.
    """

    __slots__ = ("_decoder", "_kept", "_table")

    def __init__(self, longest: int) -> None:
        self._decoder = Decoder(max_header_list_size=longest)
        self._decoder.header_table = self._table = _Table()
        self._kept: dict[bytes, RequestHeaders] = {}

    def __call__(self, block: bytes) -> RequestHeaders:
        """Raises ConnectionFault where the table is lost, which ends everything."""
        kept = self._kept.get(block)
        if kept is not None:
            return kept
        version = self._table.version
        try:
            fields = [(name, value) for name, value in self._decoder.decode(block, raw=True)]
        except OversizedHeaderListError as error:
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, "headers are too large") from error
        except (HPACKError, IndexError) as error:  # the library lets an IndexError out where a block is cut off
            raise ConnectionFault(Code.COMPRESSION_ERROR, f"a header block cannot be decoded: {error}") from error
        headers = _examine(fields)
        if self._table.version != version:
            self._kept.clear()
        elif len(self._kept) < _KEPT:
            self._kept[block] = headers
        return headers


def _examine(fields: list[tuple[bytes, bytes]]) -> RequestHeaders:
    """RFC 9113, section 8.2 and 8.3."""
    pseudo: dict[bytes, bytes] = {}
    metadata: dict[bytes, bytes] = {}
    content_type, malformed, regular = b"", "", False
    for name, value in fields:
        if name.startswith(b":"):
            if regular or name in pseudo or name not in _PSEUDO:
                malformed = "pseudo-headers out of place"
            pseudo[name] = value
            continue
        regular = True
        if not name or name != name.lower() or name in _CONNECTION_HEADERS or (name == b"te" and value != b"trailers"):
            malformed = "a header that HTTP/2 does not have"
        if name == b"content-type":
            content_type = value
        else:
            metadata[name] = value
    if not (pseudo.get(b":method") and pseudo.get(b":path") and pseudo.get(b":scheme")):
        malformed = malformed or "a request without method, scheme or path"
    path = pseudo.get(b":path", b"").decode("ascii", "replace")
    return RequestHeaders(pseudo.get(b":method", b""), path, content_type, malformed, metadata)


def _literal(name: bytes, value: bytes) -> bytes:
    """A field that leaves the peer's table as it is."""
    return b"".join((b"\x00", bytes(encode_integer(len(name), 7)), name, bytes(encode_integer(len(value), 7)), value))


_STATUS_OK = b"\x88"  # index 8 of the static table
OPENING = _STATUS_OK + _literal(b"content-type", b"application/grpc")
"""Headers of every answer that has messages."""
FORGET_TABLE = b"\x20"
"""Put before a block once, it tells the peer that no dynamic table is used."""


def trailers(status: int, message: str = "") -> bytes:
    """The end of a gRPC answer."""
    if not message:
        return _WITHOUT_MESSAGE[status]
    return _WITHOUT_MESSAGE[status] + _literal(b"grpc-message", quote(message[:_LONGEST_TEXT], safe=_PLAIN).encode())


def only_trailers(status: int, message: str = "") -> bytes:
    """A gRPC answer that is nothing but a status."""
    return OPENING + trailers(status, message)


def refusal(http_status: int) -> bytes:
    """To a request that is not gRPC."""
    return _literal(b":status", b"%d" % http_status)


_WITHOUT_MESSAGE = [_literal(b"grpc-status", b"%d" % status) for status in range(17)]
