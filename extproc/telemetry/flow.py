"""What flow control does, read from its live state at scrape time. Labels are names from the configuration."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import msgspec
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from extproc.accounting.record import ExchangeRecord
from extproc.scheduling.status import PolicyState
from extproc.telemetry.exposition import histogram_family
from extproc.telemetry.series import Distribution

WAIT_BUCKETS = (0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
_GAUGES = (
    ("multiplier", "sluice_policy_multiplier", "Part of the incoming load that an adaptive policy admits."),
    ("percentage", "sluice_policy_ramp_percentage", "Requests that a load ramp lets through, in percent."),
    ("entries", "sluice_cache_entries", "Answers in the cache."),
    ("bytes", "sluice_cache_bytes", "Bytes of the answers in the cache."),
    ("joined", "sluice_cache_joined", "Requests that wait for the answer to an identical one."),
)


class SharedStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The connection to the state that several filters share."""

    connected: bool
    replicas: int
    undelivered: int
    counts: Mapping[str, int]


class PredictorStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How well lengths of answers are predicted: running figures of this process."""

    learned: int
    """Answers that it learned from, those of earlier runs included."""
    observed: int
    absolute: float
    relative: float
    covered: float
    tau: float


class FlowStatus(msgspec.Struct, frozen=True, kw_only=True):
    """All of flow control at one moment."""

    policies: Sequence[PolicyState] = ()
    waiting: Mapping[tuple[str, str], int] = {}
    """By policy and workload."""
    predictor: PredictorStatus | None = None
    shared: SharedStatus | None = None
    """None: the state is in this process."""


class FlowTotals:
    """What single exchanges say about flow control, added up since start."""

    def __init__(self) -> None:
        self._waits = Distribution(WAIT_BUCKETS)
        self._saved: Counter[str] = Counter()
        self._answers: Counter[str] = Counter()

    def __repr__(self) -> str:
        return f"<FlowTotals {self._waits!r}>"

    def add(self, record: ExchangeRecord) -> None:
        if record.waited:
            self._waits.observe(record.waited)
        if record.cache:
            self._answers[record.cache] += 1
        if record.saved is not None:
            self._saved["prompt"] += record.saved.prompt_tokens
            self._saved["completion"] += record.saved.completion_tokens

    def families(self) -> Iterator[Metric]:
        yield histogram_family(
            "sluice_policy_wait_seconds", "How long requests waited that had to wait for a policy.", self._waits
        )
        answers = CounterMetricFamily(
            "sluice_cache_requests", "Requests that a cache policy was for, by what became of them.", labels=("result",)
        )
        for result, count in tuple(self._answers.items()):
            answers.add_metric((result,), count)
        yield answers
        saved = CounterMetricFamily(
            "sluice_cache_saved_tokens", "Tokens that answers out of the cache had cost once.", labels=("type",)
        )
        for kind, count in tuple(self._saved.items()):
            saved.add_metric((kind,), count)
        yield saved


def flow_families(status: FlowStatus) -> Iterator[Metric]:
    """`sluice_policy_*`, `sluice_cache_*`, `sluice_predictor_*`, `sluice_shared_*`."""
    requests = CounterMetricFamily(
        "sluice_policy_requests", "What policies did with requests.", labels=("policy", "result")
    )
    left = GaugeMetricFamily(
        "sluice_policy_left",
        "Tokens, requests or slots left; of a policy with many keys, the least.",
        labels=("policy",),
    )
    for policy in status.policies:
        for result, count in policy.counts.items():
            requests.add_metric((policy.name, result), count)
        if policy.levels:
            left.add_metric((policy.name,), min(level.left for level in policy.levels))
    yield from (requests, left)
    waiting = GaugeMetricFamily(
        "sluice_policy_waiting", "Requests that wait for a policy.", labels=("policy", "workload")
    )
    for (name, workload), number in status.waiting.items():
        waiting.add_metric((name, workload), number)
    for policy in status.policies:
        if policy.waiting == 0:
            waiting.add_metric((policy.name, ""), 0)
    yield waiting
    for field, name, text in _GAUGES:
        family = GaugeMetricFamily(name, text, labels=("policy",))
        for policy in status.policies:
            if (value := getattr(policy, field)) is not None:
                family.add_metric((policy.name,), value)
        yield family
    if status.predictor is not None:
        yield from _predictor(status.predictor)
    if status.shared is not None:
        yield from _shared(status.shared)


def _predictor(status: PredictorStatus) -> Iterator[Metric]:
    yield CounterMetricFamily("sluice_predictor_answers", "Answers that the predictor learned from.", status.learned)
    if not status.observed:
        return
    values = {
        "error_tokens": ("Mean distance of the predicted median from the real length.", status.absolute),
        "error_ratio": ("The same as a part of the real length.", status.relative),
        "covered_ratio": ("Answers not longer than the length that was reserved, about 0.9.", status.covered),
        "rank_correlation": ("Kendall's tau of predicted and real lengths over the last answers.", status.tau),
    }
    for name, (text, value) in values.items():
        yield GaugeMetricFamily(f"sluice_predictor_{name}", text, value)


def _shared(shared: SharedStatus) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "sluice_shared_up",
        "1 while the shared state decides, 0 while this filter does by itself.",
        float(shared.connected),
    )
    yield GaugeMetricFamily("sluice_shared_replicas", "Filters that share the state.", shared.replicas)
    yield GaugeMetricFamily("sluice_shared_undelivered", "Settlements that wait for delivery.", shared.undelivered)
    events = CounterMetricFamily("sluice_shared_events", "What went other than usual.", labels=("event",))
    for event, count in shared.counts.items():
        events.add_metric((event,), count)
    yield events
