"""Reads the load of every endpoint of a pool, each on its own, several times a second."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable
from random import Random

import msgspec

from extproc.pool.endpoint import Change
from extproc.pool.engines.fetch import Fetcher
from extproc.pool.engines.http import BadResponse
from extproc.pool.engines.metrics import likeliest, parse_metrics
from extproc.pool.engines.page import Memory
from extproc.pool.engines.tasks import end, spawn
from extproc.pool.load import EngineLoad
from extproc.pool.pool import Pool

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


MISSES = 3
"""Late or failed answers in a row after which an endpoint leaves: an engine under load is late and still serves."""


class Unreachable(Exception):
    """There is no connection, or it ends without an answer. The text is the reason."""


class Missed(Exception):
    """This scrape brought nothing, which may be chance: it came too late, or was no proper answer."""


class Scraper:
    """One task for each endpoint that is watched. States and loads go to the pool, changes of state to `on_change`."""

    def __init__(
        self,
        pool: Pool,
        settings: ScrapeSettings,
        *,
        clock: Callable[[], float],
        random: Random,
        on_change: Callable[[Change], None],
    ) -> None:
        self.settings = settings
        """May be replaced at any time; counts from the next scrape on."""
        self._pool = pool
        self._clock = clock
        self._random = random
        self._on_change = on_change
        self._missed: dict[str, int] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._pauses: dict[str, _Pause] = {}

    def watch(self, addresses: Iterable[str]) -> None:
        """Makes exactly these the watched ones."""
        wanted = set(addresses)
        for address in self._tasks.keys() - wanted:
            self._tasks.pop(address).cancel()
            del self._pauses[address]
            self._missed.pop(address, None)
        for address in wanted - self._tasks.keys():
            pause = self._pauses[address] = _Pause()
            self._tasks[address] = spawn(self._follow(address, pause), f"scrape {address}")

    def look(self, address: str) -> None:
        """Scrapes an endpoint at once instead of after the pause; at most once between two regular scrapes."""
        if pause := self._pauses.get(address):
            pause.cut_short()

    async def stop(self) -> None:
        tasks = list(self._tasks.values())
        self._tasks.clear()
        await end(tasks)

    async def _follow(self, address: str, pause: _Pause) -> None:
        engine = EngineReader(address, self._clock)
        loop = asyncio.get_running_loop()
        try:
            while True:
                await self._report(address, engine)
                ends = loop.time() + self.settings.interval * self._random.uniform(1 - _JITTER, 1 + _JITTER)
                if await pause.until(ends):
                    await self._report(address, engine)
                    await asyncio.sleep(ends - loop.time())
        finally:
            engine.close()

    async def _report(self, address: str, engine: EngineReader) -> None:
        if change := await self._scrape(address, engine):
            self._on_change(change)

    async def _scrape(self, address: str, engine: EngineReader) -> Change | None:
        self._pool.scrape_begins(address, self._clock())
        try:
            load, reason = await engine.read(self.settings.path, self.settings.timeout)
        except Unreachable as error:
            return self._pool.unreachable(address, str(error), self._clock())
        except Missed as error:
            missed = self._missed[address] = self._missed.get(address, 0) + 1
            if missed < MISSES:
                return None  # its figures grow stale, and no more
            return self._pool.unreachable(address, str(error), self._clock())
        self._missed.pop(address, None)
        return self._pool.observe(address, load, self._clock(), reason)


class _Pause:
    """A wait that can be cut short, also before it begins. Costs one timer, as every endpoint has several a second."""

    def __init__(self) -> None:
        self._cut = False
        self._over: asyncio.Future[None] | None = None

    def cut_short(self) -> None:
        self._cut = True
        self._end()

    async def until(self, deadline: float) -> bool:
        """Until a time of the loop; whether it was cut short."""
        if not self._cut:
            loop = asyncio.get_running_loop()
            self._over = loop.create_future()
            timer = loop.call_at(deadline, self._end)
            try:
                await self._over
            finally:
                timer.cancel()
                self._over = None
        cut, self._cut = self._cut, False
        return cut

    def _end(self) -> None:
        if self._over is not None and not self._over.done():
            self._over.set_result(None)


class EngineReader:
    """Asks one engine for its load, again and again. `close` when that is over."""

    def __init__(self, address: str, clock: Callable[[], float]) -> None:
        self._fetcher = Fetcher(address, MAX_PAGE)
        self._clock = clock
        self._dialect = ""
        self._memory = Memory()

    async def read(self, path: str, seconds: float) -> tuple[EngineLoad | None, str]:
        """The load, or None and why it is unknown. Raises Unreachable or Missed."""
        try:
            status, page, _ = await self._fetcher.get(path, seconds)
        except TimeoutError as error:
            raise Missed(f"no answer within {seconds:g} s") from error
        except OSError as error:
            raise Unreachable(os.strerror(error.errno).lower() if error.errno else str(error)) from error
        except BadResponse as error:
            raise Missed(f"no HTTP answer: {error}") from error
        if status >= _SERVER_ERROR:
            raise Missed(f"HTTP {status} from {path}")
        if status != _OK:
            return None, f"load unknown: HTTP {status} from {path}"
        if page is None:
            return None, f"load unknown: {path} is longer than {MAX_PAGE} bytes"
        load = parse_metrics(page, self._clock(), likeliest(self._dialect), self._memory)
        if load is None:
            return None, f"load unknown: no figures of a known engine in {path}"
        self._dialect = load.engine
        return load, ""

    def close(self) -> None:
        self._fetcher.close()
