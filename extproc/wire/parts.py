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


class _Around:
    """The bytes that stand before a payload in nested fields: looked up for short payloads, made for longer ones.

    `path` has the numbers of the fields around the payload, the innermost first.
    """

    __slots__ = ("_heads", "_path")
    _SHORT = 256

    def __init__(self, *path: int) -> None:
        self._path = path
        self._heads = [self.head(size) for size in range(self._SHORT)]

    def head(self, size: int) -> bytes:
        head = b""
        for number in self._path:
            head = bytes((number << 3 | _LENGTH_DELIMITED,)) + _varint(size + len(head)) + head
        return head

    def __call__(self, payload: bytes) -> bytes:
        size = len(payload)
        return (self._heads[size] if size < self._SHORT else self.head(size)) + payload


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


_NEW_BODY = _Around(
    _number(BodyMutation, "body"),
    _number(CommonResponse, "body_mutation"),
    _number(BodyResponse, "response"),
    _number(ProcessingResponse, "request_body"),
)

_PHASES: dict[Phase, tuple[int, ...]] = {
    "request_headers": (_number(HeadersResponse, "response"), _number(ProcessingResponse, "request_headers")),
    "request_body": (_number(BodyResponse, "response"), _number(ProcessingResponse, "request_body")),
}
_MUTATION = _number(CommonResponse, "header_mutation")
_SET = {phase: _Around(_number(HeaderMutation, "set_headers"), _MUTATION, *path) for phase, path in _PHASES.items()}
_REMOVE = {
    phase: _Around(_number(HeaderMutation, "remove_headers"), _MUTATION, *path) for phase, path in _PHASES.items()
}
_OPTION = _Around(_number(HeaderValueOption, "header"))
_HEADER_KEY = _Around(_number(HeaderValue, "key"))
_HEADER_VALUE = _Around(_number(HeaderValue, "raw_value"))
_OVERWRITE: bytes = HeaderValueOption(append_action=HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD).SerializeToString()

_ENTRY_KEY, _ENTRY_VALUE = 1, 2
"""Fields of a map's entries, as the encoding defines them."""
_DYNAMIC_METADATA = _Around(_number(ProcessingResponse, "dynamic_metadata"))
_FIELD = _Around(_number(Struct, "fields"))
_NAMED = _Around(_ENTRY_KEY)
_STRING = _Around(_number(Value, "string_value"), _ENTRY_VALUE)
_STRUCT = _Around(_number(Value, "struct_value"), _ENTRY_VALUE)
_CONFIGURED = frozenset(("target", "kind", "route", "provider"))
"""Facts whose values the configuration names, so that there are few different ones and they are kept."""
_DOUBLE = Packer("<d")

CLEAR_ROUTE_CACHE: dict[Phase, bytes] = {
    phase: _reply(phase, CommonResponse(clear_route_cache=True)) for phase in ("request_headers", "request_body")
}


def set_header(phase: Phase, name: str, value: bytes) -> bytes:
    """A header that is set. Nothing of its value is kept: values are paths, lengths and keys that rotate."""
    return _before_header(phase, name, len(value)) + value + _OVERWRITE


@lru_cache(maxsize=_KEPT)
def _before_header(phase: Phase, name: str, size: int) -> bytes:
    """All that stands in front of a value of `size` bytes."""
    value = bytes(size)
    whole = _SET[phase](_OPTION(_HEADER_KEY(name.encode()) + _HEADER_VALUE(value)) + _OVERWRITE)
    return whole[: len(whole) - size - len(_OVERWRITE)]


def remove_header(phase: Phase, name: str) -> bytes:
    return _REMOVE[phase](name.encode("latin-1"))


def new_body(body: bytes) -> tuple[bytes, bytes]:
    """A request's new body, as the bytes before it and itself."""
    return _NEW_BODY.head(len(body)), body


def metadata(namespaces: Metadata) -> bytes:
    """Dynamic metadata of a reply. What clients name, such as a model, is not kept."""
    out = b""
    for namespace, values in namespaces.items():
        fields = b"".join([_member(name, value) for name, value in values.items()])
        out += _FIELD(_name(namespace) + _STRUCT(fields))
    return _DYNAMIC_METADATA(out)


def _member(name: str, value: str | float | bool) -> bytes:
    """One field of a `Struct`."""
    if isinstance(value, str):
        if name in _CONFIGURED:
            return _text(name, value)
        encoded = value.encode()
        return _before_text(name, len(encoded)) + encoded
    return _flag(name, value) if isinstance(value, bool) else _number_head(name) + _DOUBLE.pack(value)


def number_metadata(namespace: str, facts: Mapping[str, float | bool]) -> bytes:
    """Dynamic metadata that differs with every request: numbers, each of which takes the same room, and flags."""
    fields = b"".join([_member(name, value) for name, value in facts.items()])
    return _DYNAMIC_METADATA(_FIELD(_name(namespace) + _STRUCT(fields)))


@lru_cache(maxsize=_KEPT)
def _text(name: str, value: str) -> bytes:
    return _FIELD(_name(name) + _STRING(value.encode()))


@lru_cache(maxsize=_KEPT)
def _before_text(name: str, size: int) -> bytes:
    """All that stands in front of a text of `size` bytes."""
    whole = _FIELD(_name(name) + _STRING(bytes(size)))
    return whole[: len(whole) - size]


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
    return _NAMED(name.encode())


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
