"""Checks of the traffic policies one by one: who they are for, how requests wait, thresholds that cannot be met."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from extproc.prediction.features import USUAL
from extproc.resources.checks.labels import KnownLabels
from extproc.resources.checks.scope import Located, Scope
from extproc.resources.checks.values import bad_regex
from extproc.resources.kinds.selectors import ANY_SERVICE, Selector, selector_conditions
from extproc.resources.kinds.traffic import (
    AverageLatencySchedulingPolicy,
    CachingPolicy,
    ConcurrencyLimitingPolicy,
    ConcurrencySchedulingPolicy,
    LoadRampingPolicy,
    QuotaSchedulingPolicy,
    RampDriver,
    RateLimitingPolicy,
)
from extproc.resources.problems import Problem, nearest
from extproc.resources.shape import Path
from extproc.scheduling.labels import BadCondition, Condition, compile_match
from extproc.scheduling.workloads import LabelMatcher, Scheduler, WorkloadParameters, matcher_conditions
from extproc.steps.head import CLIENT_CREDENTIALS
from extproc.steps.labels import HEADER, TENANT

_TAKES_VALUES = ("In", "NotIn")


def check_traffic(scope: Scope) -> Iterator[Problem]:
    """All checks of single traffic policies."""
    checks = _Checks(scope)
    for each in scope.located:
        if (examine := checks.by_kind.get(type(each.resource))) is not None:
            yield from examine(each, each.resource)


class _Checks:
    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._labels = KnownLabels(scope)
        self._hosts = {route.spec.host for route in scope.snapshot.effective_routes()}
        self.by_kind: dict[type, Callable[..., Iterator[Problem]]] = {
            RateLimitingPolicy: self._rate,
            QuotaSchedulingPolicy: self._quota,
            ConcurrencyLimitingPolicy: self._concurrency,
            ConcurrencySchedulingPolicy: self._slots,
            AverageLatencySchedulingPolicy: self._adaptive,
            LoadRampingPolicy: self._ramp,
            CachingPolicy: self._cache,
        }

    def _rate(self, at: Located, policy: RateLimitingPolicy) -> Iterator[Problem]:
        path: Path = ("spec", "rateLimiter")
        limiter = policy.spec.rate_limiter
        yield from self._selectors(at, (*path, "selectors"), limiter.selectors)
        key = limiter.parameters.limit_by_label_key
        yield from self._labels.check(at, (*path, "parameters", "limitByLabelKey"), key)
        yield from _capacity(at, path, limiter.bucket_capacity, limiter.unit)

    def _quota(self, at: Located, policy: QuotaSchedulingPolicy) -> Iterator[Problem]:
        path: Path = ("spec", "quotaScheduler")
        quota = policy.spec.quota_scheduler
        yield from self._selectors(at, (*path, "selectors"), quota.selectors)
        yield from self._scheduler(at, (*path, "scheduler"), quota.scheduler)
        yield from _capacity(at, path, quota.bucket_capacity, quota.unit)

    def _concurrency(self, at: Located, policy: ConcurrencyLimitingPolicy) -> Iterator[Problem]:
        path: Path = ("spec", "concurrencyLimiter")
        limiter = policy.spec.concurrency_limiter
        yield from self._selectors(at, (*path, "selectors"), limiter.selectors)
        key = limiter.parameters.limit_by_label_key
        yield from self._labels.check(at, (*path, "parameters", "limitByLabelKey"), key)

    def _slots(self, at: Located, policy: ConcurrencySchedulingPolicy) -> Iterator[Problem]:
        path: Path = ("spec", "concurrencyScheduler")
        yield from self._selectors(at, (*path, "selectors"), policy.spec.concurrency_scheduler.selectors)
        yield from self._scheduler(at, (*path, "scheduler"), policy.spec.concurrency_scheduler.scheduler)

    def _adaptive(self, at: Located, policy: AverageLatencySchedulingPolicy) -> Iterator[Problem]:
        core, baseliner = policy.spec.load_scheduling_core, policy.spec.latency_baseliner
        loop: Path = ("spec", "loadSchedulingCore", "aimdLoadScheduler")
        load = core.aimd_load_scheduler.load_scheduler
        yield from self._selectors(at, (*loop, "loadScheduler", "selectors"), load.selectors)
        yield from self._scheduler(at, (*loop, "loadScheduler", "scheduler"), load.scheduler)
        gradient = core.aimd_load_scheduler.gradient
        if gradient.min_gradient > gradient.max_gradient:
            yield at.error((*loop, "gradient", "minGradient"), "is above maxGradient")
        if baseliner.long_term_query_interval <= baseliner.short_term_query_interval:
            path: Path = ("spec", "latencyBaseliner", "longTermQueryInterval")
            yield at.error(path, "must be longer than shortTermQueryInterval, which is compared with it")
        if core.signal == "saturation" and self._scope.complete and not self._scope.snapshot.pools:
            yield at.error(("spec", "loadSchedulingCore", "signal"), "there is no InferencePool to be saturated")

    def _ramp(self, at: Located, policy: LoadRampingPolicy) -> Iterator[Problem]:
        path: Path = ("spec", "loadRamp")
        ramp, drivers = policy.spec.load_ramp, policy.spec.drivers
        yield from self._selectors(at, (*path, "sampler", "selectors"), ramp.sampler.selectors)
        yield from self._labels.check(at, (*path, "sampler", "labelKey"), ramp.sampler.label_key)
        if not ramp.steps:
            yield at.error((*path, "steps"), "a ramp needs at least one step")
        for index in range(1, len(ramp.steps)):
            if ramp.steps[index].target_accept_percentage < ramp.steps[index - 1].target_accept_percentage:
                place = (*path, "steps", index, "targetAcceptPercentage")
                yield at.error(place, "is below the step before", "a ramp only rises; criteria take it back")
        yield from _drivers(at, "averageLatencyDrivers", drivers.average_latency_drivers)
        yield from _drivers(at, "errorRateDrivers", drivers.error_rate_drivers)
        for index, driver in enumerate(drivers.error_rate_drivers):
            for which in ("forward", "backward", "reset"):
                given = getattr(driver.criteria, which)
                if given is not None and given.threshold > 1:
                    place = ("spec", "drivers", "errorRateDrivers", index, "criteria", which, "threshold")
                    yield at.error(place, "an error rate is a part of 1", f"for {given.threshold:g} % write "
                                   f"{given.threshold / 100:g}")  # fmt: skip

    def _cache(self, at: Located, policy: CachingPolicy) -> Iterator[Problem]:
        path: Path = ("spec", "cache")
        cache = policy.spec.cache
        yield from self._selectors(at, (*path, "selectors"), cache.selectors)
        for index, label in enumerate(cache.scope_label_keys):
            yield from self._labels.check(at, (*path, "scopeLabelKeys", index), label)
        spec = self._scope.snapshot.gateway.spec
        tenants = bool(spec.sources or spec.jwt or TENANT in spec.labels)
        if tenants and TENANT not in cache.scope_label_keys:
            yield at.warning(
                (*path, "scopeLabelKeys"), "tenants see each other's answers", "add `tenant` unless this is meant"
            )
        if cache.max_entry_size > cache.max_size:
            yield at.error((*path, "maxEntrySize"), "is above maxSize")

    def _selectors(self, at: Located, path: Path, selectors: Sequence[Selector]) -> Iterator[Problem]:
        for index, selector in enumerate(selectors):
            place = (*path, index)
            service = selector.service
            if self._scope.complete and service not in ANY_SERVICE and service not in self._hosts:
                yield at.error((*place, "service"), "no LLMRoute has this host", nearest(service, self._hosts))
            yield from self._matcher(at, (*place, "labelMatcher"), selector.label_matcher)
            yield from _nothing(at, place, selector_conditions(selector))

    def _matcher(self, at: Located, path: Path, matcher: LabelMatcher) -> Iterator[Problem]:
        valued = [each.key for each in matcher.match_expressions if each.operator in _TAKES_VALUES]
        for key in (*matcher.match_labels, *valued, *(pattern.key for pattern in matcher.match_patterns)):
            if key.startswith(HEADER) and key.removeprefix(HEADER).lower() in CLIENT_CREDENTIALS:
                yield at.error(path, f"the value of `{key}` is a secret, and policies see a digest of it only")
        for key in matcher.match_labels:
            yield from self._labels.check(at, (*path, "matchLabels", key), key)
        for index, each in enumerate(matcher.match_expressions):
            place = (*path, "matchExpressions", index)
            yield from self._labels.check(at, (*place, "key"), each.key)
            if (each.operator in _TAKES_VALUES) != bool(each.values):
                wants = "needs at least one value" if each.operator in _TAKES_VALUES else "takes no values"
                yield at.error((*place, "values"), f"{each.operator} {wants}")
        for index, pattern in enumerate(matcher.match_patterns):
            place = (*path, "matchPatterns", index)
            yield from self._labels.check(at, (*place, "key"), pattern.key)
            if pattern.prefix is None and pattern.regex is None:
                yield at.error(place, "give `prefix` or `regex`")
            if pattern.regex is not None and (said := bad_regex(pattern.regex)):
                yield at.error((*place, "regex"), f"not a valid RE2 pattern: {said}")

    def _scheduler(self, at: Located, path: Path, scheduler: Scheduler) -> Iterator[Problem]:
        yield from self._labels.check(at, (*path, "fairnessKey"), scheduler.fairness_key)
        key = scheduler.priority_label_key
        yield from self._labels.check(at, (*path, "priorityLabelKey"), key)
        if key.startswith(HEADER):
            yield at.warning((*path, "priorityLabelKey"), "clients choose their own priority with this header")
        if scheduler.ordering == "fifo":
            yield from _no_order(at, path)
        seen: dict[tuple[Condition, ...], str] = {}
        names = {"default"}
        for index, workload in enumerate(scheduler.workloads):
            place = (*path, "workloads", index)
            if workload.name in names:
                said = "is that of the default workload" if workload.name == "default" else "another workload has it"
                yield at.error((*place, "name"), f"the name is taken: {said}")
            names.add(workload.name)
            yield from self._matcher(at, (*place, "labelMatcher"), workload.label_matcher)
            conditions = matcher_conditions(workload.label_matcher)
            yield from _nothing(at, (*place, "labelMatcher"), conditions)
            other = seen.get(conditions) or seen.get(())
            if other is not None:
                yield at.warning(place, f"no request comes here: workload {other!r} takes them all")
            seen.setdefault(conditions, workload.name)
        yield from _same_for_all(at, path, scheduler)


def _no_order(at: Located, path: Path) -> Iterator[Problem]:
    """Settings of `ordering: shortest`, written where another ordering holds."""
    for key in ("guard", "slack"):
        if at.document.root.get(*map(str, path), key) is not None:
            yield at.warning(
                (*path, key), "has no effect with `ordering: fifo`", "write `ordering: shortest` beside it"
            )


def _same_for_all(at: Located, path: Path, scheduler: Scheduler) -> Iterator[Problem]:
    """Workloads that differ in nothing are of no use."""
    parameters: set[WorkloadParameters] = {each.parameters for each in scheduler.workloads}
    if len(scheduler.workloads) > 1 and parameters == {scheduler.default_workload_parameters}:
        yield at.warning((*path, "workloads"), "all of them, and the default, are treated the same")


def _capacity(at: Located, path: Path, capacity: float, unit: str) -> Iterator[Problem]:
    if unit == "tokens" and capacity < USUAL:
        said = f"most requests cost more at once and are refused: an answer alone is expected to take {USUAL} tokens"
        yield at.warning((*path, "bucketCapacity"), said)


def _nothing(at: Located, path: Path, conditions: Sequence[Condition]) -> Iterator[Problem]:
    """Conditions on one label that no value meets."""
    for key in dict.fromkeys(each.key for each in conditions):
        own = [each for each in conditions if each.key == key]
        exact = next((each.values for each in own if each.operator in ("equals", "in")), None)
        if len(own) < 2:
            continue
        try:
            fits = compile_match(own)
        except BadCondition:  # reported by itself
            continue
        if exact is not None and not any(fits({key: value}) for value in exact):
            yield at.error(path, f"matches nothing: no value of label `{key}` meets all its conditions")
        elif {"exists", "doesNotExist"} <= {each.operator for each in own}:
            yield at.error(path, f"matches nothing: label `{key}` cannot exist and not exist")


def _drivers(at: Located, field: str, drivers: Sequence[RampDriver]) -> Iterator[Problem]:
    """Thresholds rise from forward over backward to reset; otherwise a ramp runs in a loop."""
    lowest: dict[str, float] = {}
    for index, driver in enumerate(drivers):
        path: Path = ("spec", "drivers", field, index, "criteria")
        criteria = driver.criteria
        if criteria.forward is None and criteria.backward is None and criteria.reset is None:
            yield at.error(path, "give at least one of `forward`, `backward` and `reset`")
        for which in ("forward", "backward", "reset"):
            given = getattr(criteria, which)
            if given is not None:
                lowest[which] = min(given.threshold, lowest.get(which, given.threshold))
    for low, high in (("forward", "backward"), ("forward", "reset"), ("backward", "reset")):
        if low in lowest and high in lowest and lowest[low] > lowest[high]:
            said = f"a loop: the threshold of {low}, {lowest[low]:g}, is above that of {high}, {lowest[high]:g}"
            yield at.error(("spec", "drivers", field), said, "they rise from forward over backward to reset")
