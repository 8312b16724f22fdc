"""Traffic policies and labels of a configuration in the form that flow control works with.

Durations and sizes become plain numbers, as they go into messages that know no others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TypeVar

from extproc.resources.kinds import traffic
from extproc.resources.kinds.labels import Label
from extproc.resources.kinds.selectors import match_of
from extproc.resources.snapshot import Snapshot
from extproc.scheduling import policy
from extproc.scheduling.cel import Expression, compile_expression, labels_read
from extproc.scheduling.labels import AnyOf, Labels
from extproc.scheduling.policy import Conditions, Policies, TrafficPolicy
from extproc.scheduling.workloads import matcher_conditions
from extproc.steps.labels import (
    FIXED,
    PREDICTED,
    TENANT,
    Labelling,
    Reader,
    claim_reader,
    header_reader,
    or_else,
    reader_of,
)

_Resource = TypeVar("_Resource", bound=traffic.TrafficPolicy)
_ADAPTIVE_INTERVAL = 10.0


def policies_of(snapshot: Snapshot) -> Policies:
    """All traffic policies, in the order of their names. Each is called `KIND/NAME`."""
    all_ = [resource for _, resource in sorted(snapshot.traffic.items())]
    return Policies(
        ramps=tuple(map(_ramp, _of(all_, traffic.LoadRampingPolicy))),
        rates=tuple(map(_rate, _of(all_, traffic.RateLimitingPolicy))),
        concurrency=tuple(map(_concurrency, _of(all_, traffic.ConcurrencyLimitingPolicy))),
        caches=tuple(map(_cache, _of(all_, traffic.CachingPolicy))),
        adaptive=tuple(map(_adaptive, _of(all_, traffic.AverageLatencySchedulingPolicy))),
        quotas=tuple(map(_quota, _of(all_, traffic.QuotaSchedulingPolicy))),
        slots=tuple(map(_slots, _of(all_, traffic.ConcurrencySchedulingPolicy))),
    )


def labelling_of(snapshot: Snapshot, policies: Policies) -> Labelling:
    """How the labels that the policies use are found, each once, computed ones in the order of the manifest.

    Raises BadExpression for an expression that `check` would have refused.
    """
    declared = snapshot.gateway.spec.labels
    wanted = _needed(declared, labels_used(policies))
    plain = sorted(wanted - declared.keys() - {TENANT, PREDICTED})
    readers = [(name, reader) for name in plain if (reader := reader_of(name)) is not None]
    early: dict[str, Expression] = {}
    late: dict[str, Expression] = {}
    for name, label in declared.items():
        if name not in wanted:
            continue
        if label.cel is None:
            readers.append((name, _declared_reader(label)))
            continue
        expression = _Computed(compile_expression(label.cel), label.value)
        reads = labels_read(label.cel)
        needs_late = reads is None or PREDICTED in reads or not late.keys().isdisjoint(reads)
        (late if needs_late and PREDICTED in wanted else early)[name] = expression
    return Labelling(tuple(readers), early, PREDICTED in wanted, late)


def labels_used(policies: Policies) -> list[str]:
    """Every label that a policy matches on, counts by, shares by or ranks by."""
    return list(dict.fromkeys(filter(None, (label for each in policies.every() for label in _labels_in(each)))))


def _labels_in(each: TrafficPolicy) -> Iterator[str]:
    yield from _keys(each.match)
    if isinstance(each, policy.RateLimiting | policy.ConcurrencyLimiting):
        yield each.limit_by_label_key
    if isinstance(each, policy.LoadRamping):
        yield each.sticky_label_key
    if isinstance(each, policy.Caching):
        yield from each.scope_label_keys
    if isinstance(each, policy.QuotaScheduling | policy.ConcurrencyScheduling | policy.AverageLatencyScheduling):
        yield each.scheduler.fairness_key
        yield each.scheduler.priority_label_key
        for workload in each.scheduler.workloads:
            yield from _keys(matcher_conditions(workload.label_matcher))


def _keys(conditions: Conditions) -> Iterator[str]:
    for each in conditions:
        if isinstance(each, AnyOf):
            for alternative in each.alternatives:
                yield from _keys(alternative)
        else:
            yield each.key


def _needed(declared: Mapping[str, Label], used: Iterable[str]) -> set[str]:
    """Those used, the tenant, and what the expressions among them read. An expression whose text does not tell what it
    reads is given every fixed and declared label."""
    needed: set[str] = set()
    pending = [TENANT, *used]
    while pending:
        name = pending.pop()
        if name in needed:
            continue
        needed.add(name)
        label = declared.get(name)
        if label is not None and label.cel is not None:
            reads = labels_read(label.cel)
            pending += [*FIXED, PREDICTED, *declared] if reads is None else reads
    return needed


def _declared_reader(label: Label) -> Reader:
    if label.header is None and label.claim is None:
        return lambda _request: label.value
    read = header_reader(label.header) if label.header is not None else claim_reader(label.claim or "")
    return read if label.value is None else or_else(read, label.value)


class _Computed:
    """An `Expression` with a value for where it gives none."""

    def __init__(self, expression: Expression, otherwise: str | None) -> None:
        self._expression = expression
        self._otherwise = otherwise

    def evaluate(self, labels: Labels) -> str | None:
        found = self._expression.evaluate(labels)
        return self._otherwise if found is None else found


def _of(all_: Sequence[traffic.TrafficPolicy], kind: type[_Resource]) -> list[_Resource]:
    return [each for each in all_ if isinstance(each, kind)]


def _name(resource: traffic.TrafficPolicy) -> str:
    return f"{resource.kind}/{resource.metadata.name}"


def _rate(resource: traffic.RateLimitingPolicy) -> policy.RateLimiting:
    limiter = resource.spec.rate_limiter
    parameters = limiter.parameters
    return policy.RateLimiting(
        name=_name(resource),
        match=match_of(limiter.selectors),
        dry_run=resource.spec.dry_run,
        limit_by_label_key=parameters.limit_by_label_key,
        unit=limiter.unit,
        reserve=limiter.reserve,
        bucket_capacity=limiter.bucket_capacity,
        fill_amount=limiter.fill_amount,
        interval=float(parameters.interval),
        delay_initial_fill=parameters.delay_initial_fill,
        max_keys=parameters.max_keys,
    )


def _quota(resource: traffic.QuotaSchedulingPolicy) -> policy.QuotaScheduling:
    quota = resource.spec.quota_scheduler
    return policy.QuotaScheduling(
        name=_name(resource),
        match=match_of(quota.selectors),
        dry_run=resource.spec.dry_run,
        unit=quota.unit,
        reserve=quota.reserve,
        bucket_capacity=quota.bucket_capacity,
        fill_amount=quota.fill_amount,
        interval=float(quota.rate_limiter.interval),
        delay_initial_fill=quota.rate_limiter.delay_initial_fill,
        scheduler=quota.scheduler,
    )


def _concurrency(resource: traffic.ConcurrencyLimitingPolicy) -> policy.ConcurrencyLimiting:
    limiter = resource.spec.concurrency_limiter
    parameters = limiter.parameters
    return policy.ConcurrencyLimiting(
        name=_name(resource),
        match=match_of(limiter.selectors),
        dry_run=resource.spec.dry_run,
        limit_by_label_key=parameters.limit_by_label_key,
        max_concurrency=limiter.max_concurrency,
        max_inflight_duration=float(parameters.max_inflight_duration),
        max_keys=parameters.max_keys,
    )


def _slots(resource: traffic.ConcurrencySchedulingPolicy) -> policy.ConcurrencyScheduling:
    slots = resource.spec.concurrency_scheduler
    return policy.ConcurrencyScheduling(
        name=_name(resource),
        match=match_of(slots.selectors),
        dry_run=resource.spec.dry_run,
        max_concurrency=slots.max_concurrency,
        max_inflight_duration=float(slots.concurrency_limiter.max_inflight_duration),
        unit=slots.unit,
        scheduler=slots.scheduler,
    )


def _adaptive(resource: traffic.AverageLatencySchedulingPolicy) -> policy.AverageLatencyScheduling:
    core, baseline = resource.spec.load_scheduling_core, resource.spec.latency_baseliner
    loop = core.aimd_load_scheduler
    return policy.AverageLatencyScheduling(
        name=_name(resource),
        match=match_of(loop.load_scheduler.selectors),
        dry_run=resource.spec.dry_run,
        signal=core.signal,
        tolerance=baseline.latency_tolerance_multiplier,
        setpoint=core.setpoint,
        short_term=float(baseline.short_term_query_interval),
        long_term=float(baseline.long_term_query_interval),
        min_gradient=loop.gradient.min_gradient,
        max_gradient=loop.gradient.max_gradient,
        interval=_ADAPTIVE_INTERVAL,
        linear_increment=loop.load_multiplier_linear_increment,
        max_multiplier=loop.max_load_multiplier,
        unit=loop.load_scheduler.unit,
        scheduler=loop.load_scheduler.scheduler,
    )


def _ramp(resource: traffic.LoadRampingPolicy) -> policy.LoadRamping:
    ramp, drivers = resource.spec.load_ramp, resource.spec.drivers
    criterion = partial(_criterion, drivers)
    return policy.LoadRamping(
        name=_name(resource),
        match=match_of(ramp.sampler.selectors),
        dry_run=resource.spec.dry_run,
        steps=tuple(ramp.steps),
        start=resource.spec.start,
        sticky_label_key=ramp.sampler.label_key,
        forward=criterion("forward"),
        backward=criterion("backward"),
        reset=criterion("reset"),
    )


def _criterion(drivers: traffic.RampDrivers, which: str) -> policy.Criterion | None:
    """The tightest threshold of all drivers: forward needs every driver's consent, backward and reset one complaint."""
    latency = least_threshold(drivers.average_latency_drivers, which)
    errors = least_threshold(drivers.error_rate_drivers, which)
    if latency is None and errors is None:
        return None
    return policy.Criterion(error_rate=errors, latency=None if latency is None else latency / 1000)


def least_threshold(drivers: Sequence[traffic.RampDriver], which: str) -> float | None:
    """Of `forward`, `backward` or `reset`, in the driver's own unit; None where no driver has one."""
    given: list[traffic.Threshold | None] = [getattr(driver.criteria, which) for driver in drivers]
    return min((each.threshold for each in given if each is not None), default=None)


def _cache(resource: traffic.CachingPolicy) -> policy.Caching:
    cache = resource.spec.cache
    return policy.Caching(
        name=_name(resource),
        match=match_of(cache.selectors),
        dry_run=resource.spec.dry_run,
        ttl=float(cache.ttl),
        max_entries=cache.max_entries,
        max_bytes=int(cache.max_size),
        max_entry_bytes=int(cache.max_entry_size),
        scope_label_keys=tuple(cache.scope_label_keys),
        safe_tools=tuple(cache.safe_tools),
    )
