"""What the metrics show of flow control: its policies, who waits, what the predictor has learned, the shared state."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from extproc.live.request_flow import LiveFlow
from extproc.prediction.predictor import LengthPredictor
from extproc.scheduling import report
from extproc.telemetry.flow import FlowStatus, PredictorStatus, SharedStatus

if TYPE_CHECKING:
    from extproc.shared.store import RedisStore


def status_of(live_flow: LiveFlow, predictor: LengthPredictor, now: float) -> FlowStatus:
    waiting: Counter[tuple[str, str]] = Counter()
    for line in live_flow.flow.lines:
        for (workload, _), _, number, _ in line.queue.flows(line.queue.max_size):
            waiting[line.policy.name, workload] += number
    return FlowStatus(
        policies=report.state(live_flow.flow, now),
        waiting=waiting,
        predictor=_predictor(predictor) if live_flow.predicts else None,
        shared=None if live_flow.store is None else _shared(live_flow.store),
    )


def _predictor(predictor: LengthPredictor) -> PredictorStatus:
    errors = predictor.errors
    return PredictorStatus(
        learned=predictor.learned,
        observed=errors.observed,
        absolute=errors.absolute,
        relative=errors.relative,
        covered=errors.covered,
        tau=errors.tau(),
    )


def _shared(store: RedisStore) -> SharedStatus:
    counters = store.counters
    undelivered, dropped = store.undelivered
    return SharedStatus(
        connected=store.mode == "shared",
        replicas=store.replicas,
        undelivered=undelivered,
        counts={
            "failures": counters.failures,
            "local": counters.local,
            "late": counters.late,
            "unknown": counters.unknown,
            "emptied": counters.emptied,
            "unkept": counters.unkept,
            "dropped": dropped,
        },
    )
