"""An agent's end of a report stream."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import grpc
import msgspec

from extproc.agents.loads import to_message
from extproc.agents.proto.report_pb2 import AgentMessage, GatewayMessage, Goodbye, Heartbeat, Register
from extproc.agents.sessions import Registration
from extproc.pool.load import EngineLoad

_METHOD = "/sluice.agent.v1.AgentService/Report"
_OPTIONS = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    # One attempt per connection: the agent's own backoff decides when to try again.
    ("grpc.enable_retries", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
)


class ReportError(Exception):
    """The stream cannot be had or has ended. The text is the gateway's reason."""


class Pace(msgspec.Struct, frozen=True):
    """What the gateway expects, in seconds."""

    report: float
    heartbeat: float


class ReportClient:
    """`async with ReportClient(...) as client`, then `register`, then any number of `report` and `heartbeat`."""

    def __init__(
        self,
        gateway: str,
        token: str,
        *,
        tls: bool,
        ca: Path | None = None,
        cert: Path | None = None,
        key: Path | None = None,
        timeout: float = 5.0,
        on_end: Callable[[], None] = lambda: None,
    ) -> None:
        """`gateway` is `HOST:PORT`. With `tls`, its certificate is checked with `ca`, or the system's authorities, and
        `cert` and `key` are the agent's own. `timeout` in seconds is for each step. `on_end` is called when the gateway
        has ended a registered stream. Raises OSError for a file.
        """
        self._timeout = timeout
        self._metadata = (("authorization", f"Bearer {token}"),)
        if tls:
            files = [None if path is None else path.read_bytes() for path in (ca, key, cert)]
            credentials = grpc.ssl_channel_credentials(*files)
            self._channel = grpc.aio.secure_channel(gateway, credentials, options=_OPTIONS)
        else:
            self._channel = grpc.aio.insecure_channel(gateway, options=_OPTIONS)
        self._call: Any = None
        self._on_end = on_end
        self._ending: asyncio.Task[None] | None = None

    async def __aenter__(self) -> ReportClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._call is not None:
            self._call.cancel()
        if self._ending is not None:
            await self._ending
        await self._channel.close()

    async def register(self, registration: Registration) -> Pace:
        """Raises ReportError."""
        open_stream = self._channel.stream_stream(
            _METHOD,
            request_serializer=AgentMessage.SerializeToString,
            response_deserializer=GatewayMessage.FromString,
        )
        self._call = open_stream(metadata=self._metadata)
        message = Register(
            pool=registration.pool,
            address=registration.address,
            labels=dict(registration.labels),
            instance=registration.instance,
        )
        await self._in_time(self._call.wait_for_connection())
        await self._send(AgentMessage(register=message))
        answer = await self._in_time(self._call.read())
        if answer is grpc.aio.EOF or not answer.HasField("registered"):
            raise ReportError(await self._why())
        self._ending = asyncio.create_task(self._until_end(), name="report stream")
        pace = answer.registered
        return Pace(pace.report_interval_ms / 1000, pace.heartbeat_interval_ms / 1000)

    async def report(self, load: EngineLoad) -> None:
        """Raises ReportError."""
        await self._send(AgentMessage(load=to_message(load)))

    async def heartbeat(self) -> None:
        """Raises ReportError."""
        await self._send(AgentMessage(heartbeat=Heartbeat()))

    async def goodbye(self, reason: str) -> None:
        """The endpoint leaves its pool; returns when the gateway has seen to it. Raises ReportError."""
        await self._send(AgentMessage(goodbye=Goodbye(reason=reason)))
        if self._ending is not None:
            await self._in_time(asyncio.shield(self._ending))

    async def _until_end(self) -> None:
        """The gateway says nothing after its welcome, so whatever can be read ends with the stream."""
        try:
            while await self._call.read() is not grpc.aio.EOF:
                pass
        except (grpc.aio.AioRpcError, asyncio.CancelledError):
            pass  # `_why` tells the reason to whoever sends next
        self._on_end()

    async def _send(self, message: Any) -> None:
        if self._ending is not None and self._ending.done():
            raise ReportError(await self._why())
        await self._in_time(self._call.write(message))

    async def _in_time(self, work: Any) -> Any:
        """What the gateway answers. Raises ReportError."""
        try:
            async with asyncio.timeout(self._timeout):
                return await work
        except TimeoutError:
            raise ReportError(f"no answer from the gateway within {self._timeout:g} s") from None
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError, grpc.aio.UsageError):
            raise ReportError(await self._why()) from None

    async def _why(self) -> str:
        if not self._call.done():
            return "the gateway ended the stream"
        code = await self._call.code()
        return f"{code.name}: {await self._call.details()}"
