"""Copies of answers for the cache: whole, as they came, or not at all."""

from __future__ import annotations

import gzip
import json

import pytest

from extproc.exchange.exchange import Exchange
from extproc.exchange.values import Decision, ResponsePlan

JSON = {":status": b"200", "content-type": b"application/json"}
SSE = {":status": b"200", "content-type": b"text/event-stream"}
ANSWER = b'{"object":"chat.completion","model":"theirs","choices":[{"index":0,"finish_reason":"stop"}]}'


def chunk(**delta: str) -> bytes:
    finish = None if delta else "stop"
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    data = {"object": "chat.completion.chunk", "id": "1", "model": "theirs", "choices": [choice]}
    return b"data: " + json.dumps(data).encode() + b"\n\n"


STREAM = chunk(role="assistant", content="a") + chunk(content="b") + chunk() + b"data: [DONE]\n\n"


def exchange(headers: dict[str, bytes], *pieces: bytes, end: bool = True, **plan: object) -> Exchange:
    found = Exchange(1 << 20)
    found.request_headers(end=False)
    found.request_body()
    found.decided(Decision({}, plan=ResponsePlan(**{"keep": 10_000, **plan})))  # type: ignore[arg-type]
    found.response_headers(headers, end=False)
    for number, piece in enumerate(pieces):
        found.response_body(piece, end=end and number == len(pieces) - 1, now=0.0)
    if not end:
        found.closed()
    return found


def said(found: Exchange) -> str:
    assert found.kept is not None
    text: str = json.loads(found.kept)["choices"][0]["message"]["content"]
    return text


@pytest.mark.parametrize("model", [None, "ours"])
def test_json_is_kept_as_the_destination_sent_it(model: str | None) -> None:
    assert exchange(JSON, ANSWER[:20], ANSWER[20:], model=model).kept == ANSWER
    assert exchange({**JSON, "content-encoding": b"gzip"}, gzip.compress(ANSWER), model=model).kept == ANSWER


@pytest.mark.parametrize("model", [None, "ours"])
@pytest.mark.parametrize("cut", range(0, len(STREAM), 37))
def test_a_stream_is_kept_as_the_json_that_says_the_same(model: str | None, cut: int) -> None:
    found = exchange(SSE, STREAM[:cut], STREAM[cut:], model=model)
    assert said(found) == "ab"
    assert b'"theirs"' in (found.kept or b"")
    packed = gzip.compress(STREAM)
    assert said(exchange({**SSE, "content-encoding": b"gzip"}, packed[:30], packed[30:], model=model)) == "ab"


def test_what_is_not_whole_too_large_or_unwanted_is_not_kept() -> None:
    assert exchange(SSE, STREAM, end=False).kept is None
    assert exchange(SSE, STREAM[:-14]).kept is None
    assert exchange(JSON, ANSWER, keep=20).kept is None
    assert exchange(SSE, STREAM, keep=20).kept is None
    assert exchange(SSE, STREAM, keep=0).kept is None
    assert exchange({**JSON, ":status": b"500"}, ANSWER).kept is None
    assert exchange({**SSE, "content-encoding": b"gzip"}, gzip.compress(STREAM)[:60], b"\0\0\0\0").kept is None


def test_an_exchange_is_sent_once_it_is_decided() -> None:
    assert exchange(JSON, ANSWER).sent
    assert not Exchange(1).sent
