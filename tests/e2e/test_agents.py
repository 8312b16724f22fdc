"""A pool that only agents fill, on a real Envoy: its cluster has no endpoints but those that have registered."""

from __future__ import annotations

import json
import signal
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bench.engine.server import EngineServer
from tests.support.far_side import FarSide
from tests.support.gateway import Gateway, Gateways, manifest, route
from tests.support.processes import Process, free_port, wait_until

TOKEN = "e2e-agent-token"
HEARTBEAT = "100ms"


def chat(gateway: Gateway, tokens: int = 1) -> tuple[int, str]:
    """Status, and the reason where Sluice refused."""
    message = {"role": "user", "content": "hi"}
    body = json.dumps({"model": "qwen3-8b", "max_tokens": tokens, "messages": [message]}).encode()
    request = urllib.request.Request(  # noqa: S310 the test's own gateway
        f"{gateway.url}/v1/chat/completions", body, {"content-type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310 likewise
            response.read()
            return response.status, ""
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers.get("x-sluice-reason", "")


def _has_seen(engine: EngineServer, requests: int) -> bool:
    return engine.recorder.seen >= requests


class Site:
    """A gateway and the agents that report to it."""

    def __init__(self, gateway: Gateway, port: int, stack: ExitStack) -> None:
        self.gateway = gateway
        self.port = port
        self._stack = stack
        self._count = 0
        self._answers = 0

    def agent(self, engine: EngineServer, *options: str) -> Process:
        self._count += 1
        command = [sys.executable, "-m", "extproc", "agent", "--engine", f"http://{engine.address}"]
        command += ["--gateway", f"127.0.0.1:{self.port}", "--pool", "gpus", "--address", engine.address, *options]
        log = self.gateway.directory.parent / f"agent{self._count}.log"
        return self._stack.enter_context(Process(command, log, {"SLUICE_AGENT_TOKEN": TOKEN}))

    def endpoints(self) -> dict[str, str]:
        """Address to state."""
        pools = json.loads(self.gateway.admin_text("/endpoints"))
        return {each["address"]: each["state"] for pool in pools for each in pool["endpoints"]}

    def until(self, *addresses: str) -> None:
        """Waits until exactly these endpoints can be chosen, and Envoy has them."""
        wait_until(lambda: self.endpoints() == dict.fromkeys(addresses, "healthy"), f"the endpoints {addresses}", 20)
        if addresses:
            wait_until(lambda: self.chat()[0] == 200, "Envoy's cluster", 10)

    def served(self, requests: int) -> set[str]:
        """Which endpoints serve so many requests, none of which fails."""
        for _ in range(requests):
            assert self.chat() == (200, "")
        wait_until(lambda: len(self._answered()) == self._answers, "the access log", 20)
        return {line["endpoint"] for line in self._answered()[-requests:]}

    def chat(self) -> tuple[int, str]:
        found = chat(self.gateway)
        self._answers += found[0] == 200
        return found

    def _answered(self) -> list[dict[str, Any]]:
        return [line for line in self.gateway.log_lines() if line["status"] == 200 and line["endpoint"]]


@pytest.fixture(params=[False, True], ids=["run", "split"])
def site(request: pytest.FixtureRequest, gateways: Gateways) -> Iterator[Site]:
    port = free_port()
    with ExitStack() as stack:
        gateway = gateways.start(
            manifest("InferencePool", "gpus", membership="agents", policy="round-robin"),
            route("all", "*", {"backendRefs": [{"pool": "gpus"}]}),
            environ={"AGENT_TOKEN": TOKEN},
            split=request.param,
            agents={"port": port, "token": "${AGENT_TOKEN}", "heartbeat": HEARTBEAT},
        )
        yield Site(gateway, port, stack)


def test_a_pool_lives_by_its_agents(site: Site, far_side: FarSide) -> None:
    assert site.chat() == (503, "no_endpoints")
    first, second = far_side.engine(), far_side.engine()
    one = site.agent(first, "--label", "gpu=h20")
    site.until(first.address)
    assert site.served(4) == {first.address}
    two = site.agent(second)
    site.until(first.address, second.address)
    assert site.served(8) == {first.address, second.address}

    one.kill()
    site.until(second.address)
    assert site.served(4) == {second.address}
    site.agent(first)
    site.until(first.address, second.address)
    assert site.served(8) == {first.address, second.address}

    two.signal(signal.SIGTERM)
    assert two.wait() == 0
    site.until(first.address)
    assert site.served(4) == {first.address}


def test_an_engine_that_crashes_leaves_and_returns(site: Site, far_side: FarSide) -> None:
    stays, crashes = far_side.engine(), far_side.engine()
    for engine in (stays, crashes):
        site.agent(engine)
    site.until(stays.address, crashes.address)
    far_side.run(crashes.crash())
    wait_until(lambda: site.endpoints() == {stays.address: "healthy"}, "the crashed engine to leave", 20)
    assert site.served(4) == {stays.address}
    far_side.run(crashes.start())
    site.until(stays.address, crashes.address)
    assert site.served(8) == {stays.address, crashes.address}


def test_a_wrong_token_brings_in_nobody(site: Site, far_side: FarSide, tmp_path: Path) -> None:
    engine = far_side.engine()
    token = tmp_path / "token"
    token.write_text("guessed\n")
    agent = site.agent(engine, "--token-file", str(token))
    wait_until(lambda: "UNAUTHENTICATED" in agent.output(), "the refusal", 20)
    wait_until(lambda: "wrong token" in site.gateway.filter.output(), "the gateway's log", 20)
    assert site.endpoints() == {}
    assert "guessed" not in site.gateway.filter.output()
    token.write_text(TOKEN + "\n")
    site.until(engine.address)
    assert site.gateway.filter.output().count("wrong token") == 1


def test_requests_lose_nothing_while_endpoints_come_and_go(site: Site, far_side: FarSide) -> None:
    stays, goes = far_side.engine(), far_side.engine()
    site.agent(stays)
    site.until(stays.address)
    done = threading.Event()

    def send() -> list[tuple[int, str]]:
        answers = []
        while not done.is_set():
            answers.append(chat(site.gateway, tokens=20))
        return answers

    with ThreadPoolExecutor(4) as senders:
        sending = [senders.submit(send) for _ in range(4)]
        try:
            for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGTERM):
                agent = site.agent(goes)
                enough = goes.recorder.seen + 5
                wait_until(partial(_has_seen, goes, enough), "requests at the new endpoint", 20)
                agent.signal(number)
                agent.wait()
                wait_until(lambda: list(site.endpoints()) == [stays.address], "the endpoint to leave", 20)
        finally:
            done.set()
    answers = [answer for each in sending for answer in each.result()]
    assert len(answers) > 20
    assert set(answers) == {(200, "")}
