"""Order by predicted length beside first come first served, on recorded prompts and answers.

Held out by prompt: the predictor has learned from 1,000 answers to other prompts that have finished; answers to the
prompts that are played do not teach it. Every run is the production flow in front of a simulated engine of an 8B model
on an A100, with one slot (a serial server) or with 16 (a batch). Load 1.0 is what those slots finish when always full.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from random import Random

import msgspec

from bench.flow.bars import Bar, mean, quantile, rows
from bench.flow.gateway import Call, Gateway
from extproc.prediction.evaluate import Pair
from extproc.prediction.predictor import LengthPredictor
from extproc.scheduling.fair import Order
from extproc.scheduling.policy import ConcurrencyScheduling, Policies
from extproc.scheduling.shortest import Shortest, Shortness
from extproc.scheduling.workloads import Guard, Scheduler, WorkloadParameters
from extproc.simulate.profile import PROFILES
from extproc.spec import Duration

LOADS = (0.5, 0.75, 0.9, 1.0)
RATES = (0.25, 0.5, 1.0, 10.0)
"""Requests per second of the published comparison, 50 jobs on a serial server."""
SLOTS = {"serial": 1, "batch": 16}
WARM = 1000
_FOLDS = 3


class Stream(msgspec.Struct, frozen=True):
    """Calls without times: what they really need, and what is predicted."""

    calls: tuple[Call, ...]


class Run(msgspec.Struct, frozen=True):
    mean: float
    p99: float
    throughput: float


GUARDS: Mapping[str, Guard] = {"slack": "slack", "response ratio": "responseRatio", "no guard": "none"}
ORDERS = ("fcfs", *GUARDS, "oracle, slack", "oracle, no guard")
GAIN = 0.4
"""Part of what the predictor gains without a guard that the default guard has to keep, at `GUARDED` loads."""
TAIL = 1.25
"""99th percentile, to that of first come first served."""
GUARDED = (0.75, 0.9)


def streams(pairs: Sequence[Pair], folds: int = _FOLDS) -> list[Stream]:
    """One for each fold that is played, predicted by what was learned from the others. The guard's constants were
    chosen on the prompts whose hash is even; only the others are played."""
    prompts = sorted({pair.prompt for pair in pairs if sha256(pair.prompt.encode()).digest()[0] & 1})
    Random(5).shuffle(prompts)
    found = []
    for fold in range(folds):
        held_out = set(prompts[fold::_FOLDS])
        predictor, dice = LengthPredictor(), Random(fold)
        others = [pair for pair in pairs if pair.prompt not in held_out]
        dice.shuffle(others)
        for pair in others[:WARM]:
            predictor.learn(pair.features(), pair.length, 0.0)
        played = [pair for pair in pairs if pair.prompt in held_out]
        dice.shuffle(played)
        found.append(Stream(tuple(_call(pair, predictor) for pair in played)))
    return found


def report(pairs: Sequence[Pair], *, quick: bool) -> tuple[str, list[Bar]]:
    played = streams(pairs, 1 if quick else _FOLDS)
    tables, bars = [], []
    for kind, slots in SLOTS.items():
        body = []
        for load in LOADS:
            results = {name: _runs(played, name, slots, load=load) for name in ORDERS}
            body += _lines(f"load {load:g}", results)
            if load in GUARDED:
                first, ours, free = results["fcfs"], results["slack"], results["no guard"]
                gain = (first.mean - ours.mean) / (first.mean - free.mean)
                bars.append(Bar(f"ssjf_{kind}_{load:g}_part_of_unguarded_gain", gain, GAIN, least=True))
                bars.append(Bar(f"ssjf_{kind}_{load:g}_p99_of_fcfs", ours.p99 / first.p99, TAIL))
        tables.append(f"Time to the last token, {kind}, {slots} slots:\n{rows(_HEAD, body)}")
    body = []
    for rate in RATES:
        body += _lines(f"{rate:g}/s", {name: _runs(played, name, 1, rate=rate, most=50) for name in ORDERS})
    tables.append(f"As published: 50 jobs, serial, requests per second:\n{rows(_HEAD, body)}")
    return "\n\n".join(tables), bars


_HEAD = ("", "order", "mean s", "to fcfs", "p99 s", "to fcfs", "requests/s over the full run")


def _lines(label: str, results: dict[str, Run]) -> list[tuple[object, ...]]:
    first = results["fcfs"]
    return [
        (
            label,
            name,
            run.mean,
            f"{run.mean / first.mean - 1:+.1%}",
            run.p99,
            f"{run.p99 / first.p99 - 1:+.1%}",
            run.throughput,
        )
        for name, run in results.items()
    ]


def _runs(
    played: Sequence[Stream], name: str, slots: int, *, load: float = 0.0, rate: float = 0.0, most: int | None = None
) -> Run:
    """Mean over the streams, with two draws of arrivals each."""
    found = []
    for number, stream in enumerate(played):
        calls = stream.calls[:most]
        speed = rate or load * _capacity(calls, slots)
        for draw in range(2):
            dice, now, timed = Random(10 * number + draw), 0.0, []
            for call in calls:
                now += dice.expovariate(speed)
                timed.append(msgspec.structs.replace(call, arrival=now))
            found.append(play(timed, name, slots))
    return Run(mean([run.mean for run in found]), mean([run.p99 for run in found]), mean([r.throughput for r in found]))


def play(calls: Sequence[Call], name: str, slots: int) -> Run:
    """One run in one of `ORDERS`."""
    if name.startswith("oracle"):
        calls = [msgspec.structs.replace(call, predicted=call.output_tokens) for call in calls]
    guard = GUARDS.get(name.removeprefix("oracle, "))
    order: Order | None = None if guard is None else Shortest(Shortness(guard=guard))
    fates = _gateway(slots, order).play(calls)
    times = [fate.e2e for fate in fates]
    return Run(mean(times), quantile(times, 0.99), len(fates) / max(fate.finished or 0.0 for fate in fates))


def _gateway(slots: int, order: Order | None) -> Gateway:
    scheduler = Scheduler(
        default_workload_parameters=WorkloadParameters(queue_timeout=Duration(1e9)),
        max_size=1_000_000,
        max_per_flow=1_000_000,
        ordering="fifo" if order is None else "shortest",
    )
    policy = ConcurrencyScheduling(name="slots", max_concurrency=slots, max_inflight_duration=1e9, scheduler=scheduler)
    orders = {} if order is None else {"slots": order}
    return Gateway(Policies(slots=(policy,)), PROFILES["8b-a100"], 1, orders=orders)


_known: dict[tuple[int, int], float] = {}


def _capacity(calls: Sequence[Call], slots: int) -> float:
    """Requests per second with the slots always full: of the first nine tenths, as the last ones leave slots empty."""
    key = hash(tuple(call.output_tokens for call in calls)), slots
    if key not in _known:
        fates = _gateway(slots, None).play([msgspec.structs.replace(call, arrival=0.0) for call in calls])
        ends = sorted(fate.finished or 0.0 for fate in fates)
        number = max(1, len(ends) * 9 // 10)
        _known[key] = number / ends[number - 1]
    return _known[key]


def _call(pair: Pair, predictor: LengthPredictor) -> Call:
    return Call(
        arrival=0.0,
        prompt_tokens=max(1, len(pair.prompt) // 4),
        output_tokens=pair.length,
        predicted=round(predictor.predict(pair.features()).median),
    )
