"""Exchanges on the transport of `wire.http2`, where most of them need no task."""

from __future__ import annotations

import asyncio
import logging

from extproc.steps.protection import HEADER
from extproc.wire.exchanges import REFUSALS, SERVICE, Exchanges, serve
from extproc.wire.grpc_methods import GrpcMethods
from extproc.wire.http2.call import Call, StatusError
from extproc.wire.http2.driver import Handler
from extproc.wire.http2.limits import MIB, Limits
from extproc.wire.http2.server import Server
from extproc.wire.session import Session

log = logging.getLogger(__name__)

_PROCESS = f"/{SERVICE}/Process"
_ENVOY = HEADER.encode()
_INVALID_ARGUMENT, _UNAVAILABLE = 3, 14
_LARGEST_MESSAGE = 256 * MIB
"""Envoy's own limits on bodies come first; this one is for a peer that has none."""


class Http2Transport:
    """Carries exchanges, and the services that are registered with `methods`."""

    def __init__(self, exchanges: Exchanges) -> None:
        self._exchanges = exchanges
        self.methods = GrpcMethods()
        service = exchanges.service
        limits = Limits(message=lambda: max(_LARGEST_MESSAGE, 2 * service.live.body_limit))
        self._server = Server(self._find, limits, service.clock)

    async def start(self, address: str) -> int:
        return await self._server.start(address)

    async def stop(self, seconds: float) -> None:
        await self._server.stop(seconds)

    def _find(self, path: str) -> Handler | None:
        return self._process if path == _PROCESS else self.methods.find(path)

    def _process(self, call: Call) -> None:
        if self._exchanges.draining:
            raise StatusError(_UNAVAILABLE, "draining")
        call.serve(_Exchange(self._exchanges, call))


class _Exchange:
    """Handles each message as it comes. An exchange that has to wait goes on in a task from there."""

    __slots__ = ("_call", "_exchanges", "_session")

    def __init__(self, exchanges: Exchanges, call: Call) -> None:
        self._exchanges = exchanges
        self._call = call
        self._session: Session = exchanges.begin(call.metadata.get(_ENVOY, b"").decode("latin-1") or None)

    def message(self, data: bytes) -> None:
        session, call = self._session, self._call
        try:
            for reply in session.handle(data):
                call.send(reply)
        except REFUSALS as error:
            raise _refused(error) from error
        if session.waiting is not None:
            call.run(self._rest())
        elif session.done:
            call.end()

    def ended(self) -> None:
        self._call.end()

    def closed(self) -> None:
        self._exchanges.end(self._session)

    async def _rest(self) -> None:
        try:
            await serve(self._session, self._call, self._exchanges.service.clock)
        except asyncio.CancelledError:
            pass  # Envoy reset the stream: the usual end of an exchange that it gave up
        except REFUSALS as error:
            raise _refused(error) from error


def _refused(error: Exception) -> StatusError:
    log.warning("ext_proc stream refused: %s", error)
    return StatusError(_INVALID_ARGUMENT, str(error))
