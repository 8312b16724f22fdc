"""Answers of providers as they come over the wire, for several tests."""

import json
from itertools import pairwise
from typing import Any

LETTERS = 'ab",:{}[]\\/ \n\x00\x7fé好\u2028\ufeff😀'
"""What text in JSON is made of, as far as reading it can go wrong."""


def event(data: Any, ending: bytes = b"\n", name: str = "") -> bytes:
    head = b"event: " + name.encode() + ending if name else b""
    return head + b"data: " + json.dumps(data, separators=(",", ":")).encode() + ending + ending


def openai_chunk(text: str, **more: Any) -> dict[str, Any]:
    choices = [{"index": 0, "delta": {"content": text}, "finish_reason": None}]
    return {"id": "c-1", "object": "chat.completion.chunk", "created": 1, "model": "up-1", "choices": choices, **more}


USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
DONE = b"data: [DONE]\n\n"
TEXTS = ("", "Hel", 'lo "model":"x" \\', '{"usage":{"prompt_tokens":99}}', "你好 data: x")

OPENAI = b"".join(event(openai_chunk(text, usage=None)) for text in TEXTS)
OPENAI_USAGE_ONLY = event(openai_chunk("") | {"choices": [], "usage": USAGE})
OPENAI_WHOLE = OPENAI + OPENAI_USAGE_ONLY + DONE

# the model's name comes last, as some providers write it, and usage comes with the last content
MODEL_LAST = b"".join(
    event({"choices": [{"delta": {"content": text}}], "usage": usage, "model": "up-1", "id": "c"})
    for text, usage in (*((text, None) for text in TEXTS), ("end", USAGE))
)
ANTHROPIC = b"".join(
    event(data, name=str(data["type"]))
    for data in (
        {"type": "message_start", "message": {"model": "up-1", "usage": {"input_tokens": 7, "output_tokens": 1}}},
        {"type": "content_block_delta", "delta": {"text": "x"}},
        {"type": "message_delta", "usage": {"output_tokens": 3}},
        {"type": "message_stop"},
    )
)
RESPONSES = b"".join(
    event(data, name=str(data["type"]))
    for data in (
        {"type": "response.created", "response": {"id": "r", "model": "up-1", "usage": None}},
        {"type": "response.output_text.delta", "delta": "x"},
        {"type": "response.completed", "response": {"model": "up-1", "usage": {"input_tokens": 7, "output_tokens": 3}}},
    )
)
CRLF = OPENAI_WHOLE.replace(b"\n", b"\r\n")
CR = OPENAI_WHOLE.replace(b"\n", b"\r")
MIXED = (
    b"\xef\xbb\xbf: hello\n\n\n"
    + b'event: x\ndata: {"model":\ndata:"up-1",\ndata: "usage" :\n'
    + b'data: {"prompt_tokens":7,"completion_tokens":3}}\nid: 1\n\n'
    + b': ping\r\n\r\ndata: not json "model"\n\n'
    + b'data:{"choices":[{"delta":{"content":"\\ud83d"}}],"model":"up-1"}\n\n'
    + event(openai_chunk("end"))[:-2]
)
JSON_ANSWER = json.dumps({"model": "up-1", "choices": [], "usage": USAGE}, indent=1).encode()
ALL = (OPENAI_WHOLE, MODEL_LAST, ANTHROPIC, RESPONSES, CRLF, CR, MIXED, JSON_ANSWER, b"\n " + JSON_ANSWER + b"\n\n")


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    """The data in pieces that end at the given offsets."""
    at = sorted({min(c, len(data)) for c in cuts} | {0, len(data)})
    return [data[a:b] for a, b in pairwise(at)]
