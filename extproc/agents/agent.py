"""The agent beside an engine: reads its load on the spot and pushes it to one or several gateways."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from random import Random
from secrets import token_hex
from urllib.parse import urlsplit

import msgspec

from extproc.agents.client import Pace, ReportClient, ReportError
from extproc.agents.sessions import Registration
from extproc.pool.engines.fetch import Fetcher
from extproc.pool.engines.http import BadResponse
from extproc.pool.engines.scrape import EngineReader, Unreachable
from extproc.pool.engines.tasks import end, spawn
from extproc.pool.load import EngineLoad

log = logging.getLogger("sluice.agent")

TOKEN_VARIABLE = "SLUICE_AGENT_TOKEN"  # noqa: S105 -- the name of it
_OK = 200
_NOT_FOUND = 404
_MAX_HEALTH_PAGE = 64 * 1024
_JITTER = 0.2


class AgentOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Times in seconds."""

    engine: str
    """`http://HOST:PORT` of the engine, as this machine reaches it."""
    gateways: tuple[str, ...]
    """`HOST:PORT` of each."""
    registration: Registration
    token: Callable[[], str]
    """Asked at every connection. Raises OSError."""
    tls: bool = False
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    metrics_path: str = "/metrics"
    health_path: str = "/health"
    interval: float = 0.1
    """Between two readings of the engine."""
    timeout: float = 1.0
    """For one reading."""
    backoff: tuple[float, float] = (0.2, 5.0)
    """First and longest pause after a lost connection."""


class Agent:
    """`run` until the given event is set. Raises ValueError for an engine's address that is none."""

    def __init__(self, options: AgentOptions, *, random: Random | None = None) -> None:
        instance = options.registration.instance or token_hex(8)
        self._options = msgspec.structs.replace(
            options, registration=msgspec.structs.replace(options.registration, instance=instance)
        )
        self._random = random or Random()  # noqa: S311 -- spreads load, guards nothing
        self._engine = EngineWatch(options)
        self._links = [_Link(gateway, self._options, self._engine, self._random) for gateway in options.gateways]

    async def run(self, stop: asyncio.Event) -> None:
        """Reports until `stop`, then takes leave of every gateway that it reaches."""
        tasks = [spawn(self._engine.follow(), "engine"), *(spawn(link.run(), link.gateway) for link in self._links)]
        try:
            await stop.wait()
            await asyncio.gather(*(link.leave() for link in self._links))
        finally:
            await end(tasks)


def token_source(file: Path | None, environ: Mapping[str, str]) -> Callable[[], str]:
    """Reads the token anew at each call, so that it can be changed. Raises ValueError where there is none to read."""
    if file is not None:
        path = file
        return lambda: path.read_text(encoding="utf-8").strip()
    token = environ.get(TOKEN_VARIABLE, "").strip()
    if not token:
        raise ValueError(f"no token: name a file with --token-file, or set {TOKEN_VARIABLE}")
    return lambda: token


class EngineWatch:
    """The engine's load as last read, and whether it answers."""

    def __init__(self, options: AgentOptions) -> None:
        address = _host_and_port(options.engine)
        self.load: EngineLoad | None = None
        self.reason = "the engine has not answered yet"
        """Why it is not up; empty where it is."""
        self._options = options
        self._reader = EngineReader(address, time.monotonic)
        self._health = Fetcher(address, _MAX_HEALTH_PAGE)
        self._listeners: list[asyncio.Event] = []

    @property
    def up(self) -> bool:
        return not self.reason

    def tell(self, event: asyncio.Event) -> None:
        """Sets `event` at every change from here on."""
        self._listeners.append(event)

    async def follow(self) -> None:
        """Reads for ever."""
        try:
            while True:
                await self._look()
                await asyncio.sleep(self._options.interval)
        finally:
            self._reader.close()
            self._health.close()

    async def _look(self) -> None:
        options = self._options
        if not self.up and not await self._is_ready():
            return
        try:
            load, unknown = await self._reader.read(options.metrics_path, options.timeout)
        except Unreachable as error:
            self._take(None, f"engine lost: {error}")
            return
        if unknown and (self.load is not None or not self.up):
            log.warning("engine %s: %s", options.engine, unknown)
        self._take(load, "")

    def _take(self, load: EngineLoad | None, reason: str) -> None:
        if bool(reason) != bool(self.reason):
            log.info("engine %s %s", self._options.engine, reason or "is ready")
        same = reason == self.reason and _figures(load) == _figures(self.load)
        self.load, self.reason = load, reason
        if not same:
            for event in self._listeners:
                event.set()

    async def _is_ready(self) -> bool:
        """An engine without a health page counts as ready once its metrics can be read."""
        try:
            status, _, _ = await self._health.get(self._options.health_path, self._options.timeout)
        except (TimeoutError, OSError, BadResponse):
            return False
        return status in (_OK, _NOT_FOUND)


class _Link:
    """The stream to one gateway, opened again for ever."""

    def __init__(self, gateway: str, options: AgentOptions, engine: EngineWatch, random: Random) -> None:
        self.gateway = gateway
        self._options = options
        self._engine = engine
        self._random = random
        self._changed = asyncio.Event()
        self._client: ReportClient | None = None
        self._told = ""
        self._pause = options.backoff[0]
        engine.tell(self._changed)

    async def run(self) -> None:
        while True:
            await self._until_up()
            try:
                await self._serve()
            except (ReportError, OSError) as error:
                if str(error) != self._told:
                    log.warning("gateway %s: %s; trying again", self.gateway, error)
                    self._told = str(error)
                pause = self._pause * self._random.uniform(1 - _JITTER, 1 + _JITTER)
                self._pause = min(2 * self._pause, self._options.backoff[1])
                await asyncio.sleep(pause)

    async def leave(self) -> None:
        """Takes the endpoint out of its pool, if this gateway has it."""
        if self._client is not None:
            with suppress(ReportError):
                await self._client.goodbye("the agent stops")

    async def _until_up(self) -> None:
        while not self._engine.up:
            self._changed.clear()
            await self._changed.wait()

    async def _serve(self) -> None:
        """Returns when the engine is lost. Raises ReportError, or OSError for a file."""
        options = self._options
        client = ReportClient(
            self.gateway,
            options.token(),
            tls=options.tls,
            ca=options.ca,
            cert=options.cert,
            key=options.key,
            on_end=self._changed.set,
        )
        async with client:
            pace = await client.register(options.registration)
            log.info("gateway %s: registered %s", self.gateway, options.registration.address)
            self._client, self._told, self._pause = client, "", options.backoff[0]
            try:
                await self._report(client, pace)
                await client.goodbye(self._engine.reason)
            finally:
                self._client = None

    async def _report(self, client: ReportClient, pace: Pace) -> None:
        """Each change, at most as often as the gateway wants it, and a heartbeat where there is none."""
        last: EngineLoad | None = None
        first = True
        while self._engine.up:
            self._changed.clear()
            load = self._engine.load
            if first or _figures(load) != _figures(last):
                await client.report(load or EngineLoad("", 0.0))
            else:
                await client.heartbeat()
            last, first = load, False
            await asyncio.sleep(pace.report)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), max(0.0, pace.heartbeat - pace.report))


def _figures(load: EngineLoad | None) -> EngineLoad | None:
    return None if load is None else msgspec.structs.replace(load, taken_at=0.0)


def _host_and_port(url: str) -> str:
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if parts.scheme != "http" or parts.hostname is None or parts.path not in ("", "/"):
        raise ValueError(f"{url!r} is not http://HOST:PORT")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{host}:{parts.port or 80}"
