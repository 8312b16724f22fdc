"""Tells Envoy the endpoints of pools that agents fill: the endpoint discovery service of the xDS protocol.

Envoy picks only hosts that its cluster has, so the cluster has to follow the pool. While the filter is away, Envoy
keeps the endpoints that it was told last.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

import grpc
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf.any_pb2 import Any as AnyMessage

log = logging.getLogger(__name__)

SERVICE = "envoy.service.endpoint.v3.EndpointDiscoveryService"
_TYPE = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
_POOL = "pool/"

Members = Callable[[str], Sequence[str] | None]
"""Name of a pool -> addresses of its endpoints, `IP:PORT`; None where there is no such pool."""


class EndpointDiscovery:
    """State of the world, one stream per cluster or for many. `changed` is called whenever a pool may have changed."""

    def __init__(self, members: Members) -> None:
        self._members = members
        self._streams: set[_Stream] = set()
        self.handler = grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "StreamEndpoints": grpc.stream_stream_rpc_method_handler(
                    self._serve,
                    request_deserializer=discovery_pb2.DiscoveryRequest.FromString,
                    response_serializer=discovery_pb2.DiscoveryResponse.SerializeToString,
                )
            },
        )

    def changed(self) -> None:
        for stream in self._streams:
            stream.due.set()

    def close(self) -> None:
        """Ends every stream."""
        for stream in self._streams:
            stream.ended = True
            stream.due.set()

    async def _serve(self, _requests: object, context: Any) -> None:
        stream = _Stream(self._members)
        self._streams.add(stream)
        reading = asyncio.create_task(_read(stream, context.read), name="endpoint discovery")
        try:
            while True:
                await stream.due.wait()
                stream.due.clear()
                if stream.ended:
                    return
                if response := stream.response():
                    await context.write(response)
        except asyncio.CancelledError:
            pass  # Envoy has gone
        finally:
            self._streams.discard(stream)
            reading.cancel()


class _Stream:
    """What one Envoy asks for and has been told."""

    def __init__(self, members: Members) -> None:
        self.due = asyncio.Event()
        self.ended = False
        self._members = members
        self._names: frozenset[str] = frozenset()
        self._told: dict[str, tuple[str, ...]] = {}
        self._nonce = 0

    def asked(self, request: Any) -> None:
        """Takes in a request: a subscription, an acknowledgement, or a complaint."""
        if request.HasField("error_detail"):
            log.error("Envoy refused endpoints: %s", request.error_detail.message)
        self._names = frozenset(request.resource_names)
        self._told = {name: told for name, told in self._told.items() if name in self._names}
        self.due.set()

    def response(self) -> Any:
        """What Envoy does not know yet; None where it knows everything."""
        news: dict[str, tuple[str, ...]] = {}
        for name in sorted(self._names):
            members = self._members(name.removeprefix(_POOL)) if name.startswith(_POOL) else None
            if members is not None and self._told.get(name) != tuple(members):
                news[name] = tuple(members)
        if not news:
            return None
        self._told.update(news)
        self._nonce += 1
        return discovery_pb2.DiscoveryResponse(
            version_info=str(self._nonce),
            nonce=str(self._nonce),
            type_url=_TYPE,
            resources=[_assignment(name, members) for name, members in news.items()],
        )


async def _read(stream: _Stream, read: Callable[[], Any]) -> None:
    try:
        while (request := await read()) is not grpc.aio.EOF:
            stream.asked(request)
    finally:
        stream.ended = True
        stream.due.set()


def _assignment(cluster: str, members: Sequence[str]) -> Any:
    hosts = []
    for member in members:
        host, _, port = member.rpartition(":")
        address = {"address": host.removeprefix("[").removesuffix("]"), "port_value": int(port)}
        hosts.append({"endpoint": {"address": {"socket_address": address}}})
    found = AnyMessage()
    found.Pack(endpoint_pb2.ClusterLoadAssignment(cluster_name=cluster, endpoints=[{"lb_endpoints": hosts}]))
    return found
