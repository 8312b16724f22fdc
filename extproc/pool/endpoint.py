"""One model-server address: what it carries for us, what it says of itself, whether it may be chosen."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from extproc.pool.load import EngineLoad


class State(StrEnum):
    UNKNOWN = "unknown"
    """Not heard of yet. May be chosen: a gateway that has just started must not refuse."""
    HEALTHY = "healthy"
    UNREACHABLE = "unreachable"
    DRAINING = "draining"
    """No longer a member; stays until its last request has ended."""


class Change(msgspec.Struct, frozen=True):
    """An endpoint went from one state to another, or stays in it for another reason. Worth one line in a log."""

    address: str
    before: State | None
    """None: it has just joined."""
    state: State | None
    """None: it is gone."""
    reason: str


class EndpointView(msgspec.Struct, frozen=True):
    """An endpoint as shown to people and to metrics. None is unknown; times are in seconds."""

    address: str
    labels: dict[str, str]
    state: State
    reason: str
    state_age: float
    in_flight: int
    tokens: int
    idle: float | None
    """Since a request last began or ended; None: never."""
    engine: str | None
    running: float | None
    waiting: float | None
    kv_usage: float | None
    metrics_age: float | None


class Endpoint:
    """Written by `Pool` and `Lease` only; filters, scorers and pickers read it.

    `foreign` is the load that the last scrape showed beyond our own requests: `running + waiting - in flight`, at least
    0. Our own is the most that was in flight while the scrape ran, since the engine counted somewhere in between.
    `foreign` is valid while `now < fresh_until`; after that it is unknown.
    """

    __slots__ = (
        "_peak",
        "_scrape_began",
        "address",
        "at_scrape",
        "failed_at",
        "foreign",
        "foreign_waiting",
        "fresh_until",
        "in_flight",
        "labels",
        "load",
        "picked_at",
        "reason",
        "since",
        "state",
        "tokens",
        "used_at",
    )

    def __init__(self, address: str, labels: Mapping[str, str], now: float) -> None:
        self.address = address
        self.labels = dict(labels)
        self.state = State.UNKNOWN
        self.reason = ""
        self.since = now
        self.in_flight = 0
        """Requests of ours, exact."""
        self.tokens = 0
        """Tokens that those requests still have to work through, as estimated by who leases."""
        self.load: EngineLoad | None = None
        self.at_scrape = 0
        """How many requests of ours were in flight when the load was read."""
        self.foreign = 0.0
        self.foreign_waiting = 0.0
        """How many of those the engine has queued at most."""
        self.fresh_until = float("-inf")
        self.picked_at = 0
        """Number of the pick that chose this endpoint last, over the whole pool; 0: never."""
        self.used_at: float | None = None
        self.failed_at = float("-inf")
        """When a request to it last failed."""
        self._peak = 0
        self._scrape_began: float | None = None

    def __repr__(self) -> str:
        return f"<Endpoint {self.address} {self.state} in_flight={self.in_flight} foreign={self.foreign:g}>"

    @property
    def usable(self) -> bool:
        return self.state is State.HEALTHY or self.state is State.UNKNOWN

    def take(self, tokens: int) -> None:
        self.in_flight += 1
        self.tokens += tokens
        if self.in_flight > self._peak:
            self._peak = self.in_flight

    def give_back(self, tokens: int) -> None:
        self.in_flight -= 1
        self.tokens -= tokens

    def scrape_begins(self, now: float) -> None:
        self._peak = self.in_flight
        self._scrape_began = now

    def observed(self, load: EngineLoad | None, stale_after: float) -> bool:
        """Takes over what a scrape brought. None, or neither running nor waiting known: the load is unknown.

        Returns whether the engine has begun anew since the last scrape: its totals have gone back.
        """
        began_anew = _went_back(self.load, load)
        self.load = load
        if load is None or (load.running is None and load.waiting is None):
            self.fresh_until = float("-inf")
            return began_anew
        self.foreign = max(0.0, (load.running or 0.0) + (load.waiting or 0.0) - self._peak)
        self.foreign_waiting = min(self.foreign, load.waiting or 0.0)
        self.fresh_until = load.taken_at + stale_after
        self.at_scrape = self._peak = self.in_flight
        return began_anew

    def scrape_ends(self) -> bool:
        """Whether the scrape says how things are; not if this endpoint failed after the scrape had begun."""
        began, self._scrape_began = self._scrape_began, None
        return began is None or began >= self.failed_at

    def enter(self, state: State, reason: str, now: float) -> Change | None:
        """Goes to `state`. None where nothing changes, or only the reason why it cannot be reached."""
        before, told = self.state, self.reason
        self.reason = reason
        if before is not state:
            self.since = now
            self.state = state
        elif state is not State.HEALTHY or told == reason:
            return None
        return Change(self.address, before, state, reason)

    def view(self, now: float) -> EndpointView:
        load = self.load
        return EndpointView(
            address=self.address,
            labels=dict(self.labels),
            state=self.state,
            reason=self.reason,
            state_age=now - self.since,
            in_flight=self.in_flight,
            tokens=self.tokens,
            idle=None if self.used_at is None else now - self.used_at,
            engine=load.engine if load else None,
            running=load.running if load else None,
            waiting=load.waiting if load else None,
            kv_usage=load.kv_usage if load else None,
            metrics_age=now - load.taken_at if load else None,
        )


def _went_back(before: EngineLoad | None, after: EngineLoad | None) -> bool:
    if before is None or after is None:
        return False
    known, total = before.prompt_tokens_total, after.prompt_tokens_total
    return known is not None and total is not None and total < known
