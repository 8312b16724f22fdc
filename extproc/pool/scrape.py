"""Reads the load of every endpoint of a pool, each on its own, several times a second."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable
from random import Random

import aiohttp
import msgspec
from yarl import URL

from extproc.pool.endpoint import Change
from extproc.pool.load import EngineLoad
from extproc.pool.metrics import parse_metrics
from extproc.pool.pool import Pool
from extproc.pool.tasks import end, spawn

MAX_PAGE = 2 * 1024 * 1024
"""Bytes of a metrics page; the load of an endpoint that answers with more is unknown."""
_JITTER = 0.2
"""Share of the interval by which a pause is shorter or longer, so that scrapes do not fall into step."""
_OK = 200
_SERVER_ERROR = 500


class ScrapeSettings(msgspec.Struct, frozen=True, kw_only=True):
    path: str = "/metrics"
    interval: float = 0.2
    """Seconds from the end of one scrape to the begin of the next."""
    timeout: float = 1.0
    """Seconds for one scrape, connecting included."""


class Unreachable(Exception):
    """The endpoint did not answer, or says itself that it cannot serve. The text is the reason."""


def open_session() -> aiohttp.ClientSession:
    """The session that all pools share. Needs a running loop; its owner closes it."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,  # a page is asked for as it is, and nothing may grow by being unpacked
        headers={"Accept": "text/plain", "Accept-Encoding": "identity", "User-Agent": "sluice"},
    )


class Scraper:
    """One task for each endpoint that is watched. States and loads go to the pool, changes of state to `on_change`."""

    def __init__(
        self,
        pool: Pool,
        session: aiohttp.ClientSession,
        settings: ScrapeSettings,
        *,
        clock: Callable[[], float],
        random: Random,
        on_change: Callable[[Change], None],
    ) -> None:
        self.settings = settings
        """May be replaced at any time; counts from the next scrape on."""
        self._pool = pool
        self._session = session
        self._clock = clock
        self._random = random
        self._on_change = on_change
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def watch(self, addresses: Iterable[str]) -> None:
        """Makes exactly these the watched ones."""
        wanted = set(addresses)
        for address in self._tasks.keys() - wanted:
            self._tasks.pop(address).cancel()
        for address in wanted - self._tasks.keys():
            self._tasks[address] = spawn(self._follow(address), f"scrape {address}")

    async def stop(self) -> None:
        tasks = list(self._tasks.values())
        self._tasks.clear()
        await end(tasks)

    async def _follow(self, address: str) -> None:
        while True:
            change = await self._scrape(address)
            if change:
                self._on_change(change)
            await asyncio.sleep(self.settings.interval * self._random.uniform(1 - _JITTER, 1 + _JITTER))

    async def _scrape(self, address: str) -> Change | None:
        self._pool.scrape_begins(address, self._clock())
        settings = self.settings
        try:
            load, reason = await self._read(URL(f"http://{address}{settings.path}", encoded=True), settings.timeout)
        except Unreachable as error:
            return self._pool.unreachable(address, str(error), self._clock())
        return self._pool.observe(address, load, self._clock(), reason)

    async def _read(self, url: URL, seconds: float) -> tuple[EngineLoad | None, str]:
        """The load, or None and why it is unknown. Raises Unreachable."""
        try:
            limit = aiohttp.ClientTimeout(total=seconds)
            async with self._session.get(url, timeout=limit, allow_redirects=False) as response:
                page = await _limited(response.content)
        except TimeoutError as error:
            raise Unreachable(f"no answer within {seconds:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise Unreachable(_describe(error)) from error
        if response.status >= _SERVER_ERROR:
            raise Unreachable(f"HTTP {response.status} from {url.path}")
        if response.status != _OK:
            return None, f"load unknown: HTTP {response.status} from {url.path}"
        if page is None:
            return None, f"load unknown: {url.path} is longer than {MAX_PAGE} bytes"
        load = parse_metrics(page, self._clock())
        return load, "" if load else f"load unknown: no figures of a known engine in {url.path}"


async def _limited(content: aiohttp.StreamReader) -> bytes | None:
    """The whole body, or None where it is longer than `MAX_PAGE`."""
    parts: list[bytes] = []
    size = 0
    async for part in content.iter_any():
        size += len(part)
        if size > MAX_PAGE:
            return None
        parts.append(part)
    return b"".join(parts)


def _describe(error: aiohttp.ClientError | OSError) -> str:
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno).lower()
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "connection closed without an answer"
    if isinstance(error, aiohttp.ClientPayloadError):
        return "connection closed within the answer"
    return f"no HTTP answer ({type(error).__name__})"
