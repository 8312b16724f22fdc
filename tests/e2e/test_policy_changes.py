"""Policies of pools on a real Envoy: changed while requests run, while engines fail, and what they remember."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from bench.engine.server import EngineServer
from tests.support.chat import Chat, chat
from tests.support.far_side import FarSide
from tests.support.gateway import Gateway, Gateways, Manifest, pool, route, write_manifests
from tests.support.processes import wait_until

MODEL = "qwen3-8b"
FAST = 50.0
"""Seconds of an engine in one real second, where only the gateway's side matters."""
POLICIES: tuple[str | dict[str, Any], ...] = (
    "round-robin",
    "least-request",
    "least-token",
    "llm-metric-based",
    "static-pd",
    "dynamic-pd",
    {"name": "prefix-cache", "parameters": {"ownWeight": 1.0, "blockBytes": 128}},
    "prefix-cache",
)


@pytest.fixture(scope="module")
def engines(far_side: FarSide) -> list[EngineServer]:
    return [far_side.engine(time_scale=FAST) for _ in range(3)]


@pytest.fixture(scope="module")
def slow(far_side: FarSide) -> list[EngineServer]:
    """Streams of these last until somebody leaves."""
    return [far_side.engine() for _ in range(3)]


def manifests(slow: list[EngineServer], engines: list[EngineServer], policy: str | dict[str, Any]) -> list[Manifest]:
    """Pool `x`, whose policy changes, and `y`, whose engines fail."""
    routes = [route(name, f"{name}.example", {"backendRefs": [{"pool": name}]}) for name in ("x", "y")]
    metrics = {"interval": "100ms", "timeout": "300ms"}
    return [
        pool("x", [one.address for one in slow], policy=policy),
        pool("y", [one.address for one in engines], metrics=metrics, timeouts={"perTry": "5s"}),
        *routes,
    ]


@pytest.fixture(scope="module")
def gateway(gateways: Gateways, slow: list[EngineServer], engines: list[EngineServer]) -> Iterator[Gateway]:
    yield gateways.start(*manifests(slow, engines, "prefix-cache"))


def endpoints(gateway: Gateway, name: str) -> list[dict[str, Any]]:
    (found,) = [one for one in json.loads(gateway.admin_text("/endpoints")) if one["name"] == name]
    shown: list[dict[str, Any]] = found["endpoints"]
    return shown


def in_flight(gateway: Gateway, name: str) -> int:
    return sum(endpoint["in_flight"] for endpoint in endpoints(gateway, name))


def prompt(topic: str, size: int) -> list[dict[str, str]]:
    return [{"role": "user", "content": (f"{topic} and so on. " * size)[:size]}]


def test_a_policy_changes_under_running_requests(
    gateway: Gateway, slow: list[EngineServer], engines: list[EngineServer]
) -> None:
    long = {"model": MODEL, "stream": True, "max_tokens": 5000, "ignore_eos": True}
    with ExitStack() as stack:
        for number, policy in enumerate(POLICIES, 1):
            messages = prompt(f"policy {number}", 3_000)
            stream = stack.enter_context(Chat(gateway.port, "x.example", messages=messages, **long))  # type: ignore[arg-type]
            assert stream.head()[0] == 200
            gateway.configure(*manifests(slow, engines, policy))
            assert in_flight(gateway, "x") == number, "what runs still counts"
            assert chat(gateway.port, "x.example", model=MODEL, messages=messages, max_tokens=2).status == 200
    wait_until(lambda: in_flight(gateway, "x") == 0, "every request to be given back", 20)
    wait_until(lambda: sum(one["tokens"] for one in endpoints(gateway, "x")) == 0, "their tokens, too", 20)


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ("prefix-cash", "prefix-cache"),
        ({"name": "prefix-cache", "parameters": {"ownWait": 2}}, "ownWeight"),
        ("nowhere_to_be_found:Policy", "nowhere_to_be_found"),
    ],
)
def test_a_policy_that_does_not_exist_is_refused_and_the_old_one_stays(
    gateway: Gateway, slow: list[EngineServer], engines: list[EngineServer], policy: str | dict[str, Any], said: str
) -> None:
    gateway.configure(*manifests(slow, engines, "round-robin"))
    generation = gateway.metric("sluice_config_generation")
    failures = gateway.metric("sluice_config_reloads_total", result="failure")
    logged = len(gateway.filter.output())
    write_manifests(gateway.directory, *manifests(slow, engines, policy), gateway.gateway_manifest())
    wait_until(lambda: gateway.metric("sluice_config_reloads_total", result="failure") > failures, "the refusal", 20)
    assert said in gateway.filter.output()[logged:]
    assert gateway.metric("sluice_config_generation") == generation
    before = [engine.recorder.seen for engine in slow]
    for _ in range(6):
        assert chat(gateway.port, "x.example", model=MODEL, max_tokens=2).status == 200
    assert [engine.recorder.seen for engine in slow] == [seen + 2 for seen in before], "still round robin"
    gateway.configure(*manifests(slow, engines, "prefix-cache"))


class Talkers:
    """So many at once who hold one conversation after the other, and what they got."""

    def __init__(self, port: int, workers: int) -> None:
        self._url = f"http://127.0.0.1:{port}/v1/chat/completions"
        self._workers = workers
        self._stop = False
        self._progress = asyncio.Condition()
        self.statuses: Counter[object] = Counter()

    async def __aenter__(self) -> Talkers:
        self._client = aiohttp.ClientSession()
        self._tasks = [asyncio.create_task(self._talk(number)) for number in range(self._workers)]
        return self

    async def __aexit__(self, *_error: object) -> None:
        self._stop = True
        await asyncio.gather(*self._tasks)
        await self._client.close()

    async def more(self, count: int) -> None:
        """Waits for further answers, or a failure."""
        wanted = self.statuses.total() + count
        async with self._progress:
            await self._progress.wait_for(
                lambda: self.statuses.total() >= wanted or self.statuses.total() > self.statuses[200]
            )

    async def _talk(self, worker: int) -> None:
        number = 0
        while not self._stop:
            messages = prompt(f"conversation {worker}.{number}", 3_000)
            number += 1
            for turn in range(4):
                await self._ask({"model": MODEL, "messages": messages, "max_tokens": 4, "stream": turn % 2 == 1})
                messages += [{"role": "assistant", "content": "Yes."}, {"role": "user", "content": f"And {turn}?"}]

    async def _ask(self, body: dict[str, Any]) -> None:
        try:
            async with self._client.post(self._url, json=body, headers={"host": "y.example"}) as answer:
                await answer.read()
                self.statuses[answer.status] += 1
        except aiohttp.ClientError as error:
            self.statuses[repr(error)] += 1
        async with self._progress:
            self._progress.notify_all()


async def test_conversations_outlive_every_failure_while_one_engine_is_well(
    gateway: Gateway, engines: list[EngineServer], far_side: FarSide
) -> None:
    first, second, _ = engines
    async with Talkers(gateway.port, 12) as talkers:
        await talkers.more(60)
        first.set_faults(status=503)
        await talkers.more(60)
        second.set_faults(reset="before-headers")
        await talkers.more(60)
        await asyncio.to_thread(far_side.run, first.crash())  # while it answers nobody, so that no answer is cut off
        first.set_faults(status=None)
        await talkers.more(60)
        await asyncio.to_thread(far_side.run, first.start())
        second.set_faults(reset=None)
        await talkers.more(60)
    assert set(talkers.statuses) == {200}
    wait_until(lambda: in_flight(gateway, "y") == 0, "the load to be given back", 20)
    wait_until(lambda: {one["state"] for one in endpoints(gateway, "y")} == {"healthy"}, "all to be back", 20)


@pytest.mark.slow
async def test_memory_stays_bounded_by_what_engines_can_hold(gateway: Gateway) -> None:
    """2,000 prompts of 8 KB are 64,000 blocks; three engines of 29,205 times 16 tokens hold about a third of them."""
    await ask_distinct(gateway, 200)
    before = resident(gateway.filter.pid)
    await ask_distinct(gateway, 2_000)
    assert resident(gateway.filter.pid) - before < 48 * 2**20


async def ask_distinct(gateway: Gateway, count: int) -> None:
    url = f"{gateway.url}/v1/chat/completions"
    numbers = iter(range(count))

    async def work(client: aiohttp.ClientSession) -> None:
        for number in numbers:
            body = {"model": MODEL, "messages": prompt(f"{count}: {number}", 8_192), "max_tokens": 1}
            async with client.post(url, json=body, headers={"host": "y.example"}) as answer:
                assert answer.status == 200, await answer.text()
                await answer.read()

    async with aiohttp.ClientSession() as client:
        await asyncio.gather(*(work(client) for _ in range(16)))


def resident(pid: int) -> int:
    """Bytes of a process in memory."""
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) * 1024
