"""A pool that is alive: its members follow DNS, its states and loads follow the engines."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from random import Random
from typing import Literal

import msgspec

from extproc.pool.endpoint import Change, State
from extproc.pool.engines.dns import AddressSource, Lookup, Members, Membership, Sources, checked, system_lookup
from extproc.pool.engines.scrape import Scraper, ScrapeSettings
from extproc.pool.load import EngineLoad
from extproc.pool.policies import DEFAULT, PolicyConfig, make_policy
from extproc.pool.policy import PickRequest, Policy
from extproc.pool.pool import Pick, Pool, PoolView
from extproc.pool.waiting import QueueLimits, SaturationLimits

logger = logging.getLogger(__name__)

OnChange = Callable[[str, Change], None]
"""Called with the pool's name and what changed, inside the event loop; must not block or raise."""


class PoolConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What a live pool needs of an `InferencePool`. Times in seconds."""

    name: str
    sources: tuple[AddressSource, ...]
    membership: Literal["static", "agents"] = "static"
    """Whether agents may bring in endpoints that `sources` does not name."""
    policy: PolicyConfig | str = DEFAULT
    """With its parameters, or the name of one that needs none."""
    retry_count: int = 2
    scrape: ScrapeSettings = ScrapeSettings()
    stale_after: float = 2.0
    dns_interval: float = 5.0
    saturation: SaturationLimits = SaturationLimits()
    queue: QueueLimits = QueueLimits()


def log_change(pool: str, change: Change) -> None:
    """One line per change of state: a warning where an endpoint is lost."""
    level = logging.WARNING if change.state is State.UNREACHABLE else logging.INFO
    logger.log(
        level, "pool %s: endpoint %s is %s (%s)", pool, change.address, change.state or "gone", change.reason or "ok"
    )


class PoolRuntime:
    """`start` once inside a running loop, `stop` once.

    `pick`, `failed` and `view` may be called at any time in between, and read the clock for the pool. A lease wants
    times of the same clock. Raises ValueError for a policy or an address that does not exist.
    """

    def __init__(
        self,
        config: PoolConfig,
        *,
        clock: Callable[[], float] = time.monotonic,
        random: Random | None = None,
        on_change: OnChange = log_change,
        on_members: Callable[[], None] = lambda: None,
        lookup: Lookup = system_lookup,
    ) -> None:
        """`on_members` is called whenever endpoints have joined or left."""
        random = random or Random()  # noqa: S311 -- spreads load, guards nothing
        self.config = config
        self.clock = clock
        self._on_change = on_change
        self._on_members = on_members
        self._found: Members = {}
        self._reported: Members = {}
        self._policy = make_policy(config.policy)
        self.pool = Pool(
            config.name,
            self._policy,
            retry_count=config.retry_count,
            stale_after=config.stale_after,
            random=random,
            on_suspect=lambda address: self._scraper.look(address),
            saturation=config.saturation,
            queue=config.queue,
        )
        self._scraper = Scraper(self.pool, config.scrape, clock=clock, random=random, on_change=self._changed)
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
        self.prepare(config)()

    def prepare(self, config: PoolConfig) -> Callable[[], None]:
        """Like `reconfigure`, but what can fail happens here and the change in the call of what is given back."""
        if config.name != self.config.name:
            raise ValueError(f"pool {self.config.name} cannot become {config.name}")
        policy = self._policy if config.policy == self.config.policy else make_policy(config.policy)
        sources = checked(config.sources)
        return lambda: self._use(config, policy, sources)

    def _use(self, config: PoolConfig, policy: Policy, sources: Sources) -> None:
        self._membership.use(sources)
        self.pool.configure(
            policy,
            retry_count=config.retry_count,
            stale_after=config.stale_after,
            saturation=config.saturation,
            queue=config.queue,
        )
        self._scraper.settings = config.scrape
        self._membership.interval = config.dns_interval
        self._policy = policy
        self.config = config
        self._join_members()

    def pick(self, request: PickRequest) -> Pick:
        """Raises NoEndpoints."""
        return self.pool.pick(request, self.clock())

    def failed(self, address: str) -> None:
        """A request to this endpoint failed: not chosen until it answers a scrape again."""
        if change := self.pool.failed(address, self.clock()):
            self._changed(change)

    def view(self) -> PoolView:
        return self.pool.view(self.clock())

    def admits(self, address: str) -> bool:
        """Whether an agent may report for this address."""
        return self.config.membership == "agents" or address in self._found

    def agent_joins(self, address: str, labels: Mapping[str, str]) -> None:
        """From here on the agent tells of this endpoint, and nobody scrapes it."""
        self._reported[address] = labels
        self._join_members()
        self.pool.scrape_begins(address, self.clock())

    def agent_reports(self, address: str, load: EngineLoad | None) -> None:
        """A report stands for what happened since the one before: as if a scrape had begun then and ended at this
        moment.
        """
        now = self.clock()
        reason = "" if load else "load unknown: the agent found no figures"
        if change := self.pool.observe(address, load, now, reason):
            self._changed(change)
        self.pool.scrape_begins(address, now)

    def agent_leaves(self, address: str, reason: str) -> None:
        """An endpoint that is a member without its agent returns as soon as it answers a scrape."""
        if self._reported.pop(address, None) is None:
            return
        if change := self.pool.unreachable(address, reason, self.clock()):
            self._changed(change)
        self._join_members()

    def _set_members(self, members: Members) -> None:
        self._found = members
        self._join_members()

    def _join_members(self) -> None:
        members = dict(self._found)
        for address, labels in self._reported.items():
            if self.admits(address):
                members[address] = {**labels, **members.get(address, {})}
        before = self.pool.addresses()
        for change in self.pool.set_members(members, self.clock()):
            self._changed(change)
        self._scraper.watch(members.keys() - self._reported.keys())
        if before != self.pool.addresses():
            self._on_members()

    def _changed(self, change: Change) -> None:
        self._on_change(self.config.name, change)
