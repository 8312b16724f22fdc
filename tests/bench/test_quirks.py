from __future__ import annotations

import zlib
from collections.abc import Callable

import brotli
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from bench.quirks import ENCODINGS, Quirks, encoder, fragments, frame_events, parse_quirks

DECODERS: dict[str, Callable[[], Callable[[bytes], bytes]]] = {
    "gzip": lambda: zlib.decompressobj(31).decompress,
    "deflate": lambda: zlib.decompressobj(15).decompress,
    "br": lambda: brotli.Decompressor().process,
    "zstd": lambda: zstandard.ZstdDecompressor().decompressobj().decompress,
}


def test_a_list_of_quirks() -> None:
    assert parse_quirks("") == Quirks()
    assert parse_quirks("crlf, no-final-newline,slow-stream:20,zstd") == Quirks(
        crlf=True, no_final_newline=True, slow_stream=20, zstd=True
    )
    assert parse_quirks("br").encoding == "br"


@pytest.mark.parametrize("text", ["fast", "crlf:1", "events", "events:-1", "events:x", "events:"])
def test_wrong_quirks_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=text.split(":", maxsplit=1)[0]):
        parse_quirks(text)


@pytest.mark.parametrize("name", ENCODINGS)
def test_every_part_can_be_decoded_at_once(name: str) -> None:
    encode, decode = encoder(name), DECODERS[name]()
    for part in (b"data: 1\n\n", b"data: 2\n\n"):
        assert decode(encode.part(part)) == part
    assert decode(encode.end()) == b""


@given(st.binary(max_size=200))
def test_fragments_are_small_and_complete(data: bytes) -> None:
    pieces = list(fragments(data, split=True))
    assert b"".join(pieces) == data
    assert all(1 <= len(piece) <= 7 for piece in pieces)
    assert list(fragments(data, split=False)) == [data]


def test_line_ends() -> None:
    events = [b"data: a\n\n", b"data: b\n\n"]
    assert frame_events(events, Quirks(crlf=True)) == [b"data: a\r\n\r\n", b"data: b\r\n\r\n"]
    assert frame_events(events, Quirks(crlf=True, no_final_newline=True))[-1] == b"data: b"


def test_echo_is_a_number() -> None:
    assert parse_quirks("echo:3,split").echo == 3
