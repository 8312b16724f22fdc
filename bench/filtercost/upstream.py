"""A destination that costs next to nothing: fixed answers from a bare protocol, no HTTP library.

Answers POST with a chat completion, or, where the body asks for a stream, with server-sent events, each in a socket
write of its own. `GET /metrics` is what vLLM shows, `GET /seen` what arrived. Run as
`python -m bench.filtercost.upstream PORT…`.
"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import dataclass
from typing import cast

import uvloop

EVENTS = 200
"""Events with a token in one streamed answer; the end marker and, where asked for, the usage follow."""
PAUSE = 0.002
"""Seconds between two events, enough for each to travel alone."""

_KEPT = 4096
_JSON = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
_STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_LAST_CHUNK = b"0\r\n\r\n"
_METRICS = b"""# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{model_name="target-model"} 1.0
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{model_name="target-model"} 0.0
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{model_name="target-model"} 0.1
"""
_USAGE = {"prompt_tokens": 211, "completion_tokens": EVENTS, "total_tokens": 211 + EVENTS}
_ANSWER = {
    "id": "chatcmpl-8f6f1f2a",
    "object": "chat.completion",
    "created": 1700000000,
    "model": "target-model",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Least loaded first; ties are broken at random. " * 4},
            "finish_reason": "stop",
        }
    ],
    "usage": _USAGE,
}


@dataclass(slots=True)
class Seen:
    """What arrived and what was sent, over all ports."""

    requests: int = 0
    events: int = 0
    head: str = ""
    body: str = ""
    """Beginning of the last body."""


def _encode(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _event(choices: list[object], **more: object) -> bytes:
    head = {"id": "chatcmpl-8f6f1f2a", "object": "chat.completion.chunk", "created": 1700000000}
    return _chunk(b"data: " + _encode({**head, "model": "target-model", "choices": choices, **more}) + b"\n\n")


_REPLY = _JSON % (len(_encode(_ANSWER)), _encode(_ANSWER))
_TOKEN_EVENT = _event([{"index": 0, "delta": {"content": " token"}, "finish_reason": None}])
_USAGE_EVENT = _event([], usage=_USAGE)
_DONE_EVENT = _chunk(b"data: [DONE]\n\n")


class Connection(asyncio.Protocol):
    """One connection; requests come one after the other and have a `content-length` or no body."""

    def __init__(self, seen: Seen) -> None:
        self._seen = seen
        self._head = b""
        self._body = b""
        self._missing = 0
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self._missing:
            self._take(data)
            return
        self._head += data
        end = self._head.find(b"\r\n\r\n")
        if end < 0:
            return
        rest = self._head[end + 4 :]
        self._head = self._head[:end]
        self._missing = content_length(self._head)
        self._body = b""
        if self._missing:
            self._take(rest)
        else:
            self._answer()

    def _take(self, data: bytes) -> None:
        if len(self._body) < _KEPT:
            self._body += data[:_KEPT]
        self._missing -= len(data)
        if self._missing < 0:
            raise AssertionError("more bytes than `content-length` says")
        if not self._missing and data:
            self._answer()

    def _answer(self) -> None:
        head, body, self._head = self._head, self._body, b""
        if head.startswith(b"GET /metrics"):
            self._transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(_METRICS), _METRICS))
        elif head.startswith(b"GET /seen"):
            seen = self._seen
            facts = _encode({"requests": seen.requests, "events": seen.events, "head": seen.head, "body": seen.body})
            self._transport.write(_JSON % (len(facts), facts))
        else:
            self._seen.requests += 1
            self._seen.head, self._seen.body = head.decode("latin-1"), body.decode("utf-8", "replace")
            if b'"stream":true' in body:
                self._transport.write(_STREAM)
                self._next_event(EVENTS, b'"include_usage":true' in body)
            else:
                self._transport.write(_REPLY)

    def _next_event(self, left: int, usage: bool) -> None:
        if self._transport.is_closing():
            return
        self._seen.events += 1
        if left:
            self._transport.write(_TOKEN_EVENT)
            self._loop.call_later(PAUSE, self._next_event, left - 1, usage)
        elif usage:
            self._transport.write(_USAGE_EVENT)
            self._loop.call_later(PAUSE, self._next_event, 0, False)
        else:
            self._transport.write(_DONE_EVENT + _LAST_CHUNK)


def content_length(head: bytes) -> int:
    """Bytes of the body that follows a request's head. Raises ValueError for a chunked body."""
    for line in head.lower().split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name == b"content-length":
            return int(value)
        if name == b"transfer-encoding":
            raise ValueError("a chunked body: the requests here have a length")
    return 0


async def serve(ports: list[int]) -> None:
    """Listens on all ports until the process is ended."""
    seen = Seen()
    loop = asyncio.get_running_loop()
    servers = [await loop.create_server(lambda: Connection(seen), "127.0.0.1", port) for port in ports]
    await asyncio.gather(*(server.serve_forever() for server in servers))


if __name__ == "__main__":
    uvloop.run(serve([int(port) for port in sys.argv[1:]]))
