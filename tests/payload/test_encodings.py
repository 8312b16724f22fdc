"""Content encodings: whole or in chunks, within the limit, and never trusting the sender."""

import gzip
import tracemalloc
import zlib
from collections.abc import Callable

import brotli
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from extproc.payload.encodings import StreamDecoder, decode_body
from extproc.payload.errors import PayloadError
from tests.payload.streams import cut


def raw_deflate(data: bytes) -> bytes:
    deflate = zlib.compressobj(wbits=-15)
    return deflate.compress(data) + deflate.flush()


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


def br(data: bytes) -> bytes:
    return bytes(brotli.compress(data))


Encode = Callable[[bytes], bytes]
ENCODERS: list[tuple[str, Encode]] = [
    ("gzip", gzip.compress),
    ("x-gzip", gzip.compress),
    ("deflate", zlib.compress),
    ("deflate", raw_deflate),
    ("br", br),
    ("zstd", zstd),
    ("identity", bytes),
    ("", bytes),
    ("gzip, br", lambda data: br(gzip.compress(data))),
    (" Zstd , GZIP,br", lambda data: br(gzip.compress(zstd(data)))),
]
every_encoding = pytest.mark.parametrize(("name", "encode"), ENCODERS)
compressing = pytest.mark.parametrize(("name", "encode"), [e for e in ENCODERS if e[0] not in ("", "identity")])


@every_encoding
def test_decode_body(name: str, encode: Encode) -> None:
    for data in (b"", b"x", b"hello " * 20_000):
        assert decode_body(encode(data), name, 1 << 20) == data
    assert decode_body(b"", name, 1) == b""


@given(st.sampled_from(ENCODERS), st.binary(max_size=200), st.lists(st.integers(0, 250), max_size=8))
def test_any_cut_gives_the_same(encoder: tuple[str, Encode], data: bytes, cuts: list[int]) -> None:
    name, encode = encoder
    body = encode(data)
    decoder = StreamDecoder(name, 1000)
    out = b"".join(decoder.feed(chunk) for chunk in cut(body, cuts))
    assert out + decoder.finish() == data


@every_encoding
def test_the_limit_is_exact(name: str, encode: Encode) -> None:
    assert len(decode_body(encode(b"x" * 1000), name, 1000)) == 1000
    with pytest.raises(PayloadError, match="larger than 999 bytes") as caught:
        decode_body(encode(b"x" * 1000), name, 999)
    assert caught.value.code == "body_too_large"


@pytest.mark.parametrize(
    ("name", "encode"), [("gzip", gzip.compress), ("br", br), ("zstd", zstd), ("deflate", raw_deflate)]
)
def test_a_bomb_stops_at_the_limit(name: str, encode: Encode) -> None:
    bomb = encode(bytes(64 << 20))
    tracemalloc.start()
    try:
        with pytest.raises(PayloadError) as caught:
            decode_body(bomb, name, 1 << 20)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert caught.value.code == "body_too_large"
    assert peak < 8 << 20


def test_a_bomb_in_a_bomb_stops_at_the_limit() -> None:
    with pytest.raises(PayloadError) as caught:
        decode_body(gzip.compress(gzip.compress(bytes(64 << 20))), "gzip, gzip", 1 << 20)
    assert caught.value.code == "body_too_large"


@compressing
def test_truncated_and_corrupt_bodies(name: str, encode: Encode) -> None:
    body = encode(b"hello world, hello world, hello" * 10)
    for bad in (body[:-1], body[:5], body[:1], b"\xff\xff\xff" + body, body + b"garbage"):
        with pytest.raises(PayloadError) as caught:
            decode_body(bad, name, 1 << 20)
        assert caught.value.code == "invalid_encoding"


@given(st.sampled_from([name for name, _ in ENCODERS]), st.binary(max_size=60))
def test_any_bytes_decode_or_are_refused(name: str, body: bytes) -> None:
    try:
        assert len(decode_body(body, name, 4096)) <= 4096
    except PayloadError as error:
        assert error.code in ("invalid_encoding", "body_too_large")


def test_members_follow_each_other() -> None:
    body = gzip.compress(b"a" * 1000) + gzip.compress(b"") + gzip.compress(b"b")
    assert decode_body(body, "gzip", 2000) == b"a" * 1000 + b"b"
    assert decode_body(body + bytes(512), "gzip", 2000) == b"a" * 1000 + b"b"
    assert decode_body(zstd(b"a") + zstd(b"b"), "zstd", 2000) == b"ab"
    for encode, name in ((gzip.compress, "gzip"), (zstd, "zstd")):
        with pytest.raises(PayloadError) as caught:
            decode_body(encode(b"") * 5000, name, 2000)
        assert caught.value.code == "invalid_encoding"


def test_a_zstd_window_over_the_standard_is_refused() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=27, enable_ldm=True)
    body = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    data = body.compress(b"x" * 100) + body.flush()
    with pytest.raises(PayloadError, match="corrupt"):
        decode_body(data, "zstd", 1000)


@pytest.mark.parametrize("name", ["compress", "gzip;q=1", "gzip, foo", "gzip,gzip,gzip,gzip", "\n"])
def test_unsupported_encodings(name: str) -> None:
    if name == "\n":
        assert decode_body(b"x", name, 10) == b"x"
        return
    with pytest.raises(PayloadError) as caught:
        StreamDecoder(name, 10)
    assert caught.value.code == "unsupported_encoding"


def test_the_limit_counts_all_chunks() -> None:
    decoder = StreamDecoder("", 10)
    assert decoder.feed(b"x" * 10) == b"x" * 10
    assert decoder.feed(b"") == b""
    assert repr(decoder) == "StreamDecoder('', decoded=10, limit=10)"
    with pytest.raises(PayloadError, match="larger"):
        decoder.feed(b"x")
