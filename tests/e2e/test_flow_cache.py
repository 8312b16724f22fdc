"""Answers out of the cache, in either form, for those who may share them."""

from __future__ import annotations

from collections.abc import Iterator

import openai
import pytest

from tests.e2e.talk import Reply, hello, send
from tests.support.chat import Chat
from tests.support.far_side import FarSide
from tests.support.gateway import Gateway, Gateways, manifest, pool, route
from tests.support.held import Held
from tests.support.processes import wait_until
from tests.support.traffic import cache, host

USER = "http.request.header.x-user"
HOSTS = ("all", "users", "tiny", "masked")


@pytest.fixture(scope="module")
def held(far_side: FarSide) -> Iterator[Held]:
    with Held(far_side) as one:
        yield one


@pytest.fixture(scope="module")
def gateway(gateways: Gateways, far_side: FarSide, held: Held) -> Gateway:
    """An engine that answers behind most hosts, and one that holds behind `held`."""
    engine = far_side.engine(answer_tokens=8)
    rules = [
        route(name, name, {"backendRefs": [{"pool": "engine", "model": "qwen3-8b"}], "responseModel": "requested"})
        for name in HOSTS
    ]
    return gateways.start(
        pool("engine", [engine.address]),
        pool("held", [held.address]),
        *rules,
        route("held", "held", {"backendRefs": [{"pool": "held"}]}),
        cache("all", host("all"), scopeLabelKeys=[]),
        cache("users", host("users"), scopeLabelKeys=[USER]),
        cache("tiny", host("tiny"), maxEntrySize=10),
        cache("held", host("held"), scopeLabelKeys=[]),
        cache("masked", host("masked"), scopeLabelKeys=[]),
        manifest("LLMSecurityPolicy", "mask", targets={"hosts": ["masked"]}, classifier={"enabled": False}),
        telemetry={"auditLog": True},
    )


def ask(gateway: Gateway, at: str, text: str, **headers: str) -> Reply:
    return send(gateway, {"model": "m", "messages": [{"role": "user", "content": text}]}, host=at, **headers)


def calls(gateway: Gateway) -> float:
    return gateway.metric("sluice_exchanges_total", ending="completed")


def test_an_answer_is_given_again_in_either_form(gateway: Gateway) -> None:
    def streamed(text: str) -> tuple[str, str, int]:
        with (
            openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="any", default_headers={"host": "all"}) as client,
            client.chat.completions.with_raw_response.create(
                model="m",
                messages=[{"role": "user", "content": text}],
                stream=True,
                stream_options={"include_usage": True},
            ).parse() as stream,
        ):
            chunks = list(stream)
        said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        usage = chunks[-1].usage
        assert usage is not None
        assert {chunk.model for chunk in chunks} == {"m"}
        return said, stream.response.headers["x-sluice-cache"], usage.completion_tokens

    def whole(text: str) -> tuple[str, str, int]:
        reply = ask(gateway, "all", text)
        assert reply.status == 200
        assert reply.json["model"] == "m"
        said = reply.json["choices"][0]["message"]["content"]
        return said, reply.headers["x-sluice-cache"], reply.json["usage"]["completion_tokens"]

    for first, second in ((whole, streamed), (streamed, whole)):
        text = f"tell me of {first.__name__}"
        said, status, tokens = first(text)
        assert status == "miss"
        before = calls(gateway)
        assert first(text) == (said, "hit", tokens)
        assert second(text) == (said, "hit", tokens)
        assert calls(gateway) == before
    assert gateway.metric("sluice_exchanges_total", ending="cached") == 4
    assert gateway.metric("sluice_cache_requests_total", result="hit") == 4
    assert gateway.metric("sluice_cache_saved_tokens_total", type="completion") > 0
    assert gateway.metric("sluice_cache_entries", policy="CachingPolicy/all") == 2
    assert '"cache":"hit"' in gateway.filter.output()


def test_what_differs_is_asked_again_and_what_does_not_matter_is_not(gateway: Gateway) -> None:
    assert ask(gateway, "all", "one").headers["x-sluice-cache"] == "miss"
    body = hello(messages=[{"content": "one", "role": "user"}], user="somebody", model="m", metadata={"a": "b"})
    assert send(gateway, body, host="all").headers["x-sluice-cache"] == "hit"
    assert send(gateway, {**body, "temperature": 0.5}, host="all").headers["x-sluice-cache"] == "miss"


def test_who_does_not_share_a_scope_does_not_share_answers(gateway: Gateway) -> None:
    assert ask(gateway, "users", "secret", x_user="ann").headers["x-sluice-cache"] == "miss"
    assert ask(gateway, "users", "secret", x_user="bob").headers["x-sluice-cache"] == "miss"
    assert ask(gateway, "users", "secret", x_user="ann").headers["x-sluice-cache"] == "hit"


def test_no_store_and_large_answers_stay_out(gateway: Gateway) -> None:
    for _ in range(2):
        assert ask(gateway, "all", "not kept", cache_control="no-store").headers["x-sluice-cache"] == "bypass"
        assert ask(gateway, "tiny", "too long").headers["x-sluice-cache"] == "miss"


def test_what_was_masked_is_not_given_to_others(gateway: Gateway) -> None:
    for _ in range(2):
        reply = ask(gateway, "masked", "write to ann.lee@example.org")
        assert (reply.status, reply.headers["x-sluice-cache"]) == (200, "bypass")
    said = [ask(gateway, "masked", "nothing to hide").headers["x-sluice-cache"] for _ in range(2)]
    assert said == ["miss", "hit"]


def test_errors_are_not_kept(gateway: Gateway, held: Held) -> None:
    for status in (500, 200, None):
        with Chat(gateway.port, "held", model="errors") as one:
            if status is not None:
                held.next().answer(status)
            assert one.reply().status == (status or 200)


def test_identical_requests_at_once_become_one(gateway: Gateway, held: Held) -> None:
    arrived = held.arrived
    with Chat(gateway.port, "held", model="same") as first:
        call = held.next()
        with Chat(gateway.port, "held", model="same") as second, Chat(gateway.port, "held", model="same") as third:
            wait_until(lambda: gateway.metric("sluice_cache_joined", policy="CachingPolicy/held") == 2, "both joined")
            call.answer()
            replies = [each.reply() for each in (first, second, third)]
    assert [reply.status for reply in replies] == [200] * 3
    assert sorted(reply.headers["x-sluice-cache"] for reply in replies) == ["hit", "hit", "miss"]
    assert held.arrived == arrived + 1


def test_when_the_first_of_them_leaves_another_is_sent(gateway: Gateway, held: Held) -> None:
    with Chat(gateway.port, "held", model="leaves"):
        gone = held.next()
        with Chat(gateway.port, "held", model="leaves") as second:
            wait_until(lambda: gateway.metric("sluice_cache_joined", policy="CachingPolicy/held") == 1, "it joined")
            gone.reset()
            call = held.next()
            call.answer()
            assert second.reply().status == 200
