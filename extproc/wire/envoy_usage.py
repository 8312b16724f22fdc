"""`envoy.data.ai.v3.TokenUsage`, of which the published stubs know nothing yet: what Envoy counted in an answer."""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

from extproc.payload.usage import Usage

_FAILED = 3
"""Value of `ExtractionStatus`: the numbers mean nothing."""


def _message_class() -> Any:
    """From a descriptor of its own, in a pool of its own, so that stubs that may come do not clash with it."""
    file = FileDescriptorProto(name="sluice/token_usage.proto", package="sluice", syntax="proto3")

    def add(name: str, fields: dict[str, tuple[int, str]]) -> None:
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            scalar = kind == "uint64"
            message.field.add(
                name=field,
                number=number,
                label=FieldDescriptorProto.LABEL_OPTIONAL,
                type=FieldDescriptorProto.TYPE_UINT64 if scalar else FieldDescriptorProto.TYPE_MESSAGE,
                type_name=None if scalar else f".sluice.{kind}",
            )

    add("Number", {"value": (1, "uint64")})  # google.protobuf.UInt64Value, on the wire
    add("Input", {"cached": (1, "Number")})
    add("Output", {"reasoning": (1, "Number")})
    add(
        "TokenUsage",
        {
            "input_tokens": (3, "Number"),
            "output_tokens": (4, "Number"),
            "input_details": (6, "Input"),
            "output_details": (7, "Output"),
            "status": (9, "uint64"),
        },
    )
    pool = DescriptorPool()
    pool.Add(file)
    return GetMessageClass(pool.FindMessageTypeByName("sluice.TokenUsage"))


_TokenUsage = _message_class()


def read_usage(data: bytes) -> Usage | None:
    """None where Envoy has found no numbers. Raises google.protobuf.message.DecodeError for what is no message."""
    found = _TokenUsage.FromString(data)
    if found.status == _FAILED or not (found.HasField("input_tokens") or found.HasField("output_tokens")):
        return None
    return Usage(
        prompt_tokens=found.input_tokens.value,
        completion_tokens=found.output_tokens.value,
        cached_tokens=found.input_details.cached.value,
        reasoning_tokens=found.output_details.reasoning.value,
    )
