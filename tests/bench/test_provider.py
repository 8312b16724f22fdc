from __future__ import annotations

import asyncio
import json
import signal
import ssl
import sys
import zlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import brotli
import openai
import pytest
import zstandard
from click.testing import CliRunner

from bench import answers
from bench.certs import Certificates, make_certificates
from bench.provider import ProviderServer, main

KEY = {"authorization": "Bearer sk-simulated"}
CHAT = {"model": "qwen-plus", "messages": [{"role": "user", "content": "你是谁？"}]}
PATH = "/v1/chat/completions"
DECODERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda data: zlib.decompress(data, 31),
    "deflate": zlib.decompress,
    "br": brotli.decompress,
    "zstd": lambda data: zstandard.ZstdDecompressor().decompressobj().decompress(data),
}


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certs"), ["dashscope.aliyuncs.com", "api.moonshot.cn"])


@pytest.fixture
async def provider() -> AsyncIterator[ProviderServer]:
    async with ProviderServer() as server:
        yield server


@pytest.fixture
async def http(provider: ProviderServer) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(f"http://{provider.address}", headers=KEY, auto_decompress=False) as session:
        yield session


@pytest.fixture
async def client(provider: ProviderServer) -> AsyncIterator[openai.AsyncOpenAI]:
    url = f"http://{provider.address}/v1"
    async with openai.AsyncOpenAI(base_url=url, api_key="sk-simulated", max_retries=0) as client:
        yield client


async def ask(http: aiohttp.ClientSession, sim: str = "", path: str = PATH, **more: Any) -> tuple[int, bytes]:
    async with http.post(path, json={**CHAT, **more}, headers={"x-sim": sim}) as response:
        return response.status, await response.read()


async def stream(http: aiohttp.ClientSession, sim: str = "", usage: bool = False) -> list[Any]:
    """The decoded events of a chat stream but `[DONE]`."""
    options: dict[str, Any] = {"stream_options": {"include_usage": True}} if usage else {}
    status, body = await ask(http, sim, stream=True, **options)
    assert status == 200
    lines = [line for line in body.decode().splitlines() if line]
    assert lines.pop() == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines]


def content(events: list[Any]) -> str:
    return "".join(event["choices"][0]["delta"].get("content") or "" for event in events if event["choices"])


async def state(provider: ProviderServer) -> Any:
    async with aiohttp.ClientSession() as http, http.get(f"http://{provider.address}/_control") as response:
        return await response.json()


async def test_tls_shows_sni_host_and_names_itself(certificates: Certificates) -> None:
    hosts = ("dashscope.aliyuncs.com", "api.moonshot.cn")
    context = ssl.create_default_context(cafile=str(certificates.ca))
    async with (
        ProviderServer(certificates=certificates, hosts=hosts) as provider,
        aiohttp.ClientSession(headers=KEY) as http,
    ):
        url = f"https://{provider.address}"
        for host, name in (("dashscope.aliyuncs.com", "阿里云"), ("api.moonshot.cn", "月之暗面")):
            async with http.post(
                f"{url}/compatible-mode/v1/chat/completions",
                json=CHAT,
                headers={"host": host},
                ssl=context,
                server_hostname=host,
            ) as response:
                answer = await response.json()
            assert answer["choices"][0]["message"]["content"] == f"我是来自{name}的大规模语言模型，我叫qwen-plus。"
            seen = provider.recorder.snapshot()["last"]
            assert (seen["sni"], seen["host"]) == (host, host)
            assert seen["path"] == "/compatible-mode/v1/chat/completions"
        async with http.post(f"{url}{PATH}", json=CHAT, ssl=context, server_hostname=hosts[0]) as response:
            assert response.status == 421
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await http.get(url, ssl=context, server_hostname="example.com")


async def test_keys_are_checked_and_rotate(provider: ProviderServer, http: aiohttp.ClientSession) -> None:
    async with http.post(PATH, json=CHAT, headers={"authorization": "Bearer wrong"}) as response:
        assert response.status == 401
        assert (await response.json())["error"]["code"] == "invalid_api_key"
    assert (await ask(http))[0] == 200
    async with http.post("/_control", json={"keys": ["sk-new"]}) as response:
        assert await response.json() == {"keys": ["sk-new"]}
    assert (await ask(http))[0] == 401
    async with http.post("/v1/messages", json=CHAT, headers={"authorization": "", "x-api-key": "sk-new"}) as response:
        assert response.status == 200
    counts = await state(provider)
    assert counts["by_key"] == {"sk-simulated": 1, "sk-new": 1}
    assert counts["by_model"] == {"qwen-plus": 2}
    assert (counts["refused"], counts["seen"], counts["open"]) == (2, 4, 0)


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b'{"messages": []}',
        b'{"model": "m"}',
        b'{"model": "m", "messages": [1]}',
        b'{"model": "m", "messages": [{"role": "user"}], "max_tokens": -1}',
        b'{"model": "m", "messages": [{"role": "user"}], "stream_options": 3}',
        b'{"model": "m", "messages": [{"role": "user", "content": "tool"}], "tools": [3]}',
    ],
)
async def test_bad_bodies(http: aiohttp.ClientSession, body: bytes) -> None:
    async with http.post(PATH, data=body) as response:
        assert response.status == 400
        assert (await response.json())["error"]["type"] == "invalid_request_error"


async def test_usage_only_when_asked_and_null_elsewhere(http: aiohttp.ClientSession) -> None:
    plain = await stream(http)
    assert not any("usage" in event for event in plain)
    counted = await stream(http, "usage-null", usage=True)
    text = content(counted)
    assert text == content(plain)
    assert [event["usage"] for event in counted[:-1]] == [None] * (len(counted) - 1)
    assert counted[-1]["choices"] == []
    prompt = answers.count_tokens("<|user|>你是谁？<|assistant|>")
    assert counted[-1]["usage"] == answers.usage(prompt, answers.count_tokens(text))
    assert not any("usage" in event for event in await stream(http, "no-usage", usage=True))
    assert "usage" not in json.loads((await ask(http, "no-usage"))[1])


async def test_cached_and_reasoning_tokens(http: aiohttp.ClientSession) -> None:
    usage = json.loads((await ask(http, "cached:3,reasoning:5"))[1])["usage"]
    assert usage["prompt_tokens_details"] == {"cached_tokens": 3}
    assert usage["completion_tokens_details"] == {"reasoning_tokens": 5}
    events = await stream(http, "reasoning:5")
    assert sum("reasoning_content" in event["choices"][0]["delta"] for event in events) == 5
    status, body = await ask(http, "cached:3", path="/v1/messages")
    anthropic = json.loads(body)["usage"]
    assert status == 200
    assert anthropic["cache_read_input_tokens"] == 3
    assert anthropic["input_tokens"] + 3 == usage["prompt_tokens"]


async def test_number_and_size_of_events(http: aiohttp.ClientSession) -> None:
    assert len(await stream(http, "events:50")) == 1 + 50 + 1
    status, body = await ask(http, "big-line:100000", stream=True)
    assert status == 200
    assert max(map(len, body.splitlines())) > 100_000
    limited = json.loads((await ask(http, max_tokens=2))[1])
    assert (limited["usage"]["completion_tokens"], limited["choices"][0]["finish_reason"]) == (2, "length")


async def test_line_ends_and_a_missing_last_one(http: aiohttp.ClientSession) -> None:
    _, body = await ask(http, "crlf,no-final-newline", stream=True)
    assert body.count(b"\n") == body.count(b"\r\n") > 10
    assert body.endswith(b"data: [DONE]")


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd"])
@pytest.mark.parametrize("streaming", [False, True])
async def test_encodings(http: aiohttp.ClientSession, encoding: str, streaming: bool) -> None:
    sim = f"{encoding},split,crlf"
    async with http.post(PATH, json={**CHAT, "stream": streaming}, headers={"x-sim": sim}) as response:
        assert response.headers["content-encoding"] == encoding
        body = DECODERS[encoding](await response.read())
    expected = (await ask(http, "crlf", stream=streaming))[1]
    serial = b"chatcmpl-"
    assert body.count(serial) == expected.count(serial)
    assert len(body) == len(expected)
    assert body.endswith(b"data: [DONE]\r\n\r\n" if streaming else b"}")


async def test_json_to_a_streaming_request(http: aiohttp.ClientSession) -> None:
    async with http.post(PATH, json={**CHAT, "stream": True}, headers={"x-sim": "json-to-stream"}) as response:
        assert response.content_type == "application/json"
        assert (await response.json())["object"] == "chat.completion"


@pytest.mark.parametrize("streaming", [False, True])
async def test_reset_in_the_middle(http: aiohttp.ClientSession, streaming: bool) -> None:
    async with http.post(PATH, json={**CHAT, "stream": streaming}, headers={"x-sim": "reset-mid"}) as response:
        assert response.status == 200
        received = b""
        with pytest.raises((aiohttp.ClientPayloadError, aiohttp.ClientOSError)):
            while True:
                received += await response.content.readany()
    assert received
    assert b"[DONE]" not in received


async def test_status_delay_headers_and_default_quirks(provider: ProviderServer, http: aiohttp.ClientSession) -> None:
    async with http.post("/_control", json={"sim": "status:503,server-header,delay:1"}) as response:
        assert response.status == 200
    async with http.post(PATH, json=CHAT) as response:
        assert response.status == 503
        assert response.headers["x-request-cost"] == "0.0042"
        assert response.headers["server"] == "provider-sim/1.0"
    assert (await ask(http, "slow-stream:1", stream=True))[0] == 200
    for wrong in ({"sim": "fast"}, {"colour": 1}, {"keys": 3}):
        async with http.post("/_control", json=wrong) as response:
            assert response.status == 400
    async with http.post("/_control", json={"clear": True}) as response:
        assert response.status == 200
    assert (await state(provider))["seen"] == 0
    assert (await ask(http, "fast"))[0] == 400


async def test_any_other_path_echoes(http: aiohttp.ClientSession) -> None:
    async with http.put("/v1/audio?x=1", data=b"\xff\x00raw") as response:
        echo = await response.json()
    assert (echo["method"], echo["path"], echo["body"]) == ("PUT", "/v1/audio?x=1", "\\xff\x00raw")


async def test_openai_client(client: openai.AsyncOpenAI) -> None:
    chat = client.chat.completions
    parts = [part async for part in await chat.create(**CHAT, stream=True)]  # type: ignore[call-overload]
    whole = await chat.create(**CHAT)  # type: ignore[call-overload]
    assert "".join(part.choices[0].delta.content or "" for part in parts) == whole.choices[0].message.content

    text = await client.completions.create(model="m", prompt="hi", max_tokens=3)
    assert text.usage is not None
    assert text.usage.completion_tokens == 3
    vectors = await client.embeddings.create(model="m", input="hello")
    assert len(vectors.data[0].embedding) == 64

    tools: Any = [{"type": "function", "function": {"name": "f", "parameters": {"properties": {"a": {}}}}}]
    ask_tool: Any = [{"role": "user", "content": "a tool please"}]
    called = await chat.create(model="m", messages=ask_tool, tools=tools)
    assert called.choices[0].message.tool_calls
    fragments = ""
    async for chunk in await chat.create(model="m", messages=ask_tool, tools=tools, stream=True):
        for call in chunk.choices[0].delta.tool_calls or []:
            fragments += (call.function and call.function.arguments) or ""
    assert json.loads(fragments) == {"a": "杭州"}


async def test_openai_client_reads_responses(client: openai.AsyncOpenAI) -> None:
    whole = await client.responses.create(model="m", input="你好")
    assert whole.output_text.endswith("我叫m。")
    assert whole.usage is not None
    assert whole.usage.output_tokens == answers.count_tokens(whole.output_text)
    events = [event async for event in await client.responses.create(model="m", input="你好", stream=True)]
    last = events[-1]
    assert events[0].type == "response.created"
    assert last.type == "response.completed"
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == whole.output_text
    assert last.response.usage == whole.usage


async def test_anthropic_events(http: aiohttp.ClientSession) -> None:
    status, body = await ask(http, path="/v1/messages", stream=True, max_tokens=4, system="be short")
    assert status == 200
    frames = [frame.split(b"\n") for frame in body.removesuffix(b"\n\n").split(b"\n\n")]
    events = [json.loads(data.removeprefix(b"data: ")) for _, data in frames]
    assert [name.removeprefix(b"event: ").decode() for name, _ in frames] == [event["type"] for event in events]
    assert events[0]["type"] == "message_start"
    prompt = answers.count_tokens("<|system|>be short<|user|>你是谁？<|assistant|>")
    assert events[0]["message"]["usage"]["input_tokens"] == prompt
    assert (events[-2]["usage"], events[-2]["delta"]["stop_reason"]) == ({"output_tokens": 4}, "max_tokens")
    assert events[-1] == {"type": "message_stop"}


async def test_the_command(tmp_path: Path) -> None:
    command = ["-m", "bench.provider", "--make-certs", str(tmp_path), "--hosts", "a.test", "--api-key", "k"]
    process = await asyncio.create_subprocess_exec(sys.executable, *command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    line = (await process.stdout.readline()).decode()
    assert line.startswith("provider listening on 127.0.0.1:")
    context = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
    url = f"https://{line.split()[-1]}"
    headers = {"authorization": "Bearer k", "x-sim": "reset-mid", "host": "a.test"}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as client:
        async with client.get(f"{url}/_control", server_hostname="a.test") as response:
            assert (await response.json())["keys"] == ["k"]
        async with client.post(f"{url}{PATH}", json=CHAT, headers=headers, server_hostname="a.test") as answer:
            with pytest.raises((aiohttp.ClientPayloadError, aiohttp.ClientOSError)):
                await answer.read()
        async with client.get(f"{url}/_control", server_hostname="a.test") as response:
            assert (await response.json())["last"]["sni"] == "a.test"
    process.send_signal(signal.SIGTERM)
    assert await process.wait() == 0


@pytest.mark.parametrize(
    ("options", "says"),
    [([], "exactly one"), (["--plain", "--make-certs", "x"], "exactly one"), (["--plain", "--sim", "fast"], "fast")],
)
def test_wrong_options_are_explained(options: list[str], says: str) -> None:
    result = CliRunner().invoke(main, options)
    assert result.exit_code == 2
    assert says in result.output


async def test_it_says_again_what_it_was_told_as_often_as_it_is_asked(client: openai.AsyncOpenAI) -> None:
    messages: Any = [{"role": "user", "content": "one"}, {"role": "user", "content": "two and more"}]
    echo = {"x-sim": "echo:5"}
    answer = await client.chat.completions.create(model="m", messages=messages, n=2, extra_headers=echo)
    assert [choice.message.content for choice in answer.choices] == ["two and more"] * 2
    pieces: list[list[str]] = [[], []]
    async for chunk in await client.chat.completions.create(
        model="m", messages=messages, n=2, stream=True, extra_headers=echo
    ):
        for choice in chunk.choices:
            pieces[choice.index] += [choice.delta.content] if choice.delta.content else []
    assert pieces == [["two a", "nd mo", "re"]] * 2
