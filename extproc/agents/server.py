"""Where agents report: a gRPC server of its own, which lets in only those that know the token."""

from __future__ import annotations

import asyncio
import hmac
import logging
import socket
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import grpc
import msgspec

from extproc.agents.loads import from_message
from extproc.agents.proto.report_pb2 import AgentMessage, GatewayMessage, Registered
from extproc.agents.sessions import AgentSession, AgentSessions, RefusalCode, Registration, RegistrationRefused

log = logging.getLogger(__name__)

SERVICE = "sluice.agent.v1.AgentService"
_MAX_AGENTS = 4096
_MAX_PEERS = 1024
"""Peers whose wrong token has been logged and is remembered."""
_CHECKS_PER_HEARTBEAT = 4
_OPTIONS = (
    ("grpc.max_receive_message_length", 512 * 1024),
    ("grpc.so_reuseport", 1),  # a server that replaces another listens before that one ends
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 1000),
)
_STATUS: Mapping[RefusalCode, grpc.StatusCode] = {
    "out_of_order": grpc.StatusCode.INVALID_ARGUMENT,
    "unknown_pool": grpc.StatusCode.NOT_FOUND,
    "bad_address": grpc.StatusCode.INVALID_ARGUMENT,
    "bad_labels": grpc.StatusCode.INVALID_ARGUMENT,
    "not_a_member": grpc.StatusCode.FAILED_PRECONDITION,
    "taken": grpc.StatusCode.ALREADY_EXISTS,
}


class ReportTls(msgspec.Struct, frozen=True):
    """PEM files."""

    cert: Path
    key: Path
    client_ca: Path | None = None

    def read(self) -> tuple[bytes, bytes, bytes | None]:
        """Raises OSError."""
        return (
            self.cert.read_bytes(),
            self.key.read_bytes(),
            None if self.client_ca is None else self.client_ca.read_bytes(),
        )


class ReportSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Times in seconds."""

    address: str
    """`IP:PORT`."""
    tls: ReportTls | None = None
    report_interval: float = 0.1
    heartbeat: float = 1.0


class ReportServer:
    """`start` once, `stop` once. `token` gives the one that is valid at this moment; None lets nobody in."""

    def __init__(
        self,
        settings: ReportSettings,
        agents: AgentSessions,
        token: Callable[[], str | None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._agents = agents
        self._token = token
        self._clock = clock
        self._refused: OrderedDict[str, None] = OrderedDict()
        self.open = True
        """Whether agents may come; others are told to try again."""
        self._watch: asyncio.Task[None] | None = None
        self._server = grpc.aio.server(options=_OPTIONS, maximum_concurrent_rpcs=_MAX_AGENTS)
        handler = grpc.stream_stream_rpc_method_handler(
            self._report,
            request_deserializer=AgentMessage.FromString,
            response_serializer=GatewayMessage.SerializeToString,
        )
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"Report": handler}),))

    async def start(self, *, beside: bool = False) -> int:
        """Gives the port. Raises OSError if the address or a file cannot be had. `beside`: another server of this
        process listens on the same port, which this one is about to replace."""
        settings = self._settings
        if not beside:
            _check_free(settings.address)
        try:
            if settings.tls is None:
                port: int = self._server.add_insecure_port(settings.address)
            else:
                port = self._server.add_secure_port(settings.address, _credentials(settings.tls))
        except RuntimeError as error:
            raise OSError(f"cannot listen for agents on {settings.address}: {error}") from error
        await self._server.start()
        self._watch = asyncio.create_task(self._end_silent(), name="silent agents")
        return port

    def end(self, reason: str) -> None:
        """Every endpoint that agents report leaves, and no further agent is let in."""
        self.open = False
        self._agents.end_all(reason)

    async def stop(self) -> None:
        self.end("the gateway no longer listens for agents")
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        await self._server.stop(0)

    async def _end_silent(self) -> None:
        while True:
            await asyncio.sleep(self._settings.heartbeat / _CHECKS_PER_HEARTBEAT)
            self._agents.end_silent(self._clock())

    async def _report(self, _requests: object, context: Any) -> None:
        peer = _host(context.peer())
        if not self.open:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the gateway's settings for agents change; try again")
        if not self._is_known(context.invocation_metadata()):
            self._log_once(peer)
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "the token is not the gateway's")
        self._refused.pop(peer, None)
        await context.send_initial_metadata(())  # agents wait for it: a refusal must not cross their first message
        task = asyncio.current_task()
        reasons: list[str] = []

        def lost(reason: str) -> None:
            reasons.append(reason)
            if task is not None:
                task.cancel()

        session = self._agents.connect(peer, self._clock(), lost)
        try:
            await self._listen(session, context)
        except RegistrationRefused as refused:
            session.end(f"the agent was refused: {refused}")
            log.warning("agent at %s refused: %s", peer, refused)
            await context.abort(_STATUS[refused.code], str(refused))
        except asyncio.CancelledError:
            if not reasons or task is None:
                raise
            task.uncancel()
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, reasons[0])
        finally:
            session.end("the agent's connection has ended")

    async def _listen(self, session: AgentSession, context: Any) -> None:
        while not session.ended:
            message = await context.read()
            if message is grpc.aio.EOF:
                return
            now = self._clock()
            match message.WhichOneof("message"):
                case "register":
                    session.register(_registration(message.register), now)
                    await context.write(self._welcome())
                case "load":
                    session.load(from_message(message.load, now), now)
                case "heartbeat":
                    session.heartbeat(now)
                case "goodbye":
                    session.end(message.goodbye.reason[:256] or "the agent has taken leave")
                case _:
                    raise RegistrationRefused("out_of_order", "a message that this gateway does not know")

    def _welcome(self) -> Any:
        settings = self._settings
        return GatewayMessage(
            registered=Registered(
                report_interval_ms=max(1, round(settings.report_interval * 1000)),
                heartbeat_interval_ms=max(1, round(settings.heartbeat * 1000)),
            )
        )

    def _is_known(self, metadata: Any) -> bool:
        token = self._token()
        if token is None:
            return False
        given = [value for name, value in metadata or () if name == "authorization"]
        wanted = f"Bearer {token}".encode()
        return len(given) == 1 and hmac.compare_digest(_bytes(given[0]), wanted)

    def _log_once(self, peer: str) -> None:
        if peer in self._refused:
            return
        log.warning("agent at %s refused: wrong token (said once until it has the right one)", peer)
        self._refused[peer] = None
        if len(self._refused) > _MAX_PEERS:
            self._refused.popitem(last=False)


def _check_free(address: str) -> None:
    """Raises OSError if anybody listens there: the server would share the port with them."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, int(port)))
        except OSError as error:
            raise OSError(error.errno, f"cannot listen for agents on {address}: {error.strerror}") from error


def _registration(message: Any) -> Registration:
    return Registration(
        pool=message.pool, address=message.address, labels=dict(message.labels), instance=message.instance
    )


def _bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode()


def _host(peer: str) -> str:
    """`ipv4:10.0.0.1:4711` without the port, which changes with every connection."""
    return peer.rpartition(":")[0]


def _credentials(tls: ReportTls) -> Any:
    """Credentials that follow the files: each new connection gets what they hold then. Raises OSError."""
    current = tls.read()

    def refreshed() -> Any:
        nonlocal current
        try:
            found = tls.read()
        except OSError as error:
            log.warning("the certificate for agents stays as it was: %s", error)
            return None
        if found == current:
            return None
        current = found
        return _configuration(found)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(current), refreshed, require_client_authentication=tls.client_ca is not None
    )


def _configuration(found: tuple[bytes, bytes, bytes | None]) -> Any:
    cert, key, client_ca = found
    return grpc.ssl_server_certificate_configuration([(key, cert)], root_certificates=client_ca)
