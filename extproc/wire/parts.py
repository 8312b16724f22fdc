"""The reply that carries a decision, put together from serialized parts.

Protocol buffers define that the concatenation of serialized messages is the merged message. So the parts that repeat
from request to request are serialized once, and a body of megabytes is copied once instead of at every nesting.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from struct import Struct as Packer
from typing import Any, Literal

from envoy.config.core.v3.base_pb2 import HeaderValue, HeaderValueOption
from envoy.service.ext_proc.v3.external_processor_pb2 import (
    BodyMutation,
    BodyResponse,
    CommonResponse,
    HeaderMutation,
    HeadersResponse,
    ProcessingResponse,
)
from google.protobuf.struct_pb2 import Struct, Value

from extproc.exchange.values import Metadata

Phase = Literal["request_headers", "request_body"]
_LENGTH_DELIMITED = 2
_KEPT = 4096
"""Serialized parts of a kind that are kept; the least recently used goes first."""


def _reply(phase: Phase, common: CommonResponse) -> bytes:
    response = HeadersResponse if phase == "request_headers" else BodyResponse
    serialized: bytes = ProcessingResponse(**{phase: response(response=common)}).SerializeToString()
    return serialized


def _number(message: Any, field: str) -> int:
    found: int = message.DESCRIPTOR.fields_by_name[field].number
    return found


_BODY_PATH = (
    _number(BodyMutation, "body"),
    _number(CommonResponse, "body_mutation"),
    _number(BodyResponse, "response"),
    _number(ProcessingResponse, "request_body"),
)
"""Fields around a request's new body, the innermost first."""

_AROUND: dict[Phase, tuple[int, ...]] = {
    "request_headers": (_number(HeadersResponse, "response"), _number(ProcessingResponse, "request_headers")),
    "request_body": (_number(BodyResponse, "response"), _number(ProcessingResponse, "request_body")),
}
_MUTATION = _number(CommonResponse, "header_mutation")
_SET_PATHS = {phase: (_number(HeaderMutation, "set_headers"), _MUTATION, *path) for phase, path in _AROUND.items()}
_REMOVE_PATHS = {
    phase: (_number(HeaderMutation, "remove_headers"), _MUTATION, *path) for phase, path in _AROUND.items()
}
_OPTION_HEADER = _number(HeaderValueOption, "header")
_HEADER_KEY, _HEADER_VALUE = _number(HeaderValue, "key"), _number(HeaderValue, "raw_value")
_OVERWRITE: bytes = HeaderValueOption(append_action=HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD).SerializeToString()

_DYNAMIC_METADATA = _number(ProcessingResponse, "dynamic_metadata")
_FIELDS = _number(Struct, "fields")
_STRUCT_VALUE, _STRING_VALUE = _number(Value, "struct_value"), _number(Value, "string_value")
_ENTRY_KEY, _ENTRY_VALUE = 1, 2
"""Fields of a map's entries, as the encoding defines them."""
_DOUBLE = Packer("<d")

CLEAR_ROUTE_CACHE: dict[Phase, bytes] = {
    phase: _reply(phase, CommonResponse(clear_route_cache=True)) for phase in ("request_headers", "request_body")
}


def set_header(phase: Phase, name: str, value: bytes) -> bytes:
    """A header that is set. Nothing of it is kept: values are paths, lengths and keys that rotate."""
    header = _delimited(_HEADER_KEY, name.encode()) + _delimited(_HEADER_VALUE, value)
    option = _delimited(_OPTION_HEADER, header) + _OVERWRITE
    return _nested(_SET_PATHS[phase], option)


def remove_header(phase: Phase, name: str) -> bytes:
    return _nested(_REMOVE_PATHS[phase], name.encode("latin-1"))


def _nested(path: tuple[int, ...], payload: bytes) -> bytes:
    """A message inside others; `path` has the numbers of the fields around it, the innermost first."""
    for number in path:
        payload = _delimited(number, payload)
    return payload


def new_body(body: bytes) -> tuple[bytes, bytes]:
    """A request's new body, as the bytes before it and itself."""
    head = b""
    size = len(body)
    for number in _BODY_PATH:
        head = bytes((number << 3 | _LENGTH_DELIMITED,)) + _varint(size + len(head)) + head
    return head, body


def _varint(value: int) -> bytes:
    if value <= 0x7F:
        return bytes((value,))
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def metadata(namespaces: Metadata) -> bytes:
    """Dynamic metadata of a reply. Names are constants and kept; values, such as a model's name, are not."""
    out = b""
    for namespace, values in namespaces.items():
        fields = b"".join([_member(name, value) for name, value in values.items()])
        out += _delimited(_FIELDS, _name(namespace) + _delimited(_ENTRY_VALUE, _delimited(_STRUCT_VALUE, fields)))
    return _delimited(_DYNAMIC_METADATA, out)


def _member(name: str, value: str | float | bool) -> bytes:
    """One field of a `Struct`."""
    if isinstance(value, bool):
        return _flag(name, value)
    if not isinstance(value, str):
        return _number_head(name) + _DOUBLE.pack(value)
    return _delimited(_FIELDS, _name(name) + _delimited(_ENTRY_VALUE, _delimited(_STRING_VALUE, value.encode())))


def number_metadata(namespace: str, facts: Mapping[str, float | bool]) -> bytes:
    """Dynamic metadata that differs with every request: numbers, each of which takes the same room, and flags."""
    fields = b"".join([_member(name, value) for name, value in facts.items()])
    value = _delimited(_STRUCT_VALUE, fields)
    return _delimited(_DYNAMIC_METADATA, _delimited(_FIELDS, _name(namespace) + _delimited(_ENTRY_VALUE, value)))


@lru_cache(maxsize=_KEPT)
def _number_head(name: str) -> bytes:
    """A field of a `Struct` up to its number, which is the last thing in it."""
    whole: bytes = Struct(fields={name: Value(number_value=1.0)}).SerializeToString()
    return whole[: -_DOUBLE.size]


@lru_cache(maxsize=_KEPT)
def _flag(name: str, value: bool) -> bytes:
    whole: bytes = Struct(fields={name: Value(bool_value=value)}).SerializeToString()
    return whole


@lru_cache(maxsize=_KEPT)
def _name(name: str) -> bytes:
    return _delimited(_ENTRY_KEY, name.encode())


def _delimited(number: int, payload: bytes) -> bytes:
    return bytes((number << 3 | _LENGTH_DELIMITED,)) + _varint(len(payload)) + payload


def struct(namespaces: Metadata) -> Struct:
    outer = Struct()
    for namespace, values in namespaces.items():
        fields = outer.fields[namespace].struct_value.fields
        for name, value in values.items():
            if isinstance(value, str):
                fields[name].string_value = value
            elif isinstance(value, bool):
                fields[name].bool_value = value
            else:
                fields[name].number_value = value
    return outer
