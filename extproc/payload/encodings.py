"""Content encodings, decoded within a limit: gzip, deflate, br, zstd, and lists of them."""

import zlib
from typing import Protocol

import brotli
import zstandard

from extproc.payload.errors import PayloadError

_MOST_ENCODINGS = 3
_PIECE = 1 << 16  # bytes of gzip input in one step: what follows a member is copied, so steps keep that linear
_MOST_MEMBERS = 4096  # gzip members or zstd frames; each costs a decoder, and can be empty
_ZSTD_WINDOW = 8 << 20  # RFC 9659: the largest window that a zstd content coding may ask for
_ZSTD_BLOCK = 1 << 17  # RFC 8878: the most that one block decodes to
_ZSTD_SHORTEST = 4  # bytes: a block header and one repeated byte
_ZSTD_PIECE = 64  # bytes: the least that is decoded in one step
_ZSTD_WRITE = 1 << 14  # bytes of the first output buffer of a step


class _CorruptError(Exception):
    """The data is not what its encoding says."""


class _Decoder(Protocol):
    def feed(self, data: bytes, room: int) -> bytes:
        """Decode; stops soon after `room` bytes of output, and need not take in the rest of the data then."""

    def finish(self) -> bool:
        """Whether the data ended where its encoding allows."""


class _Zlib:
    """gzip (RFC 1952, any number of members) or deflate (RFC 9110: zlib format; many servers send it raw)."""

    def __init__(self, *, gzip: bool) -> None:
        self._gzip = gzip
        self._inflate = zlib.decompressobj(wbits=31) if gzip else None
        self._head = b""
        self._padding = False
        self._members = 1

    def feed(self, data: bytes, room: int) -> bytes:
        inflate = self._inflate
        if inflate is None:
            data = self._head + data
            if len(data) < 2:
                self._head = data
                return b""
            wrapped = data[0] & 15 == 8 and (data[0] << 8 | data[1]) % 31 == 0
            inflate = self._inflate = zlib.decompressobj(wbits=15 if wrapped else -15)
        try:
            return self._run(inflate, data, room)
        except zlib.error as error:
            raise _CorruptError from error

    def _run(self, inflate: "zlib._Decompress", data: bytes, room: int) -> bytes:
        out = []
        size = at = 0
        while at < len(data) and size <= room:
            piece = data[at : at + _PIECE]
            if inflate.eof:
                if not piece.strip(b"\0"):  # padding, as from tape blocks
                    self._padding = True
                    at += len(piece)
                    continue
                inflate = self._next_member()
            decoded = inflate.decompress(piece, room + 1 - size)
            at += len(piece) - len(inflate.unused_data)
            size += len(decoded)
            out.append(decoded)
        return b"".join(out)

    def _next_member(self) -> "zlib._Decompress":
        self._members += 1
        if not self._gzip or self._padding or self._members > _MOST_MEMBERS:
            raise _CorruptError
        self._inflate = zlib.decompressobj(wbits=31)
        return self._inflate

    def finish(self) -> bool:
        return self._inflate is not None and self._inflate.eof


class _Brotli:
    """br (RFC 7932)."""

    def __init__(self) -> None:
        self._brotli = brotli.Decompressor()

    def feed(self, data: bytes, room: int) -> bytes:
        out = b""
        try:
            while data or (not self._brotli.can_accept_more_data() and not self._brotli.is_finished()):
                out += self._brotli.process(data, output_buffer_limit=room + 1 - len(out))
                data = b""
                if len(out) > room:
                    break
        except brotli.error as error:
            raise _CorruptError from error
        return out

    def finish(self) -> bool:
        return bool(self._brotli.is_finished())


class _Zstd:
    """zstd (RFC 8878, any number of frames).

    The library cannot limit the output of one call, so the input goes in by pieces that cannot decode to much.
    """

    def __init__(self) -> None:
        self._zstd = self._fresh()
        self._frames = 1

    @staticmethod
    def _fresh() -> "zstandard.ZstdDecompressionObj":  # a name of the stubs only
        return zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW).decompressobj(write_size=_ZSTD_WRITE)

    def feed(self, data: bytes, room: int) -> bytes:
        out = []
        size = at = 0
        try:
            while at < len(data) and size <= room:
                step = max(_ZSTD_PIECE, (room - size) // (_ZSTD_BLOCK // _ZSTD_SHORTEST))
                piece = data[at : at + step]
                if self._zstd.eof:
                    self._next_frame()
                decoded = self._zstd.decompress(piece)
                at += len(piece) - len(self._zstd.unused_data)
                size += len(decoded)
                out.append(decoded)
        except zstandard.ZstdError as error:
            raise _CorruptError from error
        return b"".join(out)

    def _next_frame(self) -> None:
        self._frames += 1
        if self._frames > _MOST_MEMBERS:
            raise _CorruptError
        self._zstd = self._fresh()

    def finish(self) -> bool:
        return self._zstd.eof


def _decoders(encoding: str) -> list[_Decoder]:
    names = [name for part in encoding.split(",") if (name := part.strip().lower()) not in ("", "identity")]
    if len(names) > _MOST_ENCODINGS:
        raise PayloadError(f"more than {_MOST_ENCODINGS} content encodings", "unsupported_encoding")
    decoders: list[_Decoder] = []
    for name in reversed(names):  # the last one named was applied last
        if name in ("gzip", "x-gzip"):
            decoders.append(_Zlib(gzip=True))
        elif name == "deflate":
            decoders.append(_Zlib(gzip=False))
        elif name == "br":
            decoders.append(_Brotli())
        elif name == "zstd":
            decoders.append(_Zstd())
        else:
            message = f"content encoding {name[:32]!r} is not supported (gzip, deflate, br, zstd, identity are)"
            raise PayloadError(message, "unsupported_encoding")
    return decoders


class StreamDecoder:
    """Decodes one body chunk by chunk; `limit` is for the decoded size of the whole body, in bytes.

    Raises PayloadError: `unsupported_encoding` at construction, `body_too_large` and `invalid_encoding` (corrupt, or at
    the end: truncated) later. After an error it is of no more use. A body of no bytes at all is accepted as empty.
    """

    __slots__ = ("_decoders", "_empty", "_encoding", "_limit", "_sizes")

    def __init__(self, encoding: str, limit: int) -> None:
        self._decoders = _decoders(encoding)
        self._sizes = [0] * max(1, len(self._decoders))
        self._encoding = encoding
        self._limit = limit
        self._empty = True

    def __repr__(self) -> str:
        return f"StreamDecoder({self._encoding!r}, decoded={self._sizes[-1]}, limit={self._limit})"

    def feed(self, chunk: bytes) -> bytes:
        """The decoded bytes that this chunk completes."""
        if not chunk:
            return chunk
        self._empty = False
        if not self._decoders:
            self._grow(0, chunk)
            return chunk
        data = chunk
        for index, decoder in enumerate(self._decoders):
            try:
                data = decoder.feed(data, self._limit - self._sizes[index])
            except _CorruptError:
                raise self._invalid("is corrupt") from None
            self._grow(index, data)
        return data

    def finish(self) -> bytes:
        """The end of the body; checks that it is complete. Nothing is ever left to return but b""."""
        if not self._empty and not all(decoder.finish() for decoder in self._decoders):
            raise self._invalid("ends too early")
        return b""

    def _grow(self, index: int, data: bytes) -> None:
        self._sizes[index] += len(data)
        if self._sizes[index] > self._limit:
            raise PayloadError(f"the decoded body is larger than {self._limit} bytes", "body_too_large")

    def _invalid(self, what: str) -> PayloadError:
        return PayloadError(f"the body {what} for content encoding {self._encoding[:64]!r}", "invalid_encoding")


def decode_body(body: bytes, encoding: str, limit: int) -> bytes:
    """A whole body decoded; raises what `StreamDecoder` does, and stops as soon as `limit` bytes are exceeded."""
    decoder = StreamDecoder(encoding, limit)
    decoded = decoder.feed(body)
    decoder.finish()
    return decoded
