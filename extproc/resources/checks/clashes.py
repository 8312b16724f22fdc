"""Checks of traffic policies against each other: two that say different things of the same requests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from extproc.resources.checks.scope import Located, Scope
from extproc.resources.kinds.selectors import Selector, selector_conditions
from extproc.resources.kinds.traffic import (
    AverageLatencySchedulingPolicy,
    CachingPolicy,
    ConcurrencyLimitingPolicy,
    ConcurrencySchedulingPolicy,
    LoadRampingPolicy,
    QuotaSchedulingPolicy,
    RateLimitingPolicy,
    TrafficPolicy,
)
from extproc.resources.problems import Problem
from extproc.scheduling.labels import Condition

Requests = frozenset[frozenset[Condition]]
"""Which requests a policy is for, however its selectors are ordered."""


class _Rate(msgspec.Struct, frozen=True):
    at: Located
    requests: Requests
    label: str
    unit: str
    capacity: float
    per_second: float


def check_clashes(scope: Scope) -> Iterator[Problem]:
    """All checks of traffic policies against each other. What only counts never clashes with what is in force."""
    policies = [(each, each.resource) for each in scope.located if isinstance(each.resource, TrafficPolicy)]
    clashing: dict[tuple[object, ...], Located] = {}
    for at, policy in policies:
        other = clashing.setdefault((policy.kind, policy.spec.dry_run, *_what(policy)), at)
        if other.resource.metadata.name != policy.metadata.name:
            same = getattr(other.resource, "spec", None) == policy.spec
            said = "says the same of the same requests" if same else "contradicts it for the same requests"
            yield at.error(("spec",), f"{policy.kind}/{other.resource.metadata.name} {said}", f"see {other.place}")
    yield from _never_reached(policies)
    yield from _never_queued(policies)


def _what(policy: TrafficPolicy) -> tuple[object, ...]:
    """Two policies of one kind that agree in this must not differ in the rest."""
    match policy:
        case RateLimitingPolicy():
            limiter = policy.spec.rate_limiter
            parameters = limiter.parameters
            requests = _requests(limiter.selectors)
            return requests, parameters.limit_by_label_key, limiter.unit, float(parameters.interval)
        case QuotaSchedulingPolicy():
            quota = policy.spec.quota_scheduler
            return _requests(quota.selectors), quota.unit, float(quota.rate_limiter.interval)
        case ConcurrencyLimitingPolicy():
            inflight = policy.spec.concurrency_limiter
            return _requests(inflight.selectors), inflight.parameters.limit_by_label_key
        case ConcurrencySchedulingPolicy():
            return (_requests(policy.spec.concurrency_scheduler.selectors),)
        case AverageLatencySchedulingPolicy():
            core = policy.spec.load_scheduling_core
            return _requests(core.aimd_load_scheduler.load_scheduler.selectors), core.signal
        case LoadRampingPolicy():
            return (_requests(policy.spec.load_ramp.sampler.selectors),)
        case CachingPolicy():
            return (_requests(policy.spec.cache.selectors),)


def _requests(selectors: Sequence[Selector]) -> Requests:
    alternatives = frozenset(frozenset(selector_conditions(each)) for each in selectors)
    return frozenset() if frozenset() in alternatives else alternatives


def _never_reached(policies: Sequence[tuple[Located, TrafficPolicy]]) -> Iterator[Problem]:
    """Of two limits over the same buckets one may be tighter in both burst and rate."""
    rates = list(_rates(policies))
    for loose in rates:
        for tight in rates:
            same = (tight.requests, tight.label, tight.unit) == (loose.requests, loose.label, loose.unit)
            if tight is loose or not same or tight.at.resource.metadata.name == loose.at.resource.metadata.name:
                continue
            if (tight.capacity, tight.per_second) == (loose.capacity, loose.per_second):
                continue
            if tight.capacity <= loose.capacity and tight.per_second <= loose.per_second:
                said = f"never reached: RateLimitingPolicy/{tight.at.resource.metadata.name} is tighter"
                yield loose.at.warning(("spec", "rateLimiter"), said, f"see {tight.at.place}")


def _rates(policies: Sequence[tuple[Located, TrafficPolicy]]) -> Iterator[_Rate]:
    for at, policy in policies:
        if isinstance(policy, RateLimitingPolicy) and not policy.spec.dry_run:
            limiter = policy.spec.rate_limiter
            label, interval = limiter.parameters.limit_by_label_key, limiter.parameters.interval
            if interval > 0:
                requests = _requests(limiter.selectors)
                rate = limiter.fill_amount / interval
                yield _Rate(at, requests, label, limiter.unit, limiter.bucket_capacity, rate)


def _never_queued(policies: Sequence[tuple[Located, TrafficPolicy]]) -> Iterator[Problem]:
    """A limit for all refuses before the scheduler of the same requests would let them wait."""
    limits: dict[Requests, tuple[int, Located]] = {}
    for at, policy in policies:
        if isinstance(policy, ConcurrencyLimitingPolicy) and not policy.spec.dry_run:
            limiter = policy.spec.concurrency_limiter
            if not limiter.parameters.limit_by_label_key:
                limits[_requests(limiter.selectors)] = limiter.max_concurrency, at
    for at, policy in policies:
        if isinstance(policy, ConcurrencySchedulingPolicy) and not policy.spec.dry_run:
            scheduler = policy.spec.concurrency_scheduler
            limit, other = limits.get(_requests(scheduler.selectors), (None, at))
            if limit is not None and limit <= scheduler.max_concurrency:
                said = f"nothing ever waits: ConcurrencyLimitingPolicy/{other.resource.metadata.name} refuses before"
                yield at.warning(("spec", "concurrencyScheduler"), said, f"see {other.place}")
