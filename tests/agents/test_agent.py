"""The agent between a simulated engine and a real report server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import extproc.agents.agent
from bench.engine.config import EngineConfig
from bench.engine.server import EngineServer
from extproc.agents.agent import Agent, AgentOptions, token_source
from extproc.agents.server import ReportServer, ReportSettings
from extproc.agents.sessions import AgentSessions, Registration
from extproc.pool.engines.runtime import PoolConfig, PoolRuntime
from extproc.pool.engines.scrape import ScrapeSettings

A = "10.0.0.1:8000"
TOKEN = "shared"


class Gateway:
    """A report server that can go away and come back on its port."""

    def __init__(self) -> None:
        self.changes: asyncio.Queue[str] = asyncio.Queue()
        self.runtime = PoolRuntime(
            PoolConfig(name="p", sources=(), membership="agents", scrape=ScrapeSettings(interval=60)),
            on_change=lambda _, change: self.changes.put_nowait(change.state or "gone"),
        )
        self._port = 0
        self._server: ReportServer | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._port}"

    async def up(self) -> None:
        settings = ReportSettings(address=self.address, report_interval=0.01, heartbeat=0.05)
        self._server = ReportServer(settings, AgentSessions({"p": self.runtime}.get, silence=30.0), lambda: TOKEN)
        self._port = await self._server.start()

    async def down(self) -> None:
        if self._server is not None:
            await self._server.stop()
            self._server = None

    async def until(self, state: str) -> None:
        while await self.changes.get() != state:
            pass


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    one = Gateway()
    await one.up()
    yield one
    await one.down()


@asynccontextmanager
async def running(engine: EngineServer, *gateways: Gateway, token: str = TOKEN) -> AsyncIterator[asyncio.Event]:
    options = AgentOptions(
        engine=f"http://{engine.address}",
        gateways=tuple(gateway.address for gateway in gateways),
        registration=Registration(pool="p", address=A, labels={"gpu": "h20"}),
        token=lambda: token,
        interval=0.01,
        backoff=(0.01, 0.05),
    )
    stop = asyncio.Event()
    task = asyncio.create_task(Agent(options).run(stop))
    try:
        yield stop
    finally:
        stop.set()
        await task


@pytest.mark.parametrize("dialect", ["vllm", "sglang"])
async def test_an_engine_that_becomes_ready_is_registered_with_its_load(gateway: Gateway, dialect: str) -> None:
    engine = EngineServer(EngineConfig(dialect=dialect))  # type: ignore[arg-type]
    await engine.start()
    await engine.stop()
    async with running(engine, gateway):
        await engine.start()
        await gateway.until("healthy")
        (view,) = gateway.runtime.view().endpoints
        assert (view.address, view.engine, view.running, view.labels) == (A, dialect, 0, {"gpu": "h20"})
    await gateway.until("gone")
    await engine.stop()


async def test_two_gateways_and_one_of_them_goes_and_returns(gateway: Gateway) -> None:
    other = Gateway()
    await other.up()
    async with EngineServer() as engine, running(engine, gateway, other):
        await gateway.until("healthy")
        await other.until("healthy")
        await other.down()
        await other.until("gone")
        await other.up()
        await other.until("healthy")
        assert gateway.runtime.view().endpoints[0].address == A
        assert gateway.changes.empty(), "the other one has noticed nothing"
    await gateway.until("gone")
    await other.until("gone")
    await other.down()


async def test_an_engine_that_crashes_leaves_and_returns(gateway: Gateway) -> None:
    async with EngineServer() as engine, running(engine, gateway):
        await gateway.until("healthy")
        await engine.crash()
        await gateway.until("gone")
        await engine.start()
        await gateway.until("healthy")


async def test_an_engine_that_says_nothing_of_its_load_is_there_with_an_unknown_one(gateway: Gateway) -> None:
    async with EngineServer() as engine:
        engine.set_faults(metrics="garbage")
        async with running(engine, gateway):
            await gateway.until("healthy")
            (view,) = gateway.runtime.view().endpoints
            assert view.reason.startswith("load unknown")
            assert view.running is None
            engine.set_faults(metrics="ok")
            await gateway.until("healthy")
            assert gateway.runtime.view().endpoints[0].running == 0


async def test_a_gateway_that_refuses_is_asked_again(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    refused = asyncio.Event()

    def warn(message: str, *values: object) -> None:
        told.append(message % values)
        refused.set()

    monkeypatch.setattr(extproc.agents.agent.log, "warning", warn)
    async with EngineServer() as engine, running(engine, gateway, token="wrong"):
        await refused.wait()
    assert gateway.runtime.view().endpoints == []
    (line,) = told
    assert "UNAUTHENTICATED: the token is not the gateway's; trying again" in line
    assert "wrong" not in line


async def test_stopping_without_a_gateway_ends(gateway: Gateway) -> None:
    await gateway.down()
    async with EngineServer() as engine, running(engine, gateway):
        pass


@pytest.mark.parametrize("engine", ["https://127.0.0.1:1", "http://", "http://h:1/path", ""])
def test_engines_that_no_agent_can_read(engine: str) -> None:
    registration = Registration(pool="p", address=A)
    with pytest.raises(ValueError, match=r"is not http://HOST:PORT|port"):
        Agent(AgentOptions(engine=engine, gateways=("g:1",), registration=registration, token=str))


def test_where_the_token_comes_from(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(" one\n")
    read = token_source(file, {"SLUICE_AGENT_TOKEN": "env"})
    assert read() == "one"
    file.write_text("two")
    assert read() == "two", "read anew at each connection"
    assert token_source(None, {"SLUICE_AGENT_TOKEN": " env "})() == "env"
    with pytest.raises(ValueError, match="--token-file"):
        token_source(None, {"SLUICE_AGENT_TOKEN": " "})
