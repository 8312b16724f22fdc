"""Tenants and priorities in front of four simulated engines (8B models on an A100 each), on the Azure trace.

The numbers of slots were chosen on later parts of the trace than the one that is played here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random

import msgspec

from bench.flow.bars import Bar, quantile, rows
from bench.flow.gateway import Call, Fate, Gateway
from extproc.scheduling.labels import Condition
from extproc.scheduling.policy import ConcurrencyScheduling, Policies
from extproc.scheduling.workloads import LabelMatcher, Scheduler, Workload, WorkloadParameters
from extproc.simulate.profile import PROFILES
from extproc.simulate.trace import TraceRequest, read_trace
from extproc.spec import Duration

TRACE = "traces/azure_llm_2023_conv.jsonl.gz"
ENGINES = 4
SLOTS = 160
"""Requests in flight on all engines together. More finish more a second, and make everybody's first token later."""
SHARE = 112
"""Slots of them that one tenant may hold: what is left is free when a light one comes."""
LOW = 80
"""Slots that low priority may hold."""
_TENANTS = {"heavy": 20.0, "light one": 1.0, "light two": 1.0}
_CLASSES = {"high": 1.0, "low": 4.0}
_PROFILE = PROFILES["8b-a100"]
_HEAD = ("", "", "requests", "answered", "TTFT p50 s", "p95", "to alone", "to end p95 s", "to alone", "answers/s")


def report(folder: Path, *, quick: bool) -> tuple[str, list[Bar]]:
    requests = read_trace(folder / TRACE, 1_500 if quick else 6_000).requests
    most = _rate(requests, Policies())
    tenants, bars = _tenants(requests, most)
    overload, more = _overload(requests, most)
    said = f"Four engines finish {most:.1f} requests/s of the trace when all of it is there at once."
    return f"{said}\n\n{tenants}\n\n{overload}", bars + more


def _tenants(requests: Sequence[TraceRequest], most: float) -> tuple[str, list[Bar]]:
    """One tenant sends 20 times as much as each of two others, in all 1.5 times what the engines can do."""
    calls = _calls(requests, 1.5 * most, "tenant", _TENANTS)
    fair = Scheduler(
        default_workload_parameters=WorkloadParameters(queue_timeout=Duration(30.0)),
        fairness_key="tenant",
        max_size=10**6,
        max_per_flow=10**6,
    )
    shared = ConcurrencyScheduling(name="shared", max_concurrency=2 * SLOTS, scheduler=fair)
    each = tuple(
        ConcurrencyScheduling(name=f"of {name}", match=_is("tenant", name), max_concurrency=SHARE, scheduler=fair)
        for name in _TENANTS
    )
    body: list[tuple[object, ...]] = []
    worst = 0.0
    for label, policies in (
        ("no flow control", Policies()),
        ("fair queue", Policies(slots=(shared,))),
        ("fair queue, a limit for each", Policies(slots=(*each, shared))),
    ):
        fates = _play(policies, calls)
        worst = 0.0
        for name in _TENANTS:
            mine = _of(fates, "tenant", name)
            alone = _play(policies, [fate.call for fate in mine])
            body.append((label, name, *_figures(mine, alone)))
            if name != "heavy":
                worst = max(worst, _ratio(mine, alone, "ttft"))
    text = f"One tenant 20 times as heavy as two others, load 1.5 in all:\n{rows(_HEAD, body)}"
    return text, [Bar("light_tenants_ttft_p95_to_alone", worst, 1.3)]


def _overload(requests: Sequence[TraceRequest], most: float) -> tuple[str, list[Bar]]:
    """Twice as much as the slots finish when they are always full; a fifth of it is of high priority."""
    scheduler = Scheduler(
        workloads=[
            Workload(
                name="high",
                label_matcher=LabelMatcher(match_labels={"class": "high"}),
                parameters=WorkloadParameters(priority=1000.0, queue_timeout=Duration(30)),
            )
        ],
        default_workload_parameters=WorkloadParameters(queue_timeout=Duration(10.0)),
        max_size=10**6,
        max_per_flow=10**6,
    )
    slots = ConcurrencyScheduling(name="slots", max_concurrency=SLOTS, scheduler=scheduler)
    low = ConcurrencyScheduling(name="of low", match=_is("class", "low"), max_concurrency=LOW, scheduler=scheduler)
    patient = msgspec.structs.replace(
        slots,
        scheduler=msgspec.structs.replace(
            scheduler, workloads=[], default_workload_parameters=WorkloadParameters(queue_timeout=Duration(1e9))
        ),
    )
    capacity = _rate(requests, Policies(slots=(patient,)))
    calls = _calls(requests, 2 * capacity, "class", _CLASSES)
    crowded = _calls(requests, 2 * most, "class", _CLASSES)
    body: list[tuple[object, ...]] = []
    for label, policies, played in (
        ("no flow control, twice the engines", Policies(), crowded),
        ("flow control, twice the engines", Policies(slots=(low, slots)), crowded),
        ("no flow control, twice the slots", Policies(), calls),
        ("priorities alone, twice the slots", Policies(slots=(slots,)), calls),
        ("flow control, twice the slots", Policies(slots=(low, slots)), calls),
    ):
        fates = _play(policies, played)
        for name in _CLASSES:
            mine = _of(fates, "class", name)
            body.append((label, name, *_figures(mine, _play(policies, [fate.call for fate in mine]))))
    high = _of(fates, "class", "high")
    alone = _play(policies, [fate.call for fate in high])
    text = (
        f"{SLOTS} slots finish {capacity:.1f} requests/s when always full, {capacity / most:.0%} of what engines do "
        f"at most; offered: twice that, and twice what the engines do. Answers/s: while requests still came.\n"
        f"{rows(_HEAD, body)}"
    )
    return text, [
        Bar("overload_goodput_of_capacity", _goodput(fates) / capacity, 0.9, least=True),
        Bar("overload_high_ttft_p95_to_unloaded", _ratio(high, alone, "ttft"), 1.5),
        Bar("overload_high_to_end_p95_to_unloaded", _ratio(high, alone, "e2e"), 1.5),
    ]


def _play(policies: Policies, calls: Sequence[Call]) -> list[Fate]:
    return Gateway(policies, _PROFILE, ENGINES).play(calls)


def _rate(requests: Sequence[TraceRequest], policies: Policies) -> float:
    """Requests per second when all are there at once, without the end, when engines run empty."""
    calls = [Call(arrival=0.0, prompt_tokens=one.prompt_tokens, output_tokens=one.output_tokens) for one in requests]
    ends = sorted(fate.finished or 0.0 for fate in _play(policies, calls))
    number = len(ends) * 9 // 10
    return number / ends[number - 1]


def _calls(requests: Sequence[TraceRequest], rate: float, label: str, weights: Mapping[str, float]) -> list[Call]:
    """The trace as fast as it comes to `rate` requests per second, each drawn to a value of a label."""
    dice = Random(1)
    factor = rate * requests[-1].arrival / len(requests)
    values = dice.choices(list(weights), list(weights.values()), k=len(requests))
    return [
        Call(
            arrival=one.arrival / factor,
            prompt_tokens=one.prompt_tokens,
            output_tokens=one.output_tokens,
            labels={label: value},
        )
        for one, value in zip(requests, values, strict=True)
    ]


def _is(label: str, value: str) -> tuple[Condition, ...]:
    return (Condition(key=label, operator="equals", values=(value,)),)


def _of(fates: Sequence[Fate], label: str, value: str) -> list[Fate]:
    return [fate for fate in fates if fate.call.labels[label] == value]


def _shown(ratio: float) -> object:
    return ratio if math.isfinite(ratio) else "-"


def _ratio(some: Sequence[Fate], alone: Sequence[Fate], figure: str) -> float:
    """p95 over p95; infinity where more than a twentieth was not answered."""
    usual = _p95(alone, figure)
    return _p95(some, figure) / usual if usual < math.inf else math.inf


def _p95(fates: Sequence[Fate], figure: str) -> float:
    return quantile([fate.ttft if figure == "ttft" else fate.e2e for fate in fates], 0.95)


def _goodput(fates: Sequence[Fate]) -> float:
    """Answers per second while requests still come, without the first tenth of the time, when the engines fill."""
    last = fates[-1].call.arrival
    return sum(0.1 * last < (fate.finished or 0.0) <= last for fate in fates) / (0.9 * last)


def _figures(mine: Sequence[Fate], alone: Sequence[Fate]) -> tuple[object, ...]:
    return (
        len(mine),
        f"{sum(fate.finished is not None for fate in mine) / len(mine):.0%}",
        quantile([fate.ttft for fate in mine], 0.5),
        _p95(mine, "ttft"),
        _shown(_ratio(mine, alone, "ttft")),
        _p95(mine, "e2e"),
        _shown(_ratio(mine, alone, "e2e")),
        _goodput(mine),
    )
