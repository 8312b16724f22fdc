"""A pool that is alive: its members follow DNS, its states and loads follow the engines."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from random import Random

import aiohttp
import msgspec

from extproc.pool.dns import Lookup, Members, Membership, Source, system_lookup
from extproc.pool.endpoint import Change, State
from extproc.pool.policy import POLICIES, PickRequest
from extproc.pool.pool import Pick, Pool, PoolView
from extproc.pool.scrape import Scraper, ScrapeSettings

logger = logging.getLogger(__name__)

OnChange = Callable[[str, Change], None]
"""Called with the pool's name and what changed, inside the event loop; must not block or raise."""


class PoolConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What a live pool needs of an `InferencePool`. Times in seconds."""

    name: str
    sources: tuple[Source, ...]
    policy: str = "least-request"
    """A key of `POLICIES`."""
    retry_count: int = 2
    scrape: ScrapeSettings = ScrapeSettings()
    stale_after: float = 2.0
    dns_interval: float = 5.0


def log_change(pool: str, change: Change) -> None:
    """One line per change of state: a warning where an endpoint is lost."""
    level = logging.WARNING if change.state is State.UNREACHABLE else logging.INFO
    logger.log(
        level, "pool %s: endpoint %s is %s (%s)", pool, change.address, change.state or "gone", change.reason or "ok"
    )


class PoolRuntime:
    """`start` once inside a running loop, `stop` once. `session` comes from `open_session` and may serve many pools.

    `pick`, `failed` and `view` may be called at any time in between, and read the clock for the pool. A lease wants
    times of the same clock. Raises KeyError or ValueError for a policy or an address that does not exist.
    """

    def __init__(
        self,
        config: PoolConfig,
        session: aiohttp.ClientSession,
        *,
        clock: Callable[[], float] = time.monotonic,
        random: Random | None = None,
        on_change: OnChange = log_change,
        lookup: Lookup = system_lookup,
    ) -> None:
        random = random or Random()  # noqa: S311 -- spreads load, guards nothing
        self.config = config
        self.clock = clock
        self._on_change = on_change
        self._policy = POLICIES[config.policy]()
        self.pool = Pool(
            config.name,
            self._policy,
            retry_count=config.retry_count,
            stale_after=config.stale_after,
            random=random,
        )
        self._scraper = Scraper(self.pool, session, config.scrape, clock=clock, random=random, on_change=self._changed)
        self._membership = Membership(
            config.sources, self._set_members, interval=config.dns_interval, random=random, lookup=lookup
        )

    async def start(self) -> None:
        """Returns when the members are known; their loads come in by themselves."""
        await self._membership.start()

    async def stop(self) -> None:
        """Ends all watching. Leases may still be released."""
        await self._membership.stop()
        await self._scraper.stop()

    def reconfigure(self, config: PoolConfig) -> None:
        """Goes over to another configuration of the same pool: endpoints that stay keep their state and their load, a
        policy that stays keeps what it has learned. Raises as the constructor does, and then nothing has changed.
        """
        if config.name != self.config.name:
            raise ValueError(f"pool {self.config.name} cannot become {config.name}")
        policy = self._policy if config.policy == self.config.policy else POLICIES[config.policy]()
        self._membership.configure(config.sources)
        self.pool.configure(policy, retry_count=config.retry_count, stale_after=config.stale_after)
        self._scraper.settings = config.scrape
        self._membership.interval = config.dns_interval
        self._policy = policy
        self.config = config

    def pick(self, request: PickRequest) -> Pick:
        """Raises NoEndpoints."""
        return self.pool.pick(request, self.clock())

    def failed(self, address: str) -> None:
        """A request to this endpoint failed: not chosen until it answers a scrape again."""
        if change := self.pool.failed(address, self.clock()):
            self._changed(change)

    def view(self) -> PoolView:
        return self.pool.view(self.clock())

    def _set_members(self, members: Members) -> None:
        for change in self.pool.set_members(members, self.clock()):
            self._changed(change)
        self._scraper.watch(members)

    def _changed(self, change: Change) -> None:
        self._on_change(self.config.name, change)
