"""Chat requests of an exact size."""

from __future__ import annotations

import json

from bench.filtercost.manifests import CLIENT_MODEL

_TURN = 12 * (
    'The gateway sends each request to the endpoint with the least load; "in flight" is counted here, and what the '
    "engines report corrects it.\nTies are broken at random. 请求被发送到负载最低的端点。\n"
)
_PADDING = "Which endpoint of the pool takes this request, and why that one? "


def chat_request(size: int, *, stream: bool = False) -> bytes:
    """A chat completion request of exactly `size` bytes (at least 300): a system prompt and turns of a conversation."""
    request: dict[str, object] = {"model": CLIENT_MODEL}
    if stream:
        request["stream"] = True
    messages = [{"role": "system", "content": "You are a helpful assistant."}]
    request |= {"temperature": 0.7, "max_tokens": 256, "messages": messages}
    last = {"role": "user", "content": ""}
    pair = [{"role": "user", "content": _TURN}, {"role": "assistant", "content": _TURN}]
    room = size - len(_encode(request | {"messages": [*messages, last]}))
    pairs = room // (len(_encode(pair)) - 1)
    room -= pairs * (len(_encode(pair)) - 1)
    last["content"] = (_PADDING * (room // len(_PADDING) + 1))[:room]
    return _encode(request | {"messages": [*messages, *(pairs * pair), last]})


def _encode(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
