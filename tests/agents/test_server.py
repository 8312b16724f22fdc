"""AgentSessions over real gRPC: who is let in, what each refusal is, what loss looks like."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from bench.certs import Certificates, make_certificates
from extproc.agents.client import Pace, ReportClient, ReportError
from extproc.agents.proto.report_pb2 import AgentMessage, GatewayMessage, Heartbeat, Register
from extproc.agents.server import ReportServer, ReportSettings, ReportTls
from extproc.agents.sessions import AgentSessions, Registration
from extproc.pool.engines.runtime import PoolConfig, PoolRuntime
from extproc.pool.engines.scrape import ScrapeSettings
from extproc.pool.load import EngineLoad

TOKEN = "right"
A = "10.0.0.1:8000"
BUSY = EngineLoad("vllm", 0.0, running=3.0, waiting=1.0, kv_usage=0.5)
HERE = Registration(pool="p", address=A)


class Site:
    """A report server with one pool that agents fill."""

    def __init__(self) -> None:
        self.events: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        self.now = 0.0
        self.token: str | None = TOKEN
        self.runtime = PoolRuntime(
            PoolConfig(name="p", sources=(), membership="agents", scrape=ScrapeSettings(interval=60)),
            on_change=lambda _, change: self.events.put_nowait((change.address, change.state or "gone")),
        )
        self.port = 0

    @asynccontextmanager
    async def serving(self, tls: ReportTls | None = None, heartbeat: float = 0.02) -> AsyncIterator[Site]:
        await self.runtime.start()
        agents = AgentSessions({"p": self.runtime}.get, silence=3.0)
        settings = ReportSettings(address="127.0.0.1:0", tls=tls, heartbeat=heartbeat)
        server = ReportServer(settings, agents, lambda: self.token, clock=lambda: self.now)
        self.port = await server.start()
        try:
            yield self
        finally:
            await server.stop()
            await self.runtime.stop()

    def client(self, token: str = TOKEN, **options: Any) -> ReportClient:
        return ReportClient(f"127.0.0.1:{self.port}", token, **{"tls": False, "timeout": 20.0, **options})

    async def until(self, *event: str) -> None:
        while await self.events.get() != event:
            pass


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with Site().serving() as one:
        yield one


async def test_a_registered_endpoint_is_a_member_with_the_load_that_was_reported(site: Site) -> None:
    async with site.client() as client:
        pace = await client.register(Registration(pool="p", address=A, labels={"gpu": "h20"}))
        assert pace == Pace(report=0.1, heartbeat=0.02)
        await site.until(A, "unknown")
        await client.report(BUSY)
        await site.until(A, "healthy")
        (view,) = site.runtime.view().endpoints
        assert (view.engine, view.running, view.waiting, view.kv_usage) == ("vllm", 3, 1, 0.5)
        assert view.labels == {"gpu": "h20"}
        await client.goodbye("the agent stops")
        await site.until(A, "gone")
    assert site.runtime.view().endpoints == []


async def test_a_stream_that_ends_takes_the_endpoint_with_it(site: Site) -> None:
    async with site.client() as client:
        await client.register(HERE)
        await client.report(BUSY)
    await site.until(A, "gone")
    async with site.client() as client:
        await client.register(HERE)
        await site.until(A, "unknown")


async def test_silence_takes_the_endpoint_out_and_tells_the_agent(site: Site) -> None:
    ended = asyncio.Event()
    async with site.client(on_end=ended.set) as client:
        await client.register(HERE)
        await site.until(A, "unknown")
        site.now = 3.5
        await site.until(A, "gone")
        await ended.wait()
        with pytest.raises(ReportError, match="DEADLINE_EXCEEDED: nothing heard from the agent for 3 s"):
            await client.heartbeat()


@pytest.mark.parametrize("token", ["wrong", "", "right ", "RIGHT", "rightx", "righ"])
async def test_a_wrong_token_is_refused_and_logged_once(
    site: Site, token: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            async with site.client(token) as client:
                with pytest.raises(ReportError, match="UNAUTHENTICATED: the token is not the gateway's"):
                    await client.register(HERE)
    assert site.runtime.view().endpoints == []
    assert len([record for record in caplog.records if "wrong token" in record.message]) == 1
    assert "right" not in caplog.text.replace("the right one", "")


async def test_a_gateway_without_a_token_lets_in_nobody(site: Site) -> None:
    site.token = None
    for token in ("", "None", TOKEN):
        async with site.client(token) as client:
            with pytest.raises(ReportError, match="UNAUTHENTICATED"):
                await client.register(HERE)


async def test_no_token_at_all(site: Site) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{site.port}") as channel:
        call = channel.stream_stream("/sluice.agent.v1.AgentService/Report")()
        assert await call.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_a_changed_token_counts_for_new_streams(site: Site) -> None:
    async with site.client() as client:
        await client.register(HERE)
        site.token = "other"
        await client.report(BUSY)
        await site.until(A, "healthy")
    async with site.client("other") as client:
        await client.register(HERE)


@pytest.mark.parametrize(
    ("registration", "reason"),
    [
        (Registration(pool="q", address=A), "NOT_FOUND: there is no pool 'q'"),
        (Registration(pool="p", address="engine:80"), "INVALID_ARGUMENT: 'engine:80' is not an address"),
        (Registration(pool="p", address=A, labels={"x" * 300: ""}), "INVALID_ARGUMENT: at most 64 labels"),
    ],
)
async def test_what_is_refused_says_why(site: Site, registration: Registration, reason: str) -> None:
    async with site.client() as client:
        with pytest.raises(ReportError, match=reason):
            await client.register(registration)


async def test_two_agents_for_one_endpoint(site: Site) -> None:
    async with site.client() as first, site.client() as second:
        await first.register(HERE)
        with pytest.raises(ReportError, match=r"ALREADY_EXISTS: endpoint 10.0.0.1:8000 of pool p is reported by"):
            await second.register(HERE)
        await first.report(BUSY)
        await site.until(A, "healthy")


async def test_messages_out_of_order(site: Site) -> None:
    register = AgentMessage(register=Register(pool="p", address=A))
    heartbeat = AgentMessage(heartbeat=Heartbeat())
    for messages in ([heartbeat], [register, register], [AgentMessage()]):
        async with grpc.aio.insecure_channel(f"127.0.0.1:{site.port}") as channel:
            open_stream = channel.stream_stream(
                "/sluice.agent.v1.AgentService/Report",
                request_serializer=AgentMessage.SerializeToString,
                response_deserializer=GatewayMessage.FromString,
            )
            call = open_stream(metadata=(("authorization", f"Bearer {TOKEN}"),))
            for message in messages:
                await call.write(message)
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                async for _ in call:
                    pass
            assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert site.runtime.view().endpoints == []


async def test_bytes_that_are_no_message_end_their_own_stream_only(site: Site) -> None:
    async with site.client() as client, grpc.aio.insecure_channel(f"127.0.0.1:{site.port}") as channel:
        await client.register(HERE)
        call = channel.stream_stream("/sluice.agent.v1.AgentService/Report")(
            metadata=(("authorization", f"Bearer {TOKEN}"),)
        )
        await call.write(b"\xff\xff\xff")
        assert await call.code() is not grpc.StatusCode.OK
        await client.report(BUSY)
        await site.until(A, "healthy")


async def test_a_pool_that_no_longer_takes_the_endpoint(site: Site) -> None:
    async with site.client() as client:
        await client.register(HERE)
        site.runtime.reconfigure(PoolConfig(name="p", sources=(), membership="static"))
        await site.until(A, "gone")
        ended = asyncio.Event()
        client._on_end = ended.set
        await client.report(BUSY)
        await ended.wait()
        with pytest.raises(ReportError, match=r"FAILED_PRECONDITION: 10.0.0.1:8000 is not an endpoint of pool p"):
            await client.report(BUSY)


async def test_a_stopping_gateway_loses_all_agents() -> None:
    async with Site().serving() as site:
        client = site.client()
        await client.register(HERE)
        await site.until(A, "unknown")
    assert site.runtime.view().endpoints == []
    async with client:
        pass


async def test_an_address_that_is_taken(site: Site) -> None:
    agents = AgentSessions(lambda _: None, silence=1.0)
    second = ReportServer(ReportSettings(address=f"127.0.0.1:{site.port}"), agents, lambda: TOKEN)
    with pytest.raises(OSError, match="cannot listen for agents"):
        await second.start()
    await second.stop()


def tls(found: Certificates, *, mutual: bool = False) -> ReportTls:
    return ReportTls(found.cert, found.key, found.ca if mutual else None)


async def test_tls_wants_the_right_authority(tmp_path: Path) -> None:
    ours, others = (make_certificates(tmp_path / name, ["127.0.0.1"]) for name in ("ours", "others"))
    async with Site().serving(tls(ours)) as site:
        async with site.client(tls=True, ca=ours.ca) as client:
            await client.register(HERE)
            await site.until(A, "unknown")
        for options in ({"tls": True, "ca": others.ca}, {"tls": False}):
            async with site.client(timeout=5.0, **options) as client:
                with pytest.raises(ReportError, match="UNAVAILABLE"):
                    await client.register(HERE)


async def test_a_gateway_that_wants_certificates_of_agents(tmp_path: Path) -> None:
    ours, others = (make_certificates(tmp_path / name, ["127.0.0.1"]) for name in ("ours", "others"))
    async with Site().serving(tls(ours, mutual=True)) as site:
        async with site.client(tls=True, ca=ours.ca) as client:
            with pytest.raises(ReportError, match="UNAVAILABLE"):
                await client.register(HERE)
        async with site.client(tls=True, ca=ours.ca, cert=others.cert, key=others.key) as client:
            with pytest.raises(ReportError, match="UNAVAILABLE"):
                await client.register(HERE)


async def test_a_renewed_certificate_counts_from_the_next_connection_on(tmp_path: Path) -> None:
    place = tmp_path / "in-use"
    old = make_certificates(place, ["127.0.0.1"])
    old_ca = old.ca.rename(tmp_path / "old.pem")
    async with Site().serving(tls(old)) as site:
        async with site.client(tls=True, ca=old_ca) as client:
            await client.register(HERE)
        new = make_certificates(place, ["127.0.0.1"])
        async with site.client(tls=True, ca=new.ca) as client:
            await client.register(Registration(pool="p", address="10.0.0.2:80"))
        old.cert.unlink()
        async with site.client(tls=True, ca=new.ca) as client:
            await client.register(Registration(pool="p", address="10.0.0.3:80"))
