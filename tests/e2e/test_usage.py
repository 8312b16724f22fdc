"""Tokens counted by Envoy and by the filter: the same numbers, and the same bytes for the client."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.e2e.talk import Reply, send, sending
from tests.payload import streams
from tests.support.gateway import Gateway, Gateways, pool, route
from tests.support.pieces import Pieces
from tests.support.processes import wait_until

ASKED = {"include_usage": True}
FORMS: Mapping[str, bytes] = {
    "openai": streams.OPENAI_WHOLE,
    "crlf": streams.CRLF,
    "cr": streams.CR,
    "usage with the last content": streams.MODEL_LAST.replace(
        b'{"choices"', b'{"object":"chat.completion.chunk","choices"'
    ),
    "spaces": streams.OPENAI + streams.OPENAI_USAGE_ONLY.replace(b'":', b'": ').replace(b",", b", ") + streams.DONE,
    "without done": streams.OPENAI + streams.OPENAI_USAGE_ONLY,
    "comments": b": ping\n\n" + streams.OPENAI + b": ping\n\n" + streams.OPENAI_USAGE_ONLY + streams.DONE,
    "usage early": streams.OPENAI_USAGE_ONLY + streams.OPENAI + streams.DONE,
}
ANSWER = json.dumps(
    {
        "id": "1",
        "object": "chat.completion",
        "created": 1,
        "model": "up-1",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "x"}}],
        "usage": streams.USAGE,
    }
).encode()


@pytest.fixture(scope="module")
def upstream() -> Iterator[Pieces]:
    with Pieces().serving() as found:
        yield found


@pytest.fixture(scope="module")
def gateway_of(gateways: Gateways, upstream: Pieces) -> Mapping[str, Gateway]:
    """By who counts."""
    return {
        usage: gateways.start(
            pool("gpus", [upstream.address], policy="least-request"),
            route("all", "*", {"backendRefs": [{"pool": "gpus"}]}),
            usage=usage,
        )
        for usage in ("envoy", "filter")
    }


@pytest.fixture(params=["envoy", "filter"])
def gateway(request: pytest.FixtureRequest, gateway_of: Mapping[str, Gateway]) -> Gateway:
    return gateway_of[request.param]


def ask(gateway: Gateway, model: str, path: str = "/v1/chat/completions", **fields: Any) -> Reply:
    body = {"model": model, "stream": True, "messages": [{"role": "user", "content": "hi"}], **fields}
    reply = send(gateway, body, path)
    assert reply.status == 200
    return reply


def counted(gateway: Gateway, model: str) -> tuple[object, object, object]:
    line = gateway.log_line(requested_model=model)
    return line["prompt_tokens"], line["completion_tokens"], line["usage_estimated"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("size", [10_000, 7])
def test_every_form_counts_the_same(gateway: Gateway, upstream: Pieces, form: str, size: int) -> None:
    whole, model = FORMS[form], f"{form} by {size}"
    upstream.pieces = [whole[at : at + size] for at in range(0, len(whole), size)]
    assert ask(gateway, model, stream_options=ASKED).body == whole
    assert counted(gateway, model) == (7, 3, False)


@pytest.mark.parametrize(
    ("path", "answer", "completion"),
    [("/v1/responses", streams.RESPONSES, 3), ("/v1/messages", streams.ANTHROPIC, 3)],
)
def test_other_operations_count_the_same(
    gateway: Gateway, upstream: Pieces, path: str, answer: bytes, completion: int
) -> None:
    upstream.pieces = [answer]
    body = {"input": "hi"} if path.endswith("responses") else {"max_tokens": 5}
    assert ask(gateway, path, path, **body).body == answer
    assert counted(gateway, path) == (7, completion, False)


@pytest.mark.parametrize("form", ["openai", "crlf", "cr", "spaces", "without done", "usage early"])
def test_the_event_that_nobody_asked_for_is_taken_out(gateway: Gateway, upstream: Pieces, form: str) -> None:
    whole, model = FORMS[form], f"{form} not asked"
    upstream.pieces = [whole]
    body = ask(gateway, model).body
    assert b"prompt_tokens" not in body.replace(rb"{\"usage\":{\"prompt_tokens\":99}}", b"")
    assert counted(gateway, model) == (7, 3, False)
    assert b"include_usage" in upstream.bodies[-1]


@pytest.mark.parametrize("form", ["openai", "crlf", "cr", "usage early"])
def test_it_is_taken_out_wherever_the_chunks_are_cut(
    gateway_of: Mapping[str, Gateway], upstream: Pieces, form: str
) -> None:
    whole = FORMS[form]
    upstream.pieces = [whole]
    wanted = ask(gateway_of["filter"], "whole").body
    around = whole.index(b'"choices":[],') - 120
    for at in range(max(1, around), min(len(whole), around + 420)):
        upstream.pieces = [whole[:at], whole[at:]]
        assert ask(gateway_of["envoy"], "cut").body == wanted, at
    upstream.pieces = [whole[at : at + 1] for at in range(len(whole))]
    assert ask(gateway_of["envoy"], "cut to pieces").body == wanted


def test_what_envoy_cannot_read_is_read_by_the_filter(gateway: Gateway, upstream: Pieces) -> None:
    upstream.headers, upstream.pieces = "content-encoding: gzip\r\n", [gzip.compress(streams.OPENAI_WHOLE)]
    try:
        ask(gateway, "compressed", stream_options=ASKED)
    finally:
        upstream.headers = ""
    assert counted(gateway, "compressed") == (7, 3, False)


@pytest.mark.parametrize("length", [True, False])
@pytest.mark.parametrize("stream", [True, False])
def test_answers_that_are_no_stream_are_read_by_the_filter(
    gateway: Gateway, upstream: Pieces, length: bool, stream: bool
) -> None:
    model = f"whole {length} {stream}"
    upstream.content_type, upstream.pieces, upstream.with_length = "application/json", [ANSWER], length
    try:
        assert ask(gateway, model, stream=stream).body == ANSWER
    finally:
        upstream.content_type, upstream.with_length = "text/event-stream", False
    assert counted(gateway, model) == (7, 3, False)


def test_what_ends_without_usage_is_estimated_and_its_load_given_back(gateway: Gateway, upstream: Pieces) -> None:
    prompt, answer = (f"sluice_{kind}_tokens_total" for kind in ("prompt", "completion"))
    for model in ("no usage", "left"):
        before = gateway.metric(prompt, estimated="true"), gateway.metric(answer, estimated="true")
        upstream.pieces = [streams.OPENAI] * (1 if model == "no usage" else 1000)
        body = {"model": model, "stream": True, "messages": [{"role": "user", "content": "hi " * 100}]}
        with sending(gateway, body) as response:
            assert response.read() if model == "no usage" else response.read(100)
        wait_until(lambda: gateway.metric("sluice_endpoint_in_flight", pool="gpus") == 0, "the load given back", 20)
        assert gateway.metric(prompt, estimated="true") > before[0]
        assert gateway.metric(answer, estimated="true") > before[1]
