from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import openai
import pytest

from bench import answers
from bench.engine.server import EngineConfig, EngineServer
from extproc.simulate.profile import EngineProfile

FAST = EngineConfig(time_scale=50.0, loras=("sql-lora",))
CHAT = {"model": "qwen3-8b", "messages": [{"role": "user", "content": "Say something, 你好"}]}
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}},
    },
}


@pytest.fixture
async def engine() -> AsyncIterator[EngineServer]:
    async with EngineServer(FAST) as server:
        yield server


@pytest.fixture
async def http(engine: EngineServer) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(f"http://{engine.address}") as session:
        yield session


@pytest.fixture
async def client(engine: EngineServer) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"http://{engine.address}/v1", api_key="unused", max_retries=0) as client:
        yield client


async def events(response: aiohttp.ClientResponse) -> list[Any]:
    """The `data:` payloads of a stream, decoded; `[DONE]` as text."""
    frames = (await response.read()).decode().split("\n\n")
    assert frames.pop() == ""
    assert all(frame.startswith("data: ") for frame in frames)
    payloads = [frame.removeprefix("data: ") for frame in frames]
    return [payload if payload == "[DONE]" else json.loads(payload) for payload in payloads]


async def test_chat_json(client: openai.AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(**CHAT, max_tokens=7, extra_body={"ignore_eos": True})  # type: ignore[call-overload]
    text = answer.choices[0].message.content
    assert answers.count_tokens(text) == 7
    assert answer.choices[0].finish_reason == "length"
    prompt = answers.count_tokens("<|user|>Say something, 你好<|assistant|>")
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (
        prompt,
        7,
        prompt + 7,
    )


async def test_chat_stream_has_the_same_text_and_usage_only_when_asked(http: aiohttp.ClientSession) -> None:
    async with http.post("/v1/chat/completions", json=CHAT) as response:
        whole = await response.json()
    async with http.post("/v1/chat/completions", json={**CHAT, "stream": True}) as response:
        assert response.content_type == "text/event-stream"
        plain = await events(response)
    options = {"stream": True, "stream_options": {"include_usage": True}}
    async with http.post("/v1/chat/completions", json={**CHAT, **options}) as response:
        counted = await events(response)
    text = whole["choices"][0]["message"]["content"]
    *chunks, finish, done = plain
    assert done == "[DONE]"
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert "".join(chunk["choices"][0]["delta"]["content"] for chunk in chunks) == text
    assert len(chunks) == 1 + whole["usage"]["completion_tokens"]
    assert (finish["choices"][0]["delta"], finish["choices"][0]["finish_reason"]) == ({}, "stop")
    assert not any("usage" in event for event in plain[:-1])
    assert [event for event in counted[:-1] if "usage" in event] == [counted[-2]]
    assert counted[-2]["choices"] == []
    assert counted[-2]["usage"]["completion_tokens"] == whole["usage"]["completion_tokens"]
    assert len({event["id"] for event in plain[:-1]}) == 1


async def test_openai_client_reads_streams_and_tool_calls(client: openai.AsyncOpenAI) -> None:
    question = {"model": "qwen3-8b", "messages": [{"role": "user", "content": "use a tool"}], "tools": [TOOL]}
    whole = await client.chat.completions.create(**question)  # type: ignore[call-overload]
    call = whole.choices[0].message.tool_calls[0]
    assert whole.choices[0].finish_reason == "tool_calls"
    assert (call.function.name, json.loads(call.function.arguments)) == ("weather", {"city": "杭州", "days": 7})

    name, fragments = "", []
    async for chunk in await client.chat.completions.create(**question, stream=True):  # type: ignore[call-overload]
        for part in chunk.choices[0].delta.tool_calls or []:
            name += part.function.name or ""
            fragments.append(part.function.arguments)
    assert name == "weather"
    assert len(fragments) > 3
    assert "".join(fragments) == call.function.arguments

    silent = await client.chat.completions.create(**question, tool_choice="none")  # type: ignore[call-overload]
    assert silent.choices[0].message.content


async def test_completions_and_embeddings(client: openai.AsyncOpenAI) -> None:
    done = await client.completions.create(model="sql-lora", prompt="SELECT", max_tokens=3)
    assert done.model == "sql-lora"
    assert done.usage is not None
    assert (done.usage.prompt_tokens, done.usage.completion_tokens) == (2, 3)
    pieces = [
        part.choices[0].text
        async for part in await client.completions.create(model="qwen3-8b", prompt="SELECT", max_tokens=3, stream=True)
    ]
    assert "".join(pieces) == done.choices[0].text
    numbers = await client.completions.create(model="qwen3-8b", prompt=[1, 2, 3], max_tokens=1)
    assert numbers.usage is not None
    assert numbers.usage.prompt_tokens == 3

    vectors = await client.embeddings.create(model="qwen3-8b", input=["hello", "你好"], dimensions=16)
    plain = await client.embeddings.create(model="qwen3-8b", input="hello", dimensions=16, encoding_format="float")
    assert vectors.data[0].embedding == pytest.approx(plain.data[0].embedding)
    assert vectors.data[0].embedding != vectors.data[1].embedding
    assert (vectors.usage.prompt_tokens, plain.usage.total_tokens) == (4, 2)


async def test_models(client: openai.AsyncOpenAI) -> None:
    assert [model.id async for model in client.models.list()] == ["qwen3-8b", "sql-lora"]


@pytest.mark.parametrize(
    ("path", "body", "status", "says"),
    [
        ("chat/completions", b"{", 400, "not JSON"),
        ("chat/completions", b"[]", 400, "object"),
        ("chat/completions", b'{"model": 3}', 400, "model"),
        ("chat/completions", b'{"model": "gpt-9", "messages": []}', 404, "gpt-9"),
        ("chat/completions", b"{}", 400, "messages"),
        ("chat/completions", b'{"messages": [1]}', 400, "role"),
        ("chat/completions", b'{"messages": [{"role": "user", "content": 3}]}', 400, "content"),
        ("chat/completions", b'{"messages": [{"role": "user"}], "max_tokens": 0}', 400, "max_tokens"),
        ("chat/completions", b'{"messages": [{"role": "user"}], "n": 2}', 400, "n must"),
        ("chat/completions", b'{"messages": [{"role": "user"}], "stream_options": {}}', 400, "stream"),
        ("completions", b'{"prompt": ["a", "b"]}', 400, "prompt"),
        ("embeddings", b'{"input": []}', 400, "input"),
        ("embeddings", b'{"input": "a", "dimensions": 0}', 400, "dimensions"),
    ],
)
async def test_bad_requests(http: aiohttp.ClientSession, path: str, body: bytes, status: int, says: str) -> None:
    async with http.post(f"/v1/{path}", data=body) as response:
        assert response.status == status
        assert says in (await response.json())["error"]["message"]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_prompt_that_cannot_fit_is_refused(http: aiohttp.ClientSession, stream: bool) -> None:
    body = {"messages": [{"role": "user", "content": "x" * 4 * 41_000}], "stream": stream}
    async with http.post("/v1/chat/completions", json=body) as response:
        assert response.status == 400
        assert "40960" in (await response.json())["error"]["message"]


async def test_a_repeated_prompt_is_cached_and_the_record_shows_what_arrived(http: aiohttp.ClientSession) -> None:
    body = {"messages": [{"role": "user", "content": "x" * 4096}], "max_tokens": 1}
    for expected in (0, 1024):
        async with http.post("/v1/chat/completions?q=1", json=body, headers={"X-Trace": "7"}) as response:
            assert (await response.json())["usage"]["prompt_tokens_details"] == {"cached_tokens": expected}
    async with http.get("/_control") as response:
        state = await response.json()
    assert (state["seen"], state["open"], state["load"]["finished"]) == (2, 0, 2)
    assert state["last"]["path"] == "/v1/chat/completions?q=1"
    assert ["X-Trace", "7"] in state["last"]["headers"]
    assert json.loads(state["last"]["body"]) == body


async def test_concurrent_streams_share_the_batch(engine: EngineServer, http: aiohttp.ClientSession) -> None:
    async def one(index: int) -> int:
        body = {"messages": [{"role": "user", "content": f"{index}"}], "max_tokens": 30, "ignore_eos": True}
        async with http.post("/v1/chat/completions", json={**body, "stream": True}) as response:
            return len(await events(response))

    assert await asyncio.gather(*(one(index) for index in range(40))) == [1 + 30 + 1 + 1] * 40
    assert engine.recorder.peak > 1
    load = engine.engine.load(engine.pacer.now)
    assert (load.running, load.finished, load.generation_tokens) == (0, 40, 1200)


async def test_a_client_that_leaves_frees_its_place() -> None:
    async with EngineServer() as engine, aiohttp.ClientSession(f"http://{engine.address}") as http:
        body = {**CHAT, "max_tokens": 20_000, "ignore_eos": True, "stream": True}
        response = await http.post("/v1/chat/completions", json=body)
        await response.content.readline()
        assert engine.engine.load(engine.pacer.now).running == 1
        response.close()
        await engine.recorder.until(lambda seen: seen.open == 0)
        load = engine.engine.load(engine.pacer.now)
        assert (load.running, load.aborted, load.kv_usage) == (0, 1, 0.0)


async def test_prefill_happens_on_the_engine_that_the_request_names() -> None:
    prefill = EngineConfig(time_scale=50.0, profile=EngineProfile(role="prefill"))
    decode = EngineConfig(time_scale=50.0, profile=EngineProfile(role="decode"))
    async with (
        EngineServer(prefill) as near,
        EngineServer(decode) as far,
        aiohttp.ClientSession(f"http://{far.address}") as http,
    ):
        body = {"messages": [{"role": "user", "content": "x" * 4000}], "max_tokens": 5, "ignore_eos": True}
        async with http.post(
            "/v1/chat/completions", json=body, headers={"x-prefiller-host-port": near.address}
        ) as response:
            assert (await response.json())["usage"]["completion_tokens"] == 5
        assert near.engine.load(near.pacer.now).generation_tokens == 1
        near.set_faults(status=503)
        async with http.post(
            "/v1/chat/completions", json=body, headers={"x-prefiller-host-port": near.address}
        ) as response:
            assert response.status == 200
