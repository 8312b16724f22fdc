"""Endpoint discovery as Envoy speaks it: subscribe, acknowledge, be told of changes."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any

import grpc
import pytest
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.service.discovery.v3 import discovery_pb2
from google.rpc import status_pb2  # type: ignore[import-untyped]  # without types

from extproc.steps.live import Live
from extproc.steps.routes import RouteTable
from extproc.telemetry.metrics import Metrics
from extproc.wire.endpoints import EndpointDiscovery
from extproc.wire.server import Server, TransportName
from extproc.wire.service import Service


class Site:
    def __init__(self) -> None:
        self.pools: dict[str, list[str]] = {"a": [], "b": ["10.0.0.1:80"]}
        self.discovery = EndpointDiscovery(self.pools.get)
        self.port = 0

    def set(self, pool: str, *members: str) -> None:
        self.pools[pool] = list(members)
        self.discovery.changed()


@pytest.fixture
async def site(transport: TransportName) -> AsyncIterator[Site]:
    found = Site()
    live = Live(RouteTable({}))
    service = Service(live, lambda _record: None, lambda _model, _size: (0, 0), Metrics(), monotonic)
    server = Server(service, found.discovery, transport)
    found.port = await server.start("127.0.0.1:0")
    yield found
    await server.drain(0)


class Envoy:
    def __init__(self, call: Any) -> None:
        self.call = call

    async def ask(self, *names: str, answer_to: Any = None, error: str = "") -> None:
        request = discovery_pb2.DiscoveryRequest(resource_names=names)
        if answer_to is not None:
            request.response_nonce = answer_to.nonce
            request.version_info = answer_to.version_info
        if error:
            request.error_detail.CopyFrom(status_pb2.Status(message=error))
        await self.call.write(request)

    async def told(self) -> Any:
        return await self.call.read()


@asynccontextmanager
async def envoy(site: Site) -> AsyncIterator[Envoy]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{site.port}") as channel:
        open_stream = channel.stream_stream(
            "/envoy.service.endpoint.v3.EndpointDiscoveryService/StreamEndpoints",
            request_serializer=discovery_pb2.DiscoveryRequest.SerializeToString,
            response_deserializer=discovery_pb2.DiscoveryResponse.FromString,
        )
        call = open_stream()
        yield Envoy(call)
        call.cancel()


def hosts(response: Any) -> dict[str, list[tuple[str, int]]]:
    found: dict[str, list[tuple[str, int]]] = {}
    for resource in response.resources:
        assignment = endpoint_pb2.ClusterLoadAssignment()
        assert resource.Unpack(assignment)
        (locality,) = assignment.endpoints
        addresses: Sequence[Any] = [host.endpoint.address.socket_address for host in locality.lb_endpoints]
        found[assignment.cluster_name] = [(address.address, address.port_value) for address in addresses]
    return found


async def test_the_endpoints_of_a_pool_and_each_change(site: Site) -> None:
    async with envoy(site) as one:
        await one.ask("pool/a")
        first = await one.told()
        assert hosts(first) == {"pool/a": []}, "an empty pool is an answer"
        await one.ask("pool/a", answer_to=first)
        site.set("a", "10.0.0.1:80", "[::1]:81")
        second = await one.told()
        assert hosts(second) == {"pool/a": [("10.0.0.1", 80), ("::1", 81)]}
        assert second.version_info != first.version_info
        await one.ask("pool/a", answer_to=second)
        site.set("b", "10.0.0.9:80")
        site.set("a", "10.0.0.1:80")
        assert hosts(await one.told()) == {"pool/a": [("10.0.0.1", 80)]}, "and nothing of pools not asked for"


async def test_many_clusters_share_a_stream_and_each_is_told_once(site: Site) -> None:
    async with envoy(site) as one:
        await one.ask("pool/a")
        first = await one.told()
        await one.ask("pool/a", "pool/b", answer_to=first)
        second = await one.told()
        assert hosts(second) == {"pool/b": [("10.0.0.1", 80)]}
        await one.ask("pool/a", answer_to=second)
        await one.ask("pool/a", "pool/b", answer_to=second)
        assert hosts(await one.told()) == {"pool/b": [("10.0.0.1", 80)]}, "one that was left out is told anew"


async def test_names_that_are_no_pool_are_left_waiting_until_they_are(site: Site) -> None:
    async with envoy(site) as one:
        await one.ask("pool/new", "provider/x", "a")
        site.set("new", "10.0.0.3:80")
        assert hosts(await one.told()) == {"pool/new": [("10.0.0.3", 80)]}


async def test_a_complaint_is_logged(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    async with envoy(site) as one:
        await one.ask("pool/a")
        with caplog.at_level(logging.ERROR):
            await one.ask("pool/a", answer_to=await one.told(), error="bad endpoint")
            site.set("a", "10.0.0.1:80")
            await one.told()
    assert "Envoy refused endpoints: bad endpoint" in caplog.text


async def test_close_ends_streams(site: Site) -> None:
    async with envoy(site) as one:
        await one.ask("pool/a")
        await one.told()
        site.discovery.close()
        assert await one.told() is grpc.aio.EOF
