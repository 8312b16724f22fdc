"""Tokens: what answers state, however they are packed, and what is assumed where they state nothing."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any

import brotli
import pytest
import zstandard

from bench import answers
from bench.certs import Certificates
from bench.provider import ProviderServer
from tests.e2e.talk import CHAT, HELLO, Reply, hello, last, send, sending
from tests.support.far_side import FarSide
from tests.support.gateway import Gateway, Gateways, provider, route
from tests.support.processes import wait_until

HOST = "api.example.com"
PROMPT = answers.count_tokens(answers.render_chat(HELLO))
DECODERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda data: zlib.decompress(data, 31),
    "deflate": zlib.decompress,
    "br": brotli.decompress,
    "zstd": lambda data: zstandard.ZstdDecompressor().decompressobj().decompress(data),
}
MODELS = count()


@dataclass(frozen=True)
class World:
    gateway: Gateway
    provider: ProviderServer

    def ask(self, sim: str = "", host: str = "counted.test", path: str = CHAT, **body: Any) -> tuple[Reply, str]:
        """A good answer, and the model that nobody else in these tests asks for."""
        model = f"model-{next(MODELS)}"
        reply = send(self.gateway, {"model": model, **(body or hello())}, path, host=host, x_sim=sim)
        assert reply.status == 200, reply
        return reply, model

    def tokens(self, kind: str, model: str, **labels: str) -> float:
        return self.gateway.metric(f"sluice_{kind}_tokens_total", model=model, **labels)

    def counted(self, model: str, *, estimated: str = "false") -> tuple[float, float]:
        """Prompt and completion tokens of a model, once its exchange is accounted for."""
        wait_until(lambda: self.tokens("prompt", model), f"the tokens of {model}", 10)
        return tuple(self.tokens(kind, model, estimated=estimated) for kind in ("prompt", "completion"))  # type: ignore[return-value]

    def logged(self, model: str) -> dict[str, Any]:
        line = self.gateway.log_line(model=model)
        return {name: line[name] for name in ("prompt_tokens", "completion_tokens", "cached_tokens", "usage_estimated")}


@pytest.fixture(scope="module")
def world(far_side: FarSide, gateways: Gateways, certificates: Certificates) -> World:
    """`counted.test` passes answers as they are; `edited.test` also restores the model's name in them."""
    acme = far_side.provider(certificates)
    gateway = gateways.start(
        provider("acme", HOST, port=443),
        route("counted", "counted.test", {"backendRefs": [{"provider": "acme"}]}),
        route(
            "edited",
            "edited.test",
            {"backendRefs": [{"provider": "acme", "model": "other"}], "responseModel": "requested"},
        ),
        trustedCa=str(certificates.ca),
        hostAliases={HOST: acme.address},
        telemetry={"maxLabelValues": 1000},
        split=True,
    )
    return World(gateway, acme)


def completion_of(reply: Reply) -> int:
    """Tokens of the text in an answer, by the simulators' rule."""
    if reply.body.startswith(b"{"):
        return answers.count_tokens(reply.json["choices"][0]["message"]["content"])
    text = "".join(event["choices"][0]["delta"].get("content") or "" for event in reply.events[:-1])
    return answers.count_tokens(text)


SIMS = ["", "crlf", "no-final-newline", "crlf,no-final-newline", "split", "usage-null", "json-to-stream", "events:300"]


@pytest.mark.parametrize("sim", SIMS)
@pytest.mark.parametrize("stream", [False, True])
def test_stated_usage(world: World, sim: str, stream: bool) -> None:
    reply, model = world.ask(sim, **hello(stream=stream))
    wanted = completion_of(reply)
    assert world.counted(model) == (PROMPT, wanted)
    assert world.logged(model) == {
        "prompt_tokens": PROMPT,
        "completion_tokens": wanted,
        "cached_tokens": 0,
        "usage_estimated": False,
    }


@pytest.mark.parametrize("host", ["counted.test", "edited.test"])
@pytest.mark.parametrize("encoding", DECODERS)
@pytest.mark.parametrize("stream", [False, True])
def test_compressed_answers(world: World, encoding: str, stream: bool, host: str) -> None:
    """Read where nobody edits them and still compressed for the client; decoded where an edit needs it."""
    options = {"stream_options": {"include_usage": True}} if stream else {}
    reply, model = world.ask(f"{encoding},split", host, **hello(stream=stream, **options))
    packed = host == "counted.test"
    assert reply.headers.get("content-encoding") == (encoding if packed else None)
    plain = DECODERS[encoding](reply.body) if packed else reply.body
    assert plain.startswith(b"data: " if stream else b"{")
    line = world.gateway.log_line(requested_model=model)
    assert (line["prompt_tokens"], line["usage_estimated"]) == (PROMPT, False)
    assert line["completion_tokens"] > 10


def test_the_usage_chunk_is_taken_out_of_a_compressed_stream(world: World) -> None:
    reply, model = world.ask("gzip,split", **hello(stream=True))
    assert "content-encoding" not in reply.headers
    assert all(event == "[DONE]" or event["choices"] for event in reply.events)
    assert world.counted(model) == (PROMPT, completion_of(reply))


def test_cached_and_reasoning_tokens(world: World) -> None:
    for stream in (False, True):
        _, model = world.ask("cached:5,reasoning:7", **hello(stream=stream))
        assert world.counted(model)[0] == PROMPT
        assert (world.tokens("cached", model), world.tokens("reasoning", model)) == (5, 7)
        assert world.logged(model)["cached_tokens"] == 5


def test_embeddings_have_prompt_tokens_only(world: World) -> None:
    reply, model = world.ask(path="/v1/embeddings", input=["你好", "hello"])
    assert reply.json["usage"]["prompt_tokens"] == 4
    assert world.counted(model) == (4, 0)


@pytest.mark.parametrize("stream", [False, True])
def test_usage_that_is_not_stated_is_estimated_from_earlier_answers(world: World, stream: bool) -> None:
    """The simulators' tokenizer makes fewer tokens of Chinese than the starting ratio; answers teach that."""
    body = hello(stream=stream, messages=[{"role": "user", "content": "请介绍你自己" * 200}])
    _, model = world.ask("no-usage", **body)
    naive = world.counted(model, estimated="true")
    assert world.tokens("prompt", model, estimated="false") == 0
    assert world.logged(model)["usage_estimated"] is True

    learned = f"model-{next(MODELS)}"
    for sim in ["events:100"] * 10 + ["no-usage,events:100"]:
        assert send(world.gateway, {**body, "model": learned}, host="counted.test", x_sim=sim).status == 200
    wait_until(lambda: world.tokens("prompt", learned, estimated="true"), "the estimate", 10)
    stated = [world.tokens(kind, learned, estimated="false") / 10 for kind in ("prompt", "completion")]
    guessed = world.counted(learned, estimated="true")
    assert guessed[0] == pytest.approx(stated[0], rel=0.1)
    assert guessed[1] == pytest.approx(stated[1], rel=0.2)
    assert abs(guessed[0] - stated[0]) < abs(naive[0] - stated[0])


def test_errors_cost_nothing(world: World) -> None:
    model = f"model-{next(MODELS)}"
    reply = send(world.gateway, hello(model=model), host="counted.test", x_sim="status:500")
    assert reply.status == 500
    line = world.gateway.log_line(model=model)
    assert (line["status"], line["prompt_tokens"]) == (500, None)
    assert world.tokens("prompt", model) == 0


class TestClientGone:
    def leave(self, world: World, sim: str, path: str = CHAT, **fields: Any) -> str:
        """Reads some events of a stream and goes; gives the model."""
        model = f"model-{next(MODELS)}"
        body = hello(model=model, stream=True, **fields)
        with sending(world.gateway, body, path, host="counted.test", x_sim=sim) as response:
            for _ in range(12):
                response.readline()
            assert world.gateway.metric("sluice_exchanges_in_flight") == 1
        wait_until(lambda: world.gateway.metric("sluice_exchanges_in_flight") == 0, "the end of the exchange", 10)
        return model

    def test_it_is_counted_by_what_flowed(self, world: World) -> None:
        before = world.gateway.metric("sluice_exchanges_total", ending="client_gone")
        model = self.leave(world, "slow-stream:20,events:1000")
        assert world.gateway.metric("sluice_exchanges_total", ending="client_gone") == before + 1
        prompt, completion = world.counted(model, estimated="true")
        assert prompt > 0
        assert completion > 0
        assert world.tokens("completion", model, estimated="false") == 0
        far_side = world.provider.recorder
        wait_until(lambda: far_side.open == 0, "the provider to hear of it", 10)

    def test_usage_stated_before_counts(self, world: World) -> None:
        """Anthropic states the prompt's tokens first."""
        model = self.leave(world, "slow-stream:20,events:1000,cached:3", "/v1/messages", max_tokens=2000)
        prompt = sum(world.tokens("prompt", model, estimated=mark) for mark in ("true", "false"))
        assert prompt == PROMPT


@pytest.mark.parametrize("host", ["counted.test", "edited.test"])
def test_a_very_long_line_passes(world: World, host: str) -> None:
    reply, model = world.ask("big-line:10000000", host, **hello(stream=True))
    assert len(reply.body) > 10_000_000
    longest = max(reply.events[:-1], key=lambda event: len(str(event["choices"])))
    assert longest["choices"][0]["delta"]["content"] == "x" * 10_000_000
    line = world.gateway.log_line(requested_model=model)
    assert line["prompt_tokens"] == PROMPT
    assert line["completion_tokens"] > 2_500_000
    assert last(world.provider).json["stream_options"] == {"include_usage": True}


def test_a_large_json_answer(world: World) -> None:
    """Larger than what Envoy buffers, so that it has to be looked at in pieces."""
    reply, model = world.ask("big-line:3000000", "edited.test", **hello())
    assert reply.json["model"] == model
    line = world.gateway.log_line(requested_model=model)
    assert line["completion_tokens"] == completion_of(reply)
