"""What is wrong with a set of policies, before anything runs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

import msgspec

from extproc.scheduling.labels import AnyOf, BadCondition, Condition, compile_match
from extproc.scheduling.line import HIGHEST, LOWEST
from extproc.scheduling.policy import (
    AverageLatencyScheduling,
    Caching,
    ConcurrencyLimiting,
    ConcurrencyScheduling,
    Conditions,
    Criterion,
    LoadRamping,
    Policies,
    QuotaScheduling,
    RateLimiting,
    Scheduler,
    TrafficPolicy,
)


class Problem(msgspec.Struct, frozen=True):
    """One fault of one policy."""

    policy: str
    field: str
    """In the words of `policy.py`, dotted."""
    message: str


def problems(policies: Policies, known_labels: frozenset[str] | None = None) -> list[Problem]:
    """Every fault. `known_labels`: labels that something computes; with it, unknown ones are faults."""
    found = [
        Problem(name, "name", "another policy has this name, which also names the shared state")
        for name, count in Counter(policy.name for policy in policies.every()).items()
        if count > 1
    ]
    for policy in policies.every():
        found += [Problem(policy.name, field, message) for field, message in _of(policy, known_labels)]
    return found


def _of(policy: TrafficPolicy, known: frozenset[str] | None) -> Iterator[tuple[str, str]]:
    yield from _conditions("match", policy.match, known)
    if isinstance(policy, RateLimiting):
        yield from _above_zero(policy, "bucket_capacity", "interval", "max_keys")
        yield from _above_zero(policy, "fill_amount")
        yield from _label("limit_by_label_key", policy.limit_by_label_key, known)
    if isinstance(policy, ConcurrencyLimiting | ConcurrencyScheduling):
        yield from _above_zero(policy, "max_concurrency", "max_inflight_duration")
    if isinstance(policy, ConcurrencyLimiting):
        yield from _label("limit_by_label_key", policy.limit_by_label_key, known)
        yield from _above_zero(policy, "max_keys")
    if isinstance(policy, AverageLatencyScheduling):
        yield from _adaptive(policy)
    if isinstance(policy, QuotaScheduling | ConcurrencyScheduling | AverageLatencyScheduling):
        yield from _scheduler(policy.scheduler, known)
    if isinstance(policy, QuotaScheduling) and policy.limit_by_label_key:
        yield "limit_by_label_key", "a quota is one bucket for all; share it by scheduler.fairness_label_key"
    if isinstance(policy, LoadRamping):
        yield from _ramp(policy, known)
    if isinstance(policy, Caching):
        yield from _above_zero(policy, "ttl", "max_entries", "max_bytes", "max_entry_bytes", "join_timeout")
        for label in policy.scope_label_keys:
            yield from _label("scope_label_keys", label, known)


def _adaptive(policy: AverageLatencyScheduling) -> Iterator[tuple[str, str]]:
    yield from _above_zero(policy, "setpoint", "short_term", "interval", "linear_increment", "max_multiplier")
    if policy.long_term <= policy.short_term:
        yield "long_term", "must be longer than short_term"
    if policy.tolerance < 1:
        yield "tolerance", "below 1 the usual latency would be an overload"
    if not 0 < policy.min_gradient <= policy.max_gradient <= 1:
        yield "min_gradient", "must hold: 0 < min_gradient <= max_gradient <= 1"


def _ramp(policy: LoadRamping, known: frozenset[str] | None) -> Iterator[tuple[str, str]]:
    yield from _label("sticky_label_key", policy.sticky_label_key, known)
    yield from _above_zero(policy, "interval")
    if not policy.steps:
        yield "steps", "needs at least one step"
    for index, step in enumerate(policy.steps):
        if not 0 <= step.target_accept_percentage <= 100:
            yield f"steps[{index}].target_accept_percentage", "must be 0 to 100"
        if not 0 <= step.duration < math.inf:
            yield f"steps[{index}].duration", "must not be negative"
    for field in ("error_rate", "latency"):
        limits = [_threshold(criterion, field) for criterion in (policy.forward, policy.backward, policy.reset)]
        given = [limit for limit in limits if limit is not None]
        if given != sorted(given):
            yield "forward", f"a loop: {field} must rise from forward over backward to reset"
        if any(limit < 0 for limit in given):
            yield "forward", f"{field} must not be negative"
    for name, criterion in (("forward", policy.forward), ("backward", policy.backward), ("reset", policy.reset)):
        if criterion is not None and criterion.error_rate is None and criterion.latency is None:
            yield name, "a criterion needs a threshold"


def _threshold(criterion: Criterion | None, field: str) -> float | None:
    value: float | None = getattr(criterion, field) if criterion is not None else None
    return value


def _scheduler(scheduler: Scheduler, known: frozenset[str] | None) -> Iterator[tuple[str, str]]:
    yield from _label("scheduler.fairness_label_key", scheduler.fairness_label_key, known)
    yield from _label("scheduler.priority_label_key", scheduler.priority_label_key, known)
    if scheduler.max_size < 1 or scheduler.max_per_flow < 1:
        yield "scheduler.max_size", "must be at least 1; a limit without a queue is another policy"
    names = Counter(workload.name for workload in (*scheduler.workloads, scheduler.default))
    for name, count in names.items():
        if count > 1:
            yield "scheduler.workloads", f"two workloads are called {name!r}"
    for workload in (*scheduler.workloads, scheduler.default):
        where = f"scheduler.workloads.{workload.name}"
        yield from _conditions(f"{where}.match", workload.match, known)
        if not LOWEST <= workload.priority <= HIGHEST:
            yield f"{where}.priority", f"must be {LOWEST:g} to {HIGHEST:g}"
        if workload.tokens is not None and not workload.tokens > 0:
            yield f"{where}.tokens", "must be above zero"
        if not 0 <= workload.queue_timeout < math.inf:
            yield f"{where}.queue_timeout", "must not be negative, and not endless"


def _above_zero(policy: TrafficPolicy, *fields: str) -> Iterator[tuple[str, str]]:
    for field in fields:
        if not 0 < getattr(policy, field) < math.inf:
            yield field, "must be above zero"


def _conditions(where: str, conditions: Conditions, known: frozenset[str] | None) -> Iterator[tuple[str, str]]:
    for each in conditions:
        if isinstance(each, AnyOf):
            for alternative in each.alternatives:
                yield from _conditions(where, alternative, known)
            if not each.alternatives:
                yield where, "no alternative: the policy matches nothing"
    yield from _plain([each for each in conditions if isinstance(each, Condition)], where, known)


def _plain(conditions: list[Condition], where: str, known: frozenset[str] | None) -> Iterator[tuple[str, str]]:
    for condition in conditions:
        yield from _label(where, condition.key, known)
        try:
            compile_match((condition,))
        except BadCondition as error:
            yield where, str(error)
    wanted = {c.key: c.values for c in conditions if c.operator == "equals"}
    for condition in conditions:
        if condition.operator == "equals" and wanted[condition.key] != condition.values:
            yield where, f"label {condition.key!r} cannot equal two values: the policy matches nothing"


def _label(where: str, label: str, known: frozenset[str] | None) -> Iterator[tuple[str, str]]:
    if label and known is not None and label not in known:
        yield where, f"no label is called {label!r}"
