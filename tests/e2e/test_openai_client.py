"""The official client, sync and async, against a provider behind TLS and a pool of engines."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import openai
import pytest

from bench import answers
from bench.certs import Certificates
from bench.engine.server import EngineServer
from bench.provider import ProviderServer
from tests.e2e.talk import HELLO, hello, last, send
from tests.support.far_side import FarSide
from tests.support.gateway import Gateway, Gateways, pool, provider, route

HOST = "api.example.com"
TOOL: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}},
    },
}
USE_TOOL: Any = [{"role": "user", "content": "use the tool"}]
CHAT: Any = HELLO
RENAMED = {"requested-chat": "target-chat", "requested-embed": "target-embed"}


@dataclass(frozen=True)
class World:
    gateway: Gateway
    provider: ProviderServer
    engine: EngineServer

    @property
    def url(self) -> str:
        return f"{self.gateway.url}/v1"


@pytest.fixture(scope="module")
def world(far_side: FarSide, gateways: Gateways, certificates: Certificates) -> World:
    """Models `requested-*` go to the provider under other names, `qwen3-8b` to the engine; nothing else is served."""
    acme, engine = far_side.provider(certificates, hosts=[HOST]), far_side.engine(time_scale=50.0)
    renamed = [
        {"matches": [{"model": {"exact": model}}], "backendRefs": [{"provider": "acme", "model": target}]}
        for model, target in RENAMED.items()
    ]
    gateway = gateways.start(
        provider("acme", HOST, port=443, path="/v1/chat/completions"),
        pool("gpus", [engine.address]),
        route("all", "*", *renamed, {"matches": [{"model": {"exact": "qwen3-8b"}}], "backendRefs": [{"pool": "gpus"}]}),
        trustedCa=str(certificates.ca),
        hostAliases={HOST: acme.address},
    )
    return World(gateway, acme, engine)


@pytest.fixture
def client(world: World) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=world.url, api_key="of-the-client", max_retries=0) as found:
        yield found


@pytest.fixture
async def async_client(world: World) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=world.url, api_key="of-the-client", max_retries=0) as found:
        yield found


MODELS = pytest.mark.parametrize("model", ["requested-chat", "qwen3-8b"])


class TestChat:
    @MODELS
    def test_answer(self, client: openai.OpenAI, model: str) -> None:
        answer = client.chat.completions.create(model=model, messages=CHAT)
        text = answer.choices[0].message.content
        assert text
        assert answer.model == RENAMED.get(model, model)
        assert answer.usage is not None
        assert answer.usage.prompt_tokens == answers.count_tokens(answers.render_chat(HELLO))
        assert answer.usage.completion_tokens == answers.count_tokens(text)

    @MODELS
    def test_a_stream_without_usage_has_no_usage_chunk(self, client: openai.OpenAI, model: str) -> None:
        with client.chat.completions.create(model=model, messages=CHAT, stream=True) as stream:
            chunks = list(stream)
        assert all(chunk.choices and chunk.usage is None for chunk in chunks)
        assert chunks[-1].choices[0].finish_reason == "stop"
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks)

    @MODELS
    def test_a_stream_that_asks_for_usage_gets_it_once_and_last(self, client: openai.OpenAI, model: str) -> None:
        options: Any = {"include_usage": True}
        with client.chat.completions.create(model=model, messages=CHAT, stream=True, stream_options=options) as stream:
            *chunks, final = list(stream)
        assert all(chunk.choices and chunk.usage is None for chunk in chunks)
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        assert (final.choices, final.usage is not None) == ([], True)
        assert final.usage is not None
        assert final.usage.completion_tokens == answers.count_tokens(text)

    def test_usage_is_asked_for_whatever_the_client_wrote(self, world: World, client: openai.OpenAI) -> None:
        options: Any = {"include_usage": False, "include_obfuscation": False}
        with client.chat.completions.create(
            model="requested-chat", messages=CHAT, stream=True, stream_options=options
        ) as stream:
            assert all(chunk.usage is None for chunk in stream)
        assert last(world.provider).json["stream_options"] == {"include_usage": True, "include_obfuscation": False}

    @MODELS
    def test_tool_call(self, client: openai.OpenAI, model: str) -> None:
        answer = client.chat.completions.create(model=model, messages=USE_TOOL, tools=[TOOL])
        assert answer.choices[0].finish_reason == "tool_calls"
        assert answer.choices[0].message.tool_calls is not None
        call: Any = answer.choices[0].message.tool_calls[0]
        assert call.function.name == "weather"
        assert json.loads(call.function.arguments) == {"city": "杭州", "days": 7}

    @MODELS
    def test_streamed_tool_arguments_arrive_in_their_fragments(self, client: openai.OpenAI, model: str) -> None:
        names, fragments = [], []
        with client.chat.completions.create(model=model, messages=USE_TOOL, tools=[TOOL], stream=True) as stream:
            for chunk in stream:
                for call in chunk.choices[0].delta.tool_calls or []:
                    assert call.function is not None
                    names.append(call.function.name)
                    fragments.append(call.function.arguments or "")
        assert [name for name in names if name] == ["weather"]
        assert [piece for piece in fragments if piece] == answers.tokenize(answers.tool_arguments(TOOL))

    async def test_many_at_once(self, async_client: openai.AsyncOpenAI) -> None:
        """Answers do not get mixed up: each one is made of its own request."""

        async def ask(number: int) -> tuple[str, int]:
            messages: Any = [{"role": "user", "content": "好" * number}]
            model = ("requested-chat", "qwen3-8b")[number % 2]
            stream = await async_client.chat.completions.create(
                model=model, messages=messages, stream=True, stream_options={"include_usage": True}
            )
            async with stream:
                chunks = [chunk async for chunk in stream]
            assert chunks[-1].usage is not None
            return chunks[-1].model, chunks[-1].usage.prompt_tokens

        found = await asyncio.gather(*map(ask, range(1, 41)))
        around = answers.count_tokens(answers.render_chat([{"role": "user", "content": ""}]))
        for number, (model, tokens) in enumerate(found, 1):
            assert model == ("target-chat", "qwen3-8b")[number % 2]
            assert abs(tokens - around - number) <= 1  # a border between two runs of ASCII moves with the text

    async def test_an_async_answer(self, async_client: openai.AsyncOpenAI) -> None:
        answer = await async_client.chat.completions.create(model="requested-chat", messages=CHAT)
        assert answer.model == "target-chat"


class TestOtherApis:
    def test_completion(self, world: World, client: openai.OpenAI) -> None:
        answer = client.completions.create(model="requested-chat", prompt="once upon a time")
        assert (answer.model, last(world.provider).path) == ("target-chat", "/v1/completions")
        assert answer.usage is not None
        assert answer.usage.prompt_tokens == 4
        with client.completions.create(model="qwen3-8b", prompt="once upon a time", stream=True) as stream:
            chunks = list(stream)
        assert all(chunk.choices and chunk.usage is None for chunk in chunks)

    @pytest.mark.parametrize("model", ["requested-embed", "qwen3-8b"])
    def test_embeddings(self, client: openai.OpenAI, model: str) -> None:
        """The client asks for base64 by itself and decodes it."""
        answer = client.embeddings.create(model=model, input=["你好", "hello"])
        assert answer.model == RENAMED.get(model, model)
        assert answer.usage.prompt_tokens == 4
        wanted = answers.embedding("你好", 64, "float")
        assert answer.data[0].embedding == pytest.approx(wanted, abs=1e-6)

    async def test_embeddings_async(self, async_client: openai.AsyncOpenAI) -> None:
        answer = await async_client.embeddings.create(model="requested-embed", input="你好", encoding_format="float")
        assert answer.data[0].embedding == pytest.approx(answers.embedding("你好", 64, "float"))

    def test_response(self, world: World, client: openai.OpenAI) -> None:
        answer = client.responses.create(model="requested-chat", input="hello", instructions="be brief")
        assert answer.model == "target-chat"
        assert answer.output_text.endswith("target-chat。")
        seen = last(world.provider)
        assert (seen.path, seen.json["instructions"]) == ("/v1/responses", "be brief")
        assert "stream_options" not in seen.json
        assert answer.usage is not None
        line = world.gateway.log_line(path="/v1/responses", kind="unary")
        assert (line["prompt_tokens"], line["completion_tokens"]) == (
            answer.usage.input_tokens,
            answer.usage.output_tokens,
        )

    def test_streamed_response(self, world: World, client: openai.OpenAI) -> None:
        with client.responses.create(model="requested-chat", input="hello", stream=True) as stream:
            events = list(stream)
        assert [events[0].type, events[-1].type] == ["response.created", "response.completed"]
        assert [event.sequence_number for event in events] == list(range(len(events)))
        assert "stream_options" not in last(world.provider).json
        final: Any = events[-1]
        text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
        assert final.response.output_text == text
        line = world.gateway.log_line(path="/v1/responses", kind="stream")
        assert line["completion_tokens"] == final.response.usage.output_tokens

    def test_models(self, client: openai.OpenAI) -> None:
        assert [model.id for model in client.models.list()] == ["requested-chat", "requested-embed", "qwen3-8b"]

    @pytest.mark.parametrize("stream", [False, True])
    def test_anthropic_messages(self, world: World, stream: bool) -> None:
        body = hello(model="requested-chat", max_tokens=100, stream=stream)
        cached = {"x_sim": "cached:3", "x_api_key": "of-the-client", "anthropic_version": "2023-06-01"}
        reply = send(world.gateway, body, "/v1/messages", **cached)
        assert reply.status == 200
        seen = last(world.provider)
        assert (seen.path, seen.json["model"]) == ("/v1/messages", "target-chat")
        assert seen.headers["anthropic-version"] == "2023-06-01"
        assert "x-api-key" not in seen.headers
        assert "stream_options" not in seen.json
        found = reply.json if not stream else reply.events[0]["message"]
        text = (
            reply.json["content"][0]["text"]
            if not stream
            else "".join(event["delta"]["text"] for event in reply.events if event["type"] == "content_block_delta")
        )
        line = world.gateway.log_line(path="/v1/messages", kind="stream" if stream else "unary")
        assert line["prompt_tokens"] == answers.count_tokens(answers.render_chat(HELLO))
        assert line["prompt_tokens"] == found["usage"]["input_tokens"] + 3
        assert line["cached_tokens"] == 3
        assert line["completion_tokens"] == answers.count_tokens(text)


class TestErrors:
    """Errors reach the program as the exceptions that it expects."""

    def test_a_model_that_nobody_serves(self, client: openai.OpenAI) -> None:
        with pytest.raises(openai.NotFoundError) as raised:
            client.chat.completions.create(model="gpt-unknown", messages=CHAT)
        assert (raised.value.code, raised.value.param) == ("model_not_found", "model")
        assert raised.value.type == "invalid_request_error"
        assert "gpt-unknown" in raised.value.message
        assert raised.value.response.headers["x-sluice-reason"] == "model_not_found"

    def test_while_streaming_too(self, client: openai.OpenAI) -> None:
        with pytest.raises(openai.NotFoundError):
            client.chat.completions.create(model="gpt-unknown", messages=CHAT, stream=True)

    @pytest.mark.parametrize(
        ("fields", "code", "param"),
        [
            ({"messages": []}, "missing_field", "messages"),
            ({"messages": "hi"}, "wrong_type", "messages"),
            ({"messages": [{"content": "hi"}]}, "missing_field", "messages[0].role"),
            ({"messages": CHAT, "stream": "yes"}, "wrong_type", "stream"),
        ],
    )
    def test_a_bad_request(self, client: openai.OpenAI, fields: dict[str, Any], code: str, param: str) -> None:
        with pytest.raises(openai.BadRequestError) as raised:
            client.chat.completions.create(model="requested-chat", **fields)
        assert (raised.value.code, raised.value.param) == (code, param)

    async def test_async(self, async_client: openai.AsyncOpenAI) -> None:
        with pytest.raises(openai.BadRequestError) as raised:
            await async_client.chat.completions.create(model="requested-chat", messages=[])
        assert raised.value.code == "missing_field"

    @pytest.mark.parametrize(
        ("status", "kind"),
        [(400, openai.BadRequestError), (429, openai.RateLimitError), (500, openai.InternalServerError)],
    )
    @pytest.mark.parametrize("stream", [False, True])
    def test_errors_of_the_provider_pass(
        self, client: openai.OpenAI, status: int, kind: type[openai.APIStatusError], stream: bool
    ) -> None:
        with pytest.raises(kind) as raised:
            client.chat.completions.create(
                model="requested-chat", messages=CHAT, stream=stream, extra_headers={"x-sim": f"status:{status}"}
            )
        assert (raised.value.code, raised.value.type) == (str(status), "server_error")
        assert "simulated failure" in raised.value.message
        assert "x-sluice-reason" not in raised.value.response.headers
