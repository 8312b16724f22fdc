"""The gRPC server: one task per ext_proc stream, health, reflection, graceful drain."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Callable
from typing import Any

import grpc
from envoy.service.ext_proc.v3 import external_processor_pb2
from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection

from extproc.exchange.exchange import UnexpectedEventError
from extproc.steps.wait import Wait
from extproc.wire.endpoints import EndpointDiscovery
from extproc.wire.service import Service
from extproc.wire.session import Session

log = logging.getLogger(__name__)

SERVICE = "envoy.service.ext_proc.v3.ExternalProcessor"
_OPTIONS = (
    ("grpc.max_receive_message_length", -1),  # Envoy's own body limit, which the configuration sets, comes first
    ("grpc.max_send_message_length", -1),
    ("grpc.max_concurrent_streams", 1 << 20),
    ("grpc.so_reuseport", 0),  # a second server on the port must fail instead of taking half of the streams
    ("grpc.http2.min_ping_interval_without_data_ms", 1000),
)

_LIVENESS, _READINESS = "liveness", "readiness"
"""Health checks of their own in the endpoint picker protocol: a picker that drains is alive and not ready."""
_PATIENCE = 0.5
"""Seconds that work may take before Envoy is told to wait for it. Of a queue it is told at once."""
_LAST_WORDS = 1.0
"""Seconds that calls other than exchanges get at the end; a health watch never ends by itself."""


class Server:
    """Serves exchanges of one `Service`. Messages stay bytes within gRPC; the codec parses them."""

    def __init__(self, service: Service, endpoints: EndpointDiscovery | None = None) -> None:
        self._service = service
        self._endpoints = endpoints
        self._server = grpc.aio.server(options=_OPTIONS)
        self._health = HealthServicer()
        self.in_flight = 0
        self._draining = False
        self._idle = asyncio.Event()
        handler = grpc.stream_stream_rpc_method_handler(self._process)
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"Process": handler}),))
        if endpoints is not None:
            self._server.add_generic_rpc_handlers((endpoints.handler,))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (SERVICE, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)
        assert external_processor_pb2.DESCRIPTOR.services_by_name["ExternalProcessor"].full_name == SERVICE  # noqa: S101

    async def start(self, address: str) -> int:
        """Listens on `HOST:PORT` or `unix:PATH`; gives the port. Raises OSError if the address cannot be had."""
        try:
            port: int = self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise OSError(f"cannot listen on {address}: {error}") from error
        await self._server.start()
        await self._health.set(_LIVENESS, health_pb2.HealthCheckResponse.SERVING)
        await self._set_health(health_pb2.HealthCheckResponse.SERVING)
        return port

    async def drain(self, seconds: float) -> None:
        """Reports NOT_SERVING, takes no new exchange, and lets the running ones finish for at most `seconds`.

        Health checks are answered until the end, so the server stays open for them.
        """
        self._draining = True
        await self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)
        if self.in_flight:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._idle.wait(), seconds)
        if self._endpoints is not None:
            self._endpoints.close()
        await self._server.stop(min(seconds, _LAST_WORDS))

    async def _set_health(self, status: Any) -> None:
        for name in ("", SERVICE, _READINESS):
            await self._health.set(name, status)

    async def _process(self, _messages: object, context: Any) -> None:
        if self._draining:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "draining")
        session = Session(self._service)
        self.in_flight += 1
        try:
            await self._serve(session, context.read, context.write)
        except asyncio.CancelledError:
            pass  # Envoy reset the stream: the usual end of an exchange that it gave up
        except (UnexpectedEventError, DecodeError) as error:
            log.warning("ext_proc stream refused: %s", error)
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        finally:
            self.in_flight -= 1
            if self._draining and not self.in_flight:
                self._idle.set()
            session.close()

    async def _serve(self, session: Session, read: Callable[[], Any], write: Callable[[bytes], Any]) -> None:
        ahead: asyncio.Future[Any] | None = None
        """A read that was begun during a wait, to see whether Envoy gives up."""
        try:
            while not session.done:
                data = await (read() if ahead is None else ahead)
                ahead = None
                if data is grpc.aio.EOF:
                    return
                for reply in session.handle(data):
                    await write(reply)
                while (wait := session.waiting) is not None:
                    ahead = ahead or asyncio.ensure_future(read())
                    if not await self._over(wait, ahead, session, write):
                        return
                    for reply in session.resume():
                        await write(reply)
        finally:
            if ahead is not None:
                ahead.cancel()

    async def _over(
        self, wait: Wait, ahead: asyncio.Future[Any], session: Session, write: Callable[[bytes], Any]
    ) -> bool:
        """Returns once the wait is over: True, or False if Envoy has gone before."""
        woken = asyncio.get_running_loop().create_future()
        wait.wake = lambda: None if woken.done() else woken.set_result(None)
        work = None if wait.work is None else asyncio.ensure_future(wait.work())
        clock, signs = self._service.clock, {woken, ahead} if work is None else {woken, ahead, work}
        hold_at = clock() + (0.0 if work is None else _PATIENCE)
        try:
            while not wait.over:
                now = clock()
                if now >= hold_at:
                    hold_at = math.inf
                    for reply in session.hold(wait):
                        await write(reply)
                pause = min(wait.pause(now), hold_at - now)
                done, _ = await asyncio.wait(
                    signs, timeout=None if math.isinf(pause) else pause, return_when=asyncio.FIRST_COMPLETED
                )
                if ahead in done and not wait.over:
                    if not (session.streaming and ahead.result() is not grpc.aio.EOF):
                        return _still_there(ahead)
                    signs.discard(ahead)
                elif woken not in done:
                    wait.retry(clock())
            return True
        finally:
            wait.wake = _nothing
            if work is not None:
                work.cancel()


def _still_there(ahead: asyncio.Future[Any]) -> bool:
    """False if Envoy has gone; nothing else can have come."""
    if ahead.result() is grpc.aio.EOF:
        return False
    raise UnexpectedEventError("a message while the last one still waits for its reply")


def _nothing() -> None:
    """Nobody awaits it any more."""
