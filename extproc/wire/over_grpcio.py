"""Exchanges on the gRPC library: one task each."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import grpc

from extproc.steps.protection import HEADER
from extproc.wire.exchanges import REFUSALS, SERVICE, Exchanges, serve

log = logging.getLogger(__name__)

_OPTIONS = (
    ("grpc.max_receive_message_length", -1),  # Envoy's own body limit, which the configuration sets, comes first
    ("grpc.max_send_message_length", -1),
    ("grpc.max_concurrent_streams", 1 << 20),
    ("grpc.so_reuseport", 0),  # a second server on the port must fail instead of taking half of the streams
    ("grpc.http2.min_ping_interval_without_data_ms", 1000),
)


class GrpcioTransport:
    """Carries exchanges, and the services that are registered with `methods`. Messages stay bytes within gRPC."""

    def __init__(self, exchanges: Exchanges) -> None:
        self._exchanges = exchanges
        self.methods: Any = grpc.aio.server(options=_OPTIONS)
        handler = grpc.stream_stream_rpc_method_handler(self._process)
        self.methods.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"Process": handler}),))

    async def start(self, address: str) -> int:
        try:
            port: int = self.methods.add_insecure_port(address)
        except RuntimeError as error:
            raise OSError(f"cannot listen on {address}: {error}") from error
        await self.methods.start()
        return port

    async def stop(self, seconds: float) -> None:
        await self.methods.stop(seconds)

    async def _process(self, _messages: object, context: Any) -> None:
        exchanges = self._exchanges
        if exchanges.draining:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "draining")
        session = exchanges.begin(_rendered(context.invocation_metadata()))
        try:
            await serve(session, _Stream(context), exchanges.service.clock)
        except asyncio.CancelledError:
            pass  # Envoy reset the stream: the usual end of an exchange that it gave up
        except REFUSALS as error:
            log.warning("ext_proc stream refused: %s", error)
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        finally:
            exchanges.end(session)


def _rendered(metadata: Any) -> str | None:
    return next((str(value) for name, value in metadata or () if name == HEADER), None)


class _Stream:
    """A stream of the library, whose end is a value of its own."""

    __slots__ = ("_context", "write")

    def __init__(self, context: Any) -> None:
        self._context = context
        self.write = context.write

    async def read(self) -> bytes | None:
        data = await self._context.read()
        return None if data is grpc.aio.EOF else data
