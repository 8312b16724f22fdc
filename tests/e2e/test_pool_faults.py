"""Endpoints fail under load, each in its own way: no client notices while a healthy one is there."""

from __future__ import annotations

import asyncio
import json
import queue
from collections import Counter
from dataclasses import dataclass
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionUserMessageParam

from bench.engine.server import EngineServer
from tests.support.chat import Chat
from tests.support.far_side import FarSide
from tests.support.gateway import Gateway, Gateways, pool, route
from tests.support.held import Call, Held
from tests.support.processes import wait_until

HELLO: list[ChatCompletionUserMessageParam] = [{"role": "user", "content": "hi"}]


@dataclass
class Setup:
    """A gateway with one pool of three engines."""

    far: FarSide
    gateway: Gateway
    engines: list[EngineServer]

    def endpoints(self) -> dict[str, dict[str, Any]]:
        (found,) = json.loads(self.gateway.admin_text("/endpoints"))
        return {endpoint["address"]: endpoint for endpoint in found["endpoints"]}


@pytest.fixture(scope="module")
def setup(far_side: FarSide, gateways: Gateways) -> Setup:
    engines = [far_side.engine() for _ in range(3)]
    metrics = {"interval": "100ms", "timeout": "300ms"}
    gateway = gateways.start(
        pool("gpus", [one.address for one in engines], metrics=metrics, timeouts={"perTry": "2s"}),
        route("all", "*", {"backendRefs": [{"pool": "gpus"}]}),
    )
    return Setup(far_side, gateway, engines)


class Load:
    """So many workers that ask without a pause, and what went wrong for them."""

    def __init__(self, client: openai.AsyncOpenAI, workers: int) -> None:
        self._client = client
        self._workers = workers
        self._stop = False
        self._progress = asyncio.Condition()
        self.answered = 0
        self.errors: Counter[str] = Counter()

    async def __aenter__(self) -> Load:
        self._tasks = [asyncio.create_task(self._work()) for _ in range(self._workers)]
        return self

    async def __aexit__(self, *_error: object) -> None:
        self._stop = True
        await asyncio.gather(*self._tasks)

    async def more(self, count: int) -> None:
        """Waits for further answers."""
        wanted = self.answered + count
        async with self._progress:
            await self._progress.wait_for(lambda: self.answered >= wanted or bool(self.errors))

    async def _work(self) -> None:
        while not self._stop:
            try:
                await self._client.chat.completions.create(model="qwen3-8b", messages=HELLO, max_tokens=8)
                self.answered += 1
            except openai.OpenAIError as error:
                self.errors[repr(error)[:200]] += 1
            async with self._progress:
                self._progress.notify_all()


FAULTS: dict[str, dict[str, Any]] = {
    "crash": {},
    "hang": {"hang": "all"},
    "hanging requests": {"hang": "requests"},
    "503": {"status": 503},
    "429": {"status": 429},
    "reset": {"reset": "before-headers"},
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_no_request_fails_while_a_healthy_endpoint_is_there(setup: Setup, fault: str) -> None:
    victim = setup.engines[0]
    client = openai.AsyncOpenAI(base_url=f"{setup.gateway.url}/v1", api_key="any", max_retries=0, timeout=60)
    async with client, Load(client, 30) as load:
        await load.more(60)
        if fault == "crash":
            await asyncio.to_thread(setup.far.run, victim.crash())
        else:
            victim.set_faults(**FAULTS[fault])
        await load.more(100)
        if fault in ("crash", "hang"):
            state = setup.endpoints()[victim.address]["state"]
            assert state == "unreachable"
            seen = victim.recorder.seen
            await load.more(30)
            assert victim.recorder.seen == seen, "nothing goes to an endpoint that has left"
        if fault == "crash":
            await asyncio.to_thread(setup.far.run, victim.start())
        victim.set_faults(hang="off", status=None, reset=None)
        seen = victim.recorder.seen
        while victim.recorder.seen == seen and not load.errors:
            await load.more(10)
    assert not load.errors
    endpoints = setup.endpoints
    wait_until(lambda: {found["state"] for found in endpoints().values()} == {"healthy"}, "its return")
    wait_until(lambda: not any(found["in_flight"] for found in endpoints().values()), "all load to be given back")


def test_a_stream_leaves_an_endpoint_that_stays_silent(far_side: FarSide, gateways: Gateways) -> None:
    calls: queue.Queue[Call] = queue.Queue()
    with Held(far_side, calls) as one, Held(far_side, calls) as other:
        gateway = gateways.start(
            pool("gpus", [one.address, other.address], timeouts={"idle": "1s"}),
            route("all", "*", {"backendRefs": [{"pool": "gpus"}]}),
        )
        with Chat(gateway.port, stream=True) as chat:
            silent = calls.get(timeout=30)
            call = calls.get(timeout=30)
            assert call.at != silent.at
            call.event("here")
            call.end()
            assert chat.head()[0] == 200
            assert chat.remaining() == "here"
