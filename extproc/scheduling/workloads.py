"""How the requests of a traffic policy wait, as manifests say it: label matchers, workloads, the scheduler."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, field

from extproc.scheduling.labels import Condition, Operator
from extproc.spec import Duration, Spec

Guard = Literal["slack", "responseRatio", "none"]
Positive = Annotated[int, Meta(ge=1)]
_OPERATORS: dict[str, Operator] = {"In": "in", "NotIn": "notIn", "Exists": "exists", "DoesNotExist": "doesNotExist"}


class MatchExpression(Spec, frozen=True, kw_only=True):
    """One condition on a label."""

    key: str
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: list[str] = []


class LabelPattern(Spec, frozen=True, kw_only=True):
    """A label that begins with something, or matches a pattern as a whole."""

    key: str
    prefix: str | None = None
    regex: str | None = None
    """RE2 syntax; must match the whole value."""


class LabelMatcher(Spec, frozen=True, kw_only=True):
    """Conditions on the labels of a request, all of which must hold."""

    match_labels: dict[str, str] = {}
    match_expressions: list[MatchExpression] = []
    match_patterns: list[LabelPattern] = []


def matcher_conditions(matcher: LabelMatcher) -> tuple[Condition, ...]:
    """All that one label matcher asks for, each pattern with a prefix, a regular expression, or both."""
    found = [Condition(key, "equals", (value,)) for key, value in matcher.match_labels.items()]
    found += [Condition(each.key, _OPERATORS[each.operator], tuple(each.values)) for each in matcher.match_expressions]
    for pattern in matcher.match_patterns:
        if pattern.prefix is not None:
            found.append(Condition(pattern.key, "prefix", (pattern.prefix,)))
        if pattern.regex is not None:
            found.append(Condition(pattern.key, "regex", (pattern.regex,)))
    return tuple(found)


class WorkloadParameters(Spec, frozen=True, kw_only=True):
    """How a class of requests is treated while it waits."""

    priority: Annotated[float, Meta(ge=0.001, le=1000)] = 1.0
    """Share of the capacity while several classes wait: 200 gets twice as much as 100."""
    queue_timeout: Duration = Duration(10)
    """Longest wait; after it the request is refused."""
    tokens: Annotated[float, Meta(gt=0)] | None = None
    """Weight of a request in the queue. Default: its own, in the policy's unit."""


class Workload(Spec, frozen=True, kw_only=True):
    """A class of requests."""

    name: str
    label_matcher: LabelMatcher = field(default_factory=LabelMatcher)
    parameters: WorkloadParameters = field(default_factory=WorkloadParameters)


class Scheduler(Spec, frozen=True, kw_only=True):
    """The queue: weighted fair between workloads, fair between the values of a label within one."""

    workloads: list[Workload] = []
    """The first one that matches is taken."""
    default_workload_parameters: WorkloadParameters = field(default_factory=WorkloadParameters)
    """For requests that match none."""
    fairness_key: str = ""
    """Label whose values share their workload's part equally, such as `tenant`."""
    priority_label_key: str = ""
    """Label that holds a priority as a number, in place of the workload's. Only for labels that no client sets."""
    ordering: Literal["fifo", "shortest"] = "fifo"
    """`shortest`: within one workload and fairness key, the answer predicted to be shortest comes first."""
    guard: Guard = "slack"
    """With `ordering: shortest`, what keeps the longest from starving: `slack` limits how long they are passed over,
    `responseRatio` serves the highest (wait + expected time) / expected time, `none` the shortest."""
    slack: Annotated[float, Meta(gt=0, le=100)] = 4.0
    """For `guard: slack`: how many usual waits the longest request may be passed over. More lowers the mean and raises
    the slowest."""
    max_size: Positive = 1024
    """Requests that may wait; a further one is refused, or takes the place of one with a lower priority."""
    max_per_flow: Positive = 512
    """Requests of one fairness key that may wait."""
