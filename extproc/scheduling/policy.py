"""The seven policies, checked and made from the resources by whoever builds a `Flow`. Seconds.

What resources and flow control describe alike is theirs both: the scheduler, and the steps of a ramp.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from extproc.scheduling.job import Reserve, Unit
from extproc.scheduling.labels import AnyOf, Condition
from extproc.scheduling.workloads import Scheduler
from extproc.spec import Duration, Spec

Conditions = tuple[Condition | AnyOf, ...]
Signal = Literal["latency", "ttft", "saturation"]


class TrafficPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """What every policy has."""

    name: str
    """Unique among all policies: it also names the shared state."""
    match: Conditions = ()
    """Requests that the policy is for; none: all."""
    dry_run: bool = False
    """Count what would have happened, and let everything pass."""


class RateLimiting(TrafficPolicy, frozen=True, kw_only=True):
    limit_by_label_key: str = ""
    """A bucket per value of this label; empty: one for all. A request without the label is under the value ""."""
    unit: Unit = "requests"
    reserve: Reserve = "predicted"
    bucket_capacity: float
    fill_amount: float
    interval: float = 1.0
    delay_initial_fill: bool = False
    """A bucket starts empty instead of full."""
    max_keys: int = 10_000
    denied_status: int = 429


class ConcurrencyLimiting(TrafficPolicy, frozen=True, kw_only=True):
    limit_by_label_key: str = ""
    max_concurrency: int
    max_inflight_duration: float = 600.0
    """After so long without a release a request no longer counts."""
    max_keys: int = 10_000
    denied_status: int = 429


class QuotaScheduling(RateLimiting, frozen=True, kw_only=True):
    """A bucket for all (`limit_by_label_key` is not used), in front of which requests wait."""

    scheduler: Scheduler = Scheduler()


class ConcurrencyScheduling(TrafficPolicy, frozen=True, kw_only=True):
    max_concurrency: int
    max_inflight_duration: float = 600.0
    unit: Unit = "tokens"
    """In which requests are weighed against each other while they wait; each takes one slot."""
    scheduler: Scheduler = Scheduler()
    denied_status: int = 503


class AverageLatencyScheduling(TrafficPolicy, frozen=True, kw_only=True):
    """Defaults are those of section 3 of the algorithms page."""

    signal: Signal = "latency"
    tolerance: float = 1.25
    """Setpoint of the two latency signals, as a multiple of the long-term mean."""
    setpoint: float = 1.0
    """Setpoint of `saturation`, where 1.0 is full."""
    short_term: float = 30.0
    long_term: float = 1800.0
    min_gradient: float = 0.1
    max_gradient: float = 1.0
    interval: float = 10.0
    """How often the multiplier moves."""
    linear_increment: float = 0.025
    max_multiplier: float = 2.0
    """From here on nothing is held back."""
    unit: Unit = "tokens"
    scheduler: Scheduler = Scheduler()
    denied_status: int = 503


class RampStep(Spec, frozen=True):
    target_accept_percentage: Annotated[float, Meta(ge=0, le=100)]
    duration: Duration
    """Time from the step before to this one's percentage, on a straight line."""


class Criterion(msgspec.Struct, frozen=True, kw_only=True):
    """Holds while every threshold that is given is met. None: not looked at."""

    error_rate: float | None = None
    """0..1."""
    latency: float | None = None


class LoadRamping(TrafficPolicy, frozen=True, kw_only=True):
    steps: tuple[RampStep, ...]
    start: bool = True
    """Without criteria and without a command: go forward. False: hold at the first step until told."""
    sticky_label_key: str = ""
    """Requests with the same value are all accepted or all refused; without it each is drawn by its own id."""
    forward: Criterion | None = None
    """Forward while the observed values are at or below these."""
    backward: Criterion | None = None
    """Backward while an observed value is above one of these."""
    reset: Criterion | None = None
    """Back to the first step as soon as an observed value is above one of these."""
    interval: float = 10.0
    """How often criteria are judged, and the window of observations."""
    denied_status: int = 403


class Caching(TrafficPolicy, frozen=True, kw_only=True):
    ttl: float = 300.0
    max_entries: int = 10_000
    max_bytes: int = 256 << 20
    max_entry_bytes: int = 1 << 20
    scope_label_keys: tuple[str, ...] = ("tenant",)
    """Requests share answers only where all these labels are the same."""
    safe_tools: tuple[str, ...] = ()
    """Tools whose calls have no side effects; an answer that calls any other is not kept."""
    join_timeout: float = 30.0
    """How long an identical request waits for the one in flight before it goes on by itself."""
    max_joined: int = 1024
    """Identical requests that wait for one; more go on by themselves."""


class Policies(msgspec.Struct, frozen=True, kw_only=True):
    """Any number of each, in the order in which they are asked."""

    ramps: tuple[LoadRamping, ...] = ()
    rates: tuple[RateLimiting, ...] = ()
    concurrency: tuple[ConcurrencyLimiting, ...] = ()
    caches: tuple[Caching, ...] = ()
    adaptive: tuple[AverageLatencyScheduling, ...] = ()
    quotas: tuple[QuotaScheduling, ...] = ()
    slots: tuple[ConcurrencyScheduling, ...] = ()

    def every(self) -> tuple[TrafficPolicy, ...]:
        """All of them, in the fixed order of processing."""
        return (
            *self.ramps,
            *self.rates,
            *self.concurrency,
            *self.caches,
            *self.adaptive,
            *self.quotas,
            *self.slots,
        )
