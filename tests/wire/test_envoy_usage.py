"""Envoy's message about tokens, as its bytes on the wire."""

from __future__ import annotations

import pytest
from google.protobuf.message import DecodeError

from extproc.payload.usage import Usage
from extproc.wire.envoy_usage import read_usage

MODEL = b"\x12\x02up"
INPUT, OUTPUT, CACHED, REASONING = (
    b"\x1a\x02\x08\x07",
    b"\x22\x02\x08\x03",
    b"\x32\x04\x0a\x02\x08\x05",
    b"\x3a\x04\x0a\x02\x08\x02",
)
COMPLETE, FAILED = b"\x48\x01", b"\x48\x03"


def test_numbers_are_read() -> None:
    assert read_usage(MODEL + INPUT + OUTPUT + COMPLETE) == Usage(7, 3)
    assert read_usage(INPUT + OUTPUT + CACHED + REASONING + COMPLETE) == Usage(7, 3, 5, 2)
    assert read_usage(OUTPUT + b"\x48\x02") == Usage(0, 3)


def test_no_numbers_are_no_usage() -> None:
    assert read_usage(MODEL + COMPLETE) is None
    assert read_usage(INPUT + OUTPUT + FAILED) is None


def test_bytes_that_are_no_message_are_refused() -> None:
    with pytest.raises(DecodeError):
        read_usage(b"\x1a\x7f")
