"""Messages with a piece of a body, read without the library: it would copy the piece twice, and look at metadata that
comes with it and that nobody wants.

Only what Envoy writes is read so: the body's message first, its fields in the order of their numbers. For anything else
the answer is None, and the library's.
"""

from __future__ import annotations

import msgspec
from envoy.service.ext_proc.v3.external_processor_pb2 import HttpBody, ProcessingRequest

_VARINT, _DELIMITED = 0, 2


class BodyPiece(msgspec.Struct, frozen=True, gc=False):
    body: bytes
    end_of_stream: bool


def _number(message: type, field: str) -> int:
    number: int = message.DESCRIPTOR.fields_by_name[field].number  # type: ignore[attr-defined]
    return number


KINDS = {_number(ProcessingRequest, kind) << 3 | _DELIMITED: kind for kind in ("request_body", "response_body")}
"""By the first byte of a message."""
_BODY = _number(HttpBody, "body") << 3 | _DELIMITED
_END = _number(HttpBody, "end_of_stream") << 3 | _VARINT


def read_piece(data: bytes) -> BodyPiece | None:
    """The piece in a message whose first byte is one of `KINDS`."""
    try:
        size, at = _varint(data, 1)
        stop = at + size
        body, end = b"", False
        if at < stop and data[at] == _BODY:
            size, at = _varint(data, at + 1)
            body = data[at : at + size]
            at += size
        if at < stop and data[at] == _END:
            end, at = data[at + 1] == 1, at + 2
    except IndexError:
        return None
    return BodyPiece(body, end) if at == stop <= len(data) else None


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """The number at an offset, and the offset behind it."""
    value = data[at]
    if value < 0x80:
        return value, at + 1
    value &= 0x7F
    for shift in range(7, 35, 7):
        at += 1
        byte = data[at]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at + 1
    raise IndexError("a length of more than 32 bits")
