"""The server that Envoy talks to: exchanges, health, reflection, endpoint discovery, graceful drain."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Protocol

from envoy.service.ext_proc.v3 import external_processor_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc
from grpc_reflection.v1alpha._async import ReflectionServicer

from extproc.wire.endpoints import EndpointDiscovery
from extproc.wire.exchanges import SERVICE, Exchanges
from extproc.wire.over_grpcio import GrpcioTransport
from extproc.wire.over_http2 import Http2Transport
from extproc.wire.service import Service

__all__ = ["SERVICE", "Server", "TransportName"]

TransportName = Literal["http2", "grpcio"]

_LIVENESS, _READINESS = "liveness", "readiness"
"""Health checks of their own in the endpoint picker protocol: a picker that drains is alive and not ready."""
_LAST_WORDS = 1.0
"""Seconds that calls other than exchanges get at the end; a health watch never ends by itself."""


class _Transport(Protocol):
    methods: Any
    """Takes services, as a `grpc.aio.Server` does."""

    async def start(self, address: str) -> int: ...

    async def stop(self, seconds: float) -> None: ...


_TRANSPORTS: dict[TransportName, Callable[[Exchanges], _Transport]] = {
    "http2": Http2Transport,
    "grpcio": GrpcioTransport,
}


class Server:
    """Serves exchanges of one `Service`, and what else Envoy asks of a filter, on one address."""

    def __init__(
        self, service: Service, endpoints: EndpointDiscovery | None = None, transport: TransportName = "http2"
    ) -> None:
        self._endpoints = endpoints
        self._exchanges = Exchanges(service)
        self._health = HealthServicer()
        self._transport: _Transport = _TRANSPORTS[transport](self._exchanges)
        methods = self._transport.methods
        if endpoints is not None:
            methods.add_generic_rpc_handlers((endpoints.handler,))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, methods)
        names = (SERVICE, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name, reflection.SERVICE_NAME)
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(ReflectionServicer(names), methods)
        assert external_processor_pb2.DESCRIPTOR.services_by_name["ExternalProcessor"].full_name == SERVICE  # noqa: S101

    async def start(self, address: str) -> int:
        """Listens on `HOST:PORT` or `unix:PATH`; gives the port. Raises OSError if the address cannot be had."""
        port = await self._transport.start(address)
        await self._health.set(_LIVENESS, health_pb2.HealthCheckResponse.SERVING)
        await self._set_health(health_pb2.HealthCheckResponse.SERVING)
        return port

    async def drain(self, seconds: float) -> None:
        """Reports NOT_SERVING, takes no new exchange, and lets the running ones finish for at most `seconds`.

        Health checks are answered until the end, so the server stays open for them.
        """
        self._exchanges.draining = True
        await self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)
        await self._exchanges.drain(seconds)
        if self._endpoints is not None:
            self._endpoints.close()
        await self._transport.stop(min(seconds, _LAST_WORDS))

    async def _set_health(self, status: Any) -> None:
        for name in ("", SERVICE, _READINESS):
            await self._health.set(name, status)
