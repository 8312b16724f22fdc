"""Pieces of bodies as the library reads them."""

from __future__ import annotations

from envoy.service.ext_proc.v3.external_processor_pb2 import HttpBody, ProcessingRequest
from hypothesis import given
from hypothesis import strategies as st

from extproc.wire import codec
from extproc.wire.bodies import KINDS, BodyPiece, read_piece


@given(
    kind=st.sampled_from(["request_body", "response_body"]),
    body=st.one_of(st.binary(max_size=40), st.integers(100, 70_000).map(bytes)),
    end=st.booleans(),
    namespace=st.text(max_size=5),
)
def test_what_envoy_writes_is_read_as_the_library_does(kind: str, body: bytes, end: bool, namespace: str) -> None:
    message = ProcessingRequest(**{kind: HttpBody(body=body, end_of_stream=end)})
    message.metadata_context.filter_metadata[namespace].fields["a"].string_value = "b"
    data = message.SerializeToString()
    assert read_piece(data) == BodyPiece(body, end)
    assert codec.decode(data) == (kind, BodyPiece(body, end))


@given(st.sampled_from(sorted(KINDS)), st.binary(max_size=12))
def test_any_bytes_are_survived(first: int, rest: bytes) -> None:
    piece = read_piece(bytes((first,)) + rest)
    assert piece is None or piece.body in rest


def test_fields_in_another_order_are_read_by_the_library() -> None:
    body = ProcessingRequest(response_body=HttpBody(body=b"x", end_of_stream=True)).SerializeToString()
    turned = body[:2] + body[5:] + body[2:5]
    assert read_piece(turned) is None
    assert codec.decode(turned)[1].body == b"x"
    for cut in range(1, len(body)):
        assert read_piece(body[:cut]) is None
