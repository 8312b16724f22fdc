"""Usage in every shape that providers print, and in none."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.payload.usage import Usage, usage_from_json


@pytest.mark.parametrize(
    ("answer", "usage"),
    [
        (
            {
                "usage": {
                    "prompt_tokens": 10,
                    "completion_tokens": 5,
                    "total_tokens": 15,
                    "prompt_tokens_details": {"cached_tokens": 4},
                    "completion_tokens_details": {"reasoning_tokens": 3},
                }
            },
            Usage(10, 5, 4, 3),
        ),
        ({"usage": {"prompt_tokens": 8, "total_tokens": 8}}, Usage(8)),
        ({"usage": {"prompt_tokens": 8, "completion_tokens": 1, "prompt_tokens_details": None}}, Usage(8, 1)),
        ({"usage": {"prompt_tokens": 8, "completion_tokens": 1, "cached_tokens": 6}}, Usage(8, 1, 6)),
        ({"usage": {"prompt_tokens": 8, "completion_tokens": 1, "prompt_cache_hit_tokens": 6}}, Usage(8, 1, 6)),
        (
            {
                "usage": {
                    "input_tokens": 10,
                    "output_tokens": 5,
                    "input_tokens_details": {"cached_tokens": 4},
                    "output_tokens_details": {"reasoning_tokens": 3},
                }
            },
            Usage(10, 5, 4, 3),
        ),
        ({"type": "response.completed", "response": {"usage": {"input_tokens": 1, "output_tokens": 2}}}, Usage(1, 2)),
        (
            {
                "type": "message_start",
                "message": {
                    "usage": {
                        "input_tokens": 3,
                        "cache_read_input_tokens": 20,
                        "cache_creation_input_tokens": 100,
                        "output_tokens": 1,
                    }
                },
            },
            Usage(123, 1, 20, 0, 100),
        ),
        ({"type": "message_delta", "usage": {"output_tokens": 9}}, Usage(0, 9)),
        ({"choices": [{"delta": {}}, {"usage": {"prompt_tokens": 1, "completion_tokens": 2}}]}, Usage(1, 2)),
        ({"usage": None, "choices": [{"usage": {"prompt_tokens": 1, "completion_tokens": 2}}]}, Usage(1, 2)),
        ({"usage": {"prompt_tokens": "8", "completion_tokens": 2}}, Usage(0, 2)),
        ({"usage": {"prompt_tokens": -1, "completion_tokens": 2}}, Usage(0, 2)),
        ({"usage": {"prompt_tokens": True, "completion_tokens": 2}}, Usage(0, 2)),
        ({"usage": {"prompt_tokens": 10**30, "completion_tokens": 1.5}}, None),
        ({"usage": {"prompt_tokens": 1, "completion_tokens_details": {"reasoning_tokens": 2.5}}}, Usage(1)),
        ({"usage": {}}, None),
        ({"usage": []}, None),
        ({"usage": "x"}, None),
        ({"usage": None}, None),
        ({"choices": "x", "message": 3, "response": [], "usage": 1}, None),
        ({"tool": {"usage": {"prompt_tokens": 1}}}, None),
        ({"id": "x"}, None),
        ([{"usage": {"prompt_tokens": 1}}], Usage(1)),
    ],
)
def test_usage_of_an_answer(answer: Any, usage: Usage | None) -> None:
    assert usage_from_json(json.dumps(answer).encode()) == usage


@pytest.mark.parametrize(
    "body", [b"", b"{", b'{"usage":{', b"\xff", b'{"usage":{"prompt_tokens":1e999}}', b'{"usage":' + b"[" * 100_000]
)
def test_no_usage_in_broken_answers(body: bytes) -> None:
    assert usage_from_json(body) is None


def test_half_an_emoji_does_not_hide_usage() -> None:
    body = b'{"choices":[{"delta":{"content":"\\ud83d"}}],"usage":{"prompt_tokens":1,"completion_tokens":2}}'
    assert usage_from_json(body) == Usage(1, 2)


@given(st.binary(max_size=30), st.binary(max_size=30))
def test_usage_never_raises(head: bytes, tail: bytes) -> None:
    usage_from_json(head + b'"usage"' + tail)
    usage_from_json(b'{"usage":{' + tail)
