"""Header blocks against the encoder of the `hpack` library."""

from __future__ import annotations

import pytest
from hpack import Decoder, Encoder
from hypothesis import given
from hypothesis import strategies as st

from extproc.wire.http2 import headers
from extproc.wire.http2.frames import Code, ConnectionFault
from extproc.wire.http2.headers import BlockDecoder, RequestHeaders

FIXED = [(":method", "POST"), (":scheme", "http"), (":authority", "filter"), ("content-type", "application/grpc")]
GRPC = RequestHeaders(b"POST", "/a", b"application/grpc")


def request(path: str, *more: tuple[str, str]) -> list[tuple[str, str]]:
    return [*FIXED[:2], (":path", path), *FIXED[2:], *more]


def decoder() -> BlockDecoder:
    return BlockDecoder(65536)


blocks = st.one_of(
    st.integers(0, 3).map(lambda n: ("request", n)),
    st.integers(0, 2).map(lambda n: ("traced", n)),
    st.sampled_from([0, 64, 200, 4096]).map(lambda size: ("resize", size)),
    st.integers(0, 30).map(lambda n: ("again", n)),
)


@given(st.lists(blocks, max_size=40))
def test_the_same_bytes_are_answered_as_a_decoder_without_memory_would(steps: list[tuple[str, int]]) -> None:
    """Also where the table changed in between, so that the same bytes mean something else."""
    encoder, plain, own = Encoder(), Decoder(), decoder()
    sent: list[bytes] = []
    for kind, value in steps:
        if kind == "resize":
            encoder.header_table_size = value
            continue
        if kind == "again":
            if not sent:
                continue
            block = sent[value % len(sent)]
            if any(first & 0xC0 == 0x40 or first & 0xE0 == 0x20 for first in block[:1]):
                continue  # it would change the table of the two decoders and not the encoder's
        elif kind == "traced":
            block = encoder.encode(request(f"/{value}", ("traceparent", f"00-{len(sent)}-{value}")))
        else:
            block = encoder.encode(request(f"/{value}"))
        sent.append(block)
        try:
            wanted = {bytes(name): bytes(value) for name, value in plain.decode(block, raw=True)}
        except Exception:  # noqa: BLE001 whatever the library raises, ours must refuse as well
            with pytest.raises(ConnectionFault):
                own(block)
            return
        found = own(block)
        assert found.path.encode() == wanted.get(b":path", b"")
        assert found.content_type == wanted.get(b"content-type", b"")


def test_a_block_is_decoded_once_while_the_table_stays() -> None:
    encoder, own = Encoder(), decoder()
    own(encoder.encode(request("/a")))
    block = encoder.encode(request("/a"))
    assert own(block) == GRPC
    assert own(block) is own(block)


def test_an_entry_that_moves_the_table_empties_the_memory() -> None:
    """The first byte of the second block refers to whatever was added last."""
    own = decoder()
    newest = b"\x83\x86\xbe\x0f\x10\x10application/grpc"
    own(b"\x83\x86\x44\x02/a")  # adds :path /a
    assert own(newest).path == "/a"
    own(b"\x83\x86\x44\x02/b")
    assert own(newest).path == "/b"


def test_a_smaller_table_empties_the_memory() -> None:
    own = decoder()
    newest = b"\x83\x86\xbe"
    own(b"\x83\x86\x44\x02/a")
    assert own(newest).path == "/a"
    own(b"\x20\x83\x86\x84")
    with pytest.raises(ConnectionFault) as caught:
        own(newest)
    assert caught.value.code is Code.COMPRESSION_ERROR


@pytest.mark.parametrize(
    "fields",
    [
        [(":method", "POST"), (":path", "/a")],
        [*request("/a"), (":path", "/b")],
        [*request("/a"), (":status", "200")],
        [("te", "trailers"), *request("/a")],
        [*request("/a"), ("connection", "close")],
        [*request("/a"), ("te", "gzip")],
        [*request("/a"), ("X-Upper", "a")],
        [*request("")],
    ],
)
def test_what_is_no_request_is_said_to_be_malformed(fields: list[tuple[str, str]]) -> None:
    assert decoder()(Encoder().encode(fields)).malformed


@pytest.mark.parametrize(
    "block", [b"\x00", b"\x40\x05ab", b"\xff\xff\xff\xff\xff", b"\x80", b"\x3f\xff\xff\xff\x7f", b"\x00\x81\xff\x00"]
)
def test_a_block_that_cannot_be_decoded_ends_the_connection(block: bytes) -> None:
    with pytest.raises(ConnectionFault) as caught:
        decoder()(block)
    assert caught.value.code is Code.COMPRESSION_ERROR


def test_a_small_block_that_grows_is_cut_off() -> None:
    own = decoder()
    own(b"\x83\x86\x84" + b"\x40\x01a\x7f\xa1\x17" + b"b" * 3104)
    with pytest.raises(ConnectionFault) as caught:
        own(b"\xbe" * 1000)
    assert caught.value.code is Code.ENHANCE_YOUR_CALM


@given(st.binary(max_size=200))
def test_any_bytes_are_decoded_or_refused(block: bytes) -> None:
    own = decoder()
    try:
        own(block)
    except ConnectionFault:
        return


@given(st.integers(0, 16), st.text(max_size=300))
def test_trailers_are_read_by_others(status: int, message: str) -> None:
    found = {str(name): str(value) for name, value in Decoder().decode(headers.only_trailers(status, message))}
    assert found[":status"] == "200"
    assert found["grpc-status"] == str(status)
    assert found.get("grpc-message", "").isascii()
    assert ("grpc-message" in found) is bool(message)
