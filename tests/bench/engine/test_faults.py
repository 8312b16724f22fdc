from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from bench.engine.faults import Faults, parse_setting
from bench.engine.server import EngineConfig, EngineServer

CHAT = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 20, "ignore_eos": True}


@pytest.fixture
async def engine() -> AsyncIterator[EngineServer]:
    async with EngineServer(EngineConfig(time_scale=50.0)) as server:
        yield server


@pytest.fixture
async def http(engine: EngineServer) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(f"http://{engine.address}") as session:
        yield session


async def control(http: aiohttp.ClientSession, **changes: Any) -> dict[str, Any]:
    async with http.post("/_control", json=changes) as response:
        assert response.status == 200
        state: dict[str, Any] = await response.json()
        return state


async def chat(http: aiohttp.ClientSession, **more: Any) -> tuple[int, bytes]:
    async with http.post("/v1/chat/completions", json={**CHAT, **more}) as response:
        return response.status, await response.read()


async def samples(http: aiohttp.ClientSession) -> dict[str, tuple[float, dict[str, str]]]:
    async with http.get("/metrics") as response:
        assert response.status == 200
        families = list(text_string_to_metric_families(await response.text()))
    return {sample.name: (sample.value, sample.labels) for family in families for sample in family.samples}


async def test_vllm_metrics(http: aiohttp.ClientSession) -> None:
    await chat(http)
    page = await samples(http)
    assert page["vllm:num_requests_running"] == (0.0, {"engine": "0", "model_name": "qwen3-8b"})
    assert page["vllm:num_requests_waiting"][0] == 0
    assert page["vllm:kv_cache_usage_perc"][0] == 0
    assert page["vllm:prompt_tokens_total"][0] == 7
    assert page["vllm:generation_tokens_total"][0] == 20
    geometry = page["vllm:cache_config_info"][1]
    assert (geometry["block_size"], geometry["num_gpu_blocks"]) == ("16", "29205")
    assert page["vllm:lora_requests_info"][1]["running_lora_adapters"] == ""
    assert page["vllm:time_to_first_token_seconds_count"][0] == 1


async def test_sglang_metrics() -> None:
    config = EngineConfig(time_scale=50.0, dialect="sglang")
    async with EngineServer(config) as engine, aiohttp.ClientSession(f"http://{engine.address}") as http:
        await chat(http, stream=True)
        page = await samples(http)
    assert not any(name.startswith("vllm") for name in page)
    assert page["sglang:num_running_reqs"][0] == 0
    assert page["sglang:num_queue_reqs"][0] == 0
    assert page["sglang:token_usage"][0] == 0
    assert page["sglang:gen_throughput"][0] > 0
    assert page["sglang:prompt_tokens_total"][0] == 7
    geometry = page["sglang:cache_config_info"][1]
    assert (geometry["page_size"], geometry["num_pages"]) == ("16", "29205")


async def test_metrics_show_the_running_request() -> None:
    async with EngineServer() as engine, aiohttp.ClientSession(f"http://{engine.address}") as http:
        response = await http.post("/v1/chat/completions", json={**CHAT, "stream": True, "max_tokens": 10_000})
        await response.content.readline()
        page = await samples(http)
        response.close()
    assert page["vllm:num_requests_running"][0] == 1
    assert page["vllm:kv_cache_usage_perc"][0] > 0


async def test_broken_metrics(http: aiohttp.ClientSession) -> None:
    await control(http, metrics="nan")
    page = await samples(http)
    assert page["vllm:num_requests_running"][0] != page["vllm:num_requests_running"][0]
    await control(http, metrics="garbage")
    async with http.get("/metrics") as response:
        body = await response.read()
    with pytest.raises(UnicodeDecodeError):
        body.decode()
    await control(http, metrics="off")
    async with http.get("/metrics") as response:
        assert response.status == 404
    await control(http, metrics="slow", metrics_delay=30)
    with pytest.raises(TimeoutError):
        await http.get("/metrics", timeout=aiohttp.ClientTimeout(total=0.05))
    assert (await chat(http))[0] == 200


async def test_status_with_probability(engine: EngineServer, http: aiohttp.ClientSession) -> None:
    await control(http, status=429)
    async with http.post("/v1/chat/completions", json=CHAT) as response:
        assert (response.status, response.headers["retry-after"]) == (429, "1")
        assert "error" in await response.json()
    await control(http, status=503, probability=0.5)
    statuses = [(await chat(http, max_tokens=1))[0] for _ in range(20)]
    assert set(statuses) == {200, 503}
    async with http.delete("/_control") as response:
        assert await response.json() == msgspec.to_builtins(Faults())
    assert engine.faults == Faults()


@pytest.mark.parametrize("stream", [False, True])
async def test_resets(http: aiohttp.ClientSession, stream: bool) -> None:
    await control(http, reset="before-headers")
    with pytest.raises((aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)):
        await chat(http, stream=stream)
    for kind in ("after-headers", "mid-stream"):
        await control(http, reset=kind)
        received = b""
        async with http.post("/v1/chat/completions", json={**CHAT, "stream": stream}) as response:
            assert response.status == 200
            with pytest.raises((aiohttp.ClientPayloadError, aiohttp.ClientOSError)):
                while True:
                    received += await response.content.readany()
        assert bool(received) == (kind == "mid-stream")
        assert b"[DONE]" not in received
    await control(http, reset=None)
    assert (await chat(http, stream=stream))[0] == 200


async def test_hang(http: aiohttp.ClientSession) -> None:
    short = aiohttp.ClientTimeout(total=0.05)
    await control(http, hang="requests")
    with pytest.raises(TimeoutError):
        await http.post("/v1/chat/completions", json=CHAT, timeout=short)
    assert "vllm:num_requests_running" in await samples(http)
    await control(http, hang=True)
    with pytest.raises(TimeoutError):
        await http.get("/health", timeout=short)
    assert (await control(http, hang=False))["hang"] == "off"
    async with http.get("/health") as response:
        assert response.status == 200


async def test_slow_multiplies_the_steps(engine: EngineServer, http: aiohttp.ClientSession) -> None:
    def mean_token() -> float:
        return engine.observations.per_token.total

    await chat(http)
    normal = mean_token()
    await control(http, slow=4)
    await chat(http)
    assert mean_token() - normal == pytest.approx(4 * normal)


async def test_crash_resets_everything_and_the_engine_can_return(
    http: aiohttp.ClientSession, engine: EngineServer
) -> None:
    await control(http, hang="requests")
    waiting = asyncio.ensure_future(http.post("/v1/chat/completions", json=CHAT))
    await engine.recorder.until(lambda seen: seen.open == 1)
    port = engine.port
    await engine.crash()
    with pytest.raises(aiohttp.ClientError):
        await waiting
    with pytest.raises(aiohttp.ClientConnectorError):
        await http.get("/health")
    await engine.start()
    assert engine.port == port
    engine.set_faults(hang="off")
    assert (await chat(http))[0] == 200


@pytest.mark.parametrize("turns", range(6))
async def test_crash_forgets_no_connection_that_was_just_made(engine: EngineServer, turns: int) -> None:
    """One left open would hold whoever asks there for ever, which no dead process does."""
    with socket.create_connection((engine.config.host, engine.port), timeout=10) as client:
        client.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
        for _ in range(turns):
            await asyncio.sleep(0)
        await engine.crash()
        with contextlib.suppress(ConnectionResetError):
            while await asyncio.to_thread(client.recv, 4096):
                pass


async def test_crash_through_control(http: aiohttp.ClientSession) -> None:
    with pytest.raises(aiohttp.ClientError):
        while True:
            await control(http, crash=True)


@pytest.mark.parametrize(
    "changes", [{"slow": 0}, {"status": 200}, {"reset": "often"}, {"color": "red"}, {"probability": 2}]
)
async def test_unknown_faults_are_refused(http: aiohttp.ClientSession, changes: dict[str, Any]) -> None:
    async with http.post("/_control", json=changes) as response:
        assert response.status == 400
        assert next(iter(changes)) in (await response.json())["error"]["message"]


def test_settings_of_a_command_line() -> None:
    assert parse_setting("slow=2") == ("slow", 2)
    assert parse_setting("metrics=off") == ("metrics", "off")
    assert parse_setting("max-num-seqs=8") == ("max_num_seqs", 8)
    with pytest.raises(ValueError, match="NAME=VALUE"):
        parse_setting("slow")


def test_probability_is_seeded() -> None:
    faults = Faults(status=503, probability=0.3)
    rolls = [[faults.strikes(dice) for _ in range(50)] for dice in (random.Random(1), random.Random(1))]
    assert rolls[0] == rolls[1]
    assert 5 < sum(rolls[0]) < 25
