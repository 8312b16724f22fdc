"""The traffic policies: who may send how much, who waits, who is served first, what is answered from memory.

Fields are those of the traffic scheduling suite that the documents name; both spellings (`bucketCapacity`,
`bucket_capacity`) are accepted.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, field

from extproc.resources.base import Duration, Metadata, Size, Spec
from extproc.resources.kinds.selectors import Selector
from extproc.scheduling.policy import RampStep
from extproc.scheduling.workloads import Positive, Scheduler

Amount = Annotated[float, Meta(ge=0)]
Capacity = Annotated[float, Meta(ge=1)]
Rate = Annotated[float, Meta(gt=0)]
Unit = Literal["requests", "tokens"]


class TrafficSpec(Spec, frozen=True, kw_only=True):
    """What the `spec` of every traffic policy has."""

    dry_run: bool = False
    """`true` counts what would have happened and lets everything pass."""
    filter_away: Literal["open", "closed"] = "open"
    """What happens to the policy's requests while the filter is away: `open` lets them pass where nothing else asks for
    the filter, `closed` answers 503. Envoy decides by host, so `closed` holds for all requests of the hosts that the
    selectors name, and for every request where one names none."""


class RateLimiterParameters(Spec, frozen=True, kw_only=True):
    interval: Duration = Duration(1)
    """How often `fillAmount` flows into the bucket; it does so continuously."""
    limit_by_label_key: str = ""
    """Label with a bucket for each of its values. Default: one bucket for all."""
    delay_initial_fill: bool = False
    """`true` begins with an empty bucket."""
    max_keys: Positive = 10_000
    """Buckets at one time. A further value takes the place of a bucket that is full again, or shares the last one."""


class RateLimiter(Spec, frozen=True, kw_only=True):
    bucket_capacity: Capacity
    """What may pass at once."""
    fill_amount: Rate
    parameters: RateLimiterParameters = field(default_factory=RateLimiterParameters)
    unit: Unit = "requests"
    """`tokens` counts prompt and completion: reserved by estimate before, settled by real usage after."""
    reserve: Literal["predicted", "max_tokens"] = "predicted"
    """Completion tokens to reserve: as predicted, or all that the request's `max_tokens` allows. A request without that
    limit then reserves the whole bucket: set one by `parameters.caps` of the route."""
    selectors: list[Selector] = []
    """The policy is for requests that any of them fits; none: all."""


class RateLimitingPolicySpec(TrafficSpec, frozen=True, kw_only=True):
    rate_limiter: RateLimiter

    @property
    def selectors(self) -> list[Selector]:
        return self.rate_limiter.selectors


class RateLimitingPolicy(Spec, frozen=True, kw_only=True):
    api_version: str
    kind: Literal["RateLimitingPolicy"]
    metadata: Metadata
    spec: RateLimitingPolicySpec


class QuotaRateLimiter(Spec, frozen=True, kw_only=True):
    interval: Duration = Duration(1)
    """How often `fillAmount` flows into the bucket; it does so continuously."""
    delay_initial_fill: bool = False


class QuotaScheduler(Spec, frozen=True, kw_only=True):
    bucket_capacity: Capacity
    fill_amount: Rate
    rate_limiter: QuotaRateLimiter = field(default_factory=QuotaRateLimiter)
    unit: Unit = "requests"
    reserve: Literal["predicted", "max_tokens"] = "predicted"
    scheduler: Scheduler = field(default_factory=Scheduler)
    selectors: list[Selector] = []


class QuotaSchedulingPolicySpec(TrafficSpec, frozen=True, kw_only=True):
    quota_scheduler: QuotaScheduler

    @property
    def selectors(self) -> list[Selector]:
        return self.quota_scheduler.selectors


class QuotaSchedulingPolicy(Spec, frozen=True, kw_only=True):
    api_version: str
    kind: Literal["QuotaSchedulingPolicy"]
    metadata: Metadata
    spec: QuotaSchedulingPolicySpec


class ConcurrencyParameters(Spec, frozen=True, kw_only=True):
    limit_by_label_key: str = ""
    """Label with a limit for each of its values. Default: one limit for all."""
    max_inflight_duration: Duration = Duration(600)
    """After so long a request no longer counts, so that a lost release heals."""
    max_keys: Positive = 10_000


class ConcurrencyLimiter(Spec, frozen=True, kw_only=True):
    max_concurrency: Positive
    parameters: ConcurrencyParameters = field(default_factory=ConcurrencyParameters)
    selectors: list[Selector] = []


class ConcurrencyLimitingPolicySpec(TrafficSpec, frozen=True, kw_only=True):
    concurrency_limiter: ConcurrencyLimiter

    @property
    def selectors(self) -> list[Selector]:
        return self.concurrency_limiter.selectors


class ConcurrencyLimitingPolicy(Spec, frozen=True, kw_only=True):
    api_version: str
    kind: Literal["ConcurrencyLimitingPolicy"]
    metadata: Metadata
    spec: ConcurrencyLimitingPolicySpec


class SlotParameters(Spec, frozen=True, kw_only=True):
    max_inflight_duration: Duration = Duration(600)


class ConcurrencyScheduler(Spec, frozen=True, kw_only=True):
    max_concurrency: Positive
    concurrency_limiter: SlotParameters = field(default_factory=SlotParameters)
    unit: Unit = "tokens"
    """In which requests are weighed against each other while they wait."""
    scheduler: Scheduler = field(default_factory=Scheduler)
    selectors: list[Selector] = []


class ConcurrencySchedulingPolicySpec(TrafficSpec, frozen=True, kw_only=True):
    concurrency_scheduler: ConcurrencyScheduler

    @property
    def selectors(self) -> list[Selector]:
        return self.concurrency_scheduler.selectors


class ConcurrencySchedulingPolicy(Spec, frozen=True, kw_only=True):
    api_version: str
    kind: Literal["ConcurrencySchedulingPolicy"]
    metadata: Metadata
    spec: ConcurrencySchedulingPolicySpec


class Gradient(Spec, frozen=True, kw_only=True):
    min_gradient: Annotated[float, Meta(gt=0, le=1)] = 0.1
    """The admitted load falls at most to this part of itself in one step."""
    max_gradient: Annotated[float, Meta(gt=0, le=1)] = 1.0


class LoadScheduler(Spec, frozen=True, kw_only=True):
    unit: Unit = "tokens"
    scheduler: Scheduler = field(default_factory=Scheduler)
    selectors: list[Selector] = []


class AimdLoadScheduler(Spec, frozen=True, kw_only=True):
    gradient: Gradient = field(default_factory=Gradient)
    load_multiplier_linear_increment: Annotated[float, Meta(gt=0)] = 0.025
    """Recovery: what the multiplier gains every 10 seconds."""
    max_load_multiplier: Annotated[float, Meta(ge=1)] = 2.0
    """From here on nothing is held back."""
    load_scheduler: LoadScheduler = field(default_factory=LoadScheduler)


class LatencyBaseliner(Spec, frozen=True, kw_only=True):
    latency_tolerance_multiplier: Annotated[float, Meta(gt=1)] = 1.25
    """Overload begins where the short-term mean is above so many times the long-term mean."""
    short_term_query_interval: Duration = Duration(30)
    long_term_query_interval: Duration = Duration(1800)


class LoadSchedulingCore(Spec, frozen=True, kw_only=True):
    aimd_load_scheduler: AimdLoadScheduler = field(default_factory=AimdLoadScheduler)
    signal: Literal["latency", "ttft", "saturation"] = "latency"
    """`saturation`: that of the pools behind the selected requests, as their engines report it; 1.0 is full."""
    setpoint: Annotated[float, Meta(gt=0)] = 1.0
    """Overload begins above it, for `saturation` only."""


class AverageLatencySchedulingPolicySpec(TrafficSpec, frozen=True, kw_only=True):
    load_scheduling_core: LoadSchedulingCore = field(default_factory=LoadSchedulingCore)
    latency_baseliner: LatencyBaseliner = field(default_factory=LatencyBaseliner)

    @property
    def selectors(self) -> list[Selector]:
        return self.load_scheduling_core.aimd_load_scheduler.load_scheduler.selectors


class AverageLatencySchedulingPolicy(Spec, frozen=True, kw_only=True):
    api_version: str
    kind: Literal["AverageLatencySchedulingPolicy"]
    metadata: Metadata
    spec: AverageLatencySchedulingPolicySpec = field(default_factory=AverageLatencySchedulingPolicySpec)


class Threshold(Spec, frozen=True, kw_only=True):
    threshold: Amount


class DriverCriteria(Spec, frozen=True, kw_only=True):
    """Thresholds of one driver; latencies are milliseconds, error rates are parts of 1."""

    forward: Threshold | None = None
    """The ramp goes on while the value is at or below it."""
    backward: Threshold | None = None
    """The ramp goes back while the value is above it."""
    reset: Threshold | None = None
    """Above it the ramp begins anew."""


class RampDriver(Spec, frozen=True, kw_only=True):
    criteria: DriverCriteria = field(default_factory=DriverCriteria)


class RampDrivers(Spec, frozen=True, kw_only=True):
    average_latency_drivers: list[RampDriver] = []
    error_rate_drivers: list[RampDriver] = []


class RampSampler(Spec, frozen=True, kw_only=True):
    label_key: str = ""
    """Requests with the same value of this label are accepted or refused together. Default: each by itself."""
    selectors: list[Selector] = []


class LoadRamp(Spec, frozen=True, kw_only=True):
    sampler: RampSampler = field(default_factory=RampSampler)
    steps: list[RampStep]


class LoadRampingPolicySpec(TrafficSpec, frozen=True, kw_only=True):
    load_ramp: LoadRamp
    drivers: RampDrivers = field(default_factory=RampDrivers)
    start: bool = True
    """`false` holds the ramp at its first step."""

    @property
    def selectors(self) -> list[Selector]:
        return self.load_ramp.sampler.selectors


class LoadRampingPolicy(Spec, frozen=True, kw_only=True):
    api_version: str
    kind: Literal["LoadRampingPolicy"]
    metadata: Metadata
    spec: LoadRampingPolicySpec


class Cache(Spec, frozen=True, kw_only=True):
    ttl: Duration = Duration(300)
    max_entries: Positive = 10_000
    max_size: Size = Size(256 * 2**20)
    """Bytes of all answers together."""
    max_entry_size: Size = Size(2**20)
    """A larger answer is not kept."""
    scope_label_keys: list[str] = field(default_factory=lambda: ["tenant"])
    """Labels that have to be equal for an answer to be shared."""
    safe_tools: list[str] = []
    """Tools whose calls have no side effects; an answer that calls any other is not kept."""
    selectors: list[Selector] = []


class CachingPolicySpec(TrafficSpec, frozen=True, kw_only=True):
    cache: Cache = field(default_factory=Cache)

    @property
    def selectors(self) -> list[Selector]:
        return self.cache.selectors


class CachingPolicy(Spec, frozen=True, kw_only=True):
    api_version: str
    kind: Literal["CachingPolicy"]
    metadata: Metadata
    spec: CachingPolicySpec = field(default_factory=CachingPolicySpec)


TrafficPolicy = (
    RateLimitingPolicy
    | QuotaSchedulingPolicy
    | ConcurrencyLimitingPolicy
    | ConcurrencySchedulingPolicy
    | AverageLatencySchedulingPolicy
    | LoadRampingPolicy
    | CachingPolicy
)

TRAFFIC_KINDS: dict[str, type[TrafficPolicy]] = {
    "AverageLatencySchedulingPolicy": AverageLatencySchedulingPolicy,
    "CachingPolicy": CachingPolicy,
    "ConcurrencyLimitingPolicy": ConcurrencyLimitingPolicy,
    "ConcurrencySchedulingPolicy": ConcurrencySchedulingPolicy,
    "LoadRampingPolicy": LoadRampingPolicy,
    "QuotaSchedulingPolicy": QuotaSchedulingPolicy,
    "RateLimitingPolicy": RateLimitingPolicy,
}
