"""Replies put together from parts are the messages that protobuf makes as a whole."""

from __future__ import annotations

from typing import Any

import pytest
from envoy.config.core.v3.base_pb2 import HeaderValue, HeaderValueOption
from envoy.service.ext_proc.v3.external_processor_pb2 import (
    BodyResponse,
    CommonResponse,
    HeaderMutation,
    HeadersResponse,
    ProcessingResponse,
)
from google.protobuf.struct_pb2 import Struct
from hypothesis import given
from hypothesis import strategies as st

from extproc.exchange.values import Decision
from extproc.wire.codec import encode_decision

NAMES = st.text("abcxyz-", min_size=1, max_size=9)
VALUES = st.one_of(st.text(max_size=9), st.booleans(), st.floats(allow_nan=False, allow_infinity=False, width=32))
METADATA = st.dictionaries(NAMES, st.dictionaries(NAMES, VALUES, min_size=1, max_size=4), max_size=3)


def as_a_whole(decision: Decision, *, with_body: bool) -> ProcessingResponse:
    common = CommonResponse(clear_route_cache=True)
    common.header_mutation.CopyFrom(
        HeaderMutation(
            set_headers=[
                HeaderValueOption(
                    header=HeaderValue(key=name, raw_value=value),
                    append_action=HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD,
                )
                for name, value in decision.set_headers
            ],
            remove_headers=decision.remove_headers,
        )
    )
    struct = Struct()
    struct.update({name: dict(values) for name, values in decision.metadata.items()})
    if not with_body:
        reply = ProcessingResponse(request_headers=HeadersResponse(response=common), dynamic_metadata=struct)
        reply.mode_override.response_header_mode = 1
        return reply
    if decision.body is not None:
        common.body_mutation.body = decision.body
    return ProcessingResponse(request_body=BodyResponse(response=common), dynamic_metadata=struct)


@given(
    st.lists(st.tuples(NAMES, st.binary(max_size=200)), min_size=1, max_size=5),
    st.lists(NAMES, max_size=3),
    st.one_of(st.none(), st.binary(max_size=400)),
    METADATA,
    st.booleans(),
)
def test_any_decision(
    set_headers: list[tuple[str, bytes]], remove: list[str], body: bytes | None, metadata: Any, with_body: bool
) -> None:
    decision = Decision(metadata, tuple(set_headers), tuple(remove), body)
    reply = ProcessingResponse.FromString(encode_decision(decision, with_body=with_body))
    assert reply == as_a_whole(decision, with_body=with_body)


@pytest.mark.parametrize("size", [0, 1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152, 5_000_000])
def test_bodies_around_the_borders_of_the_length_encoding(size: int) -> None:
    decision = Decision({}, (("a", b"b"),), (), b"x" * size)
    reply = ProcessingResponse.FromString(encode_decision(decision, with_body=True))
    assert reply.request_body.response.body_mutation.body == decision.body
    assert reply.request_body.response.body_mutation.HasField("body")
