"""CPU and memory of flow control: one request through all seven policies, and 10,000 that wait."""

from __future__ import annotations

import gc
import time
import tracemalloc

from bench.flow.bars import Bar, quantile
from bench.flow.gateway import Used
from extproc.scheduling.flow import Flow
from extproc.scheduling.job import Job
from extproc.scheduling.outcome import Refused
from extproc.scheduling.policy import (
    AverageLatencyScheduling,
    Caching,
    ConcurrencyLimiting,
    ConcurrencyScheduling,
    LoadRamping,
    Policies,
    QuotaScheduling,
    RampStep,
    RateLimiting,
)
from extproc.scheduling.shortest import Shortest
from extproc.scheduling.ticket import Admitted, End, FlowPlace, Outcome
from extproc.scheduling.workloads import Scheduler, WorkloadParameters
from extproc.spec import Duration

QUEUED = 10_000
_REQUESTS = 4_000
_MOST_BYTES = 30_000_000


def seven() -> Policies:
    """One policy of each kind, with room for everybody: what is measured is the way through."""
    fair = Scheduler(fairness_key="tenant", ordering="shortest")
    return Policies(
        ramps=(LoadRamping(name="ramp", steps=(RampStep(100.0, Duration(1.0)),), sticky_label_key="tenant"),),
        rates=(
            RateLimiting(name="rate", limit_by_label_key="tenant", unit="tokens", bucket_capacity=1e9, fill_amount=1e9),
        ),
        concurrency=(ConcurrencyLimiting(name="each", limit_by_label_key="tenant", max_concurrency=10_000),),
        caches=(Caching(name="cache"),),
        adaptive=(AverageLatencyScheduling(name="adaptive", scheduler=fair),),
        quotas=(QuotaScheduling(name="quota", unit="tokens", bucket_capacity=1e9, fill_amount=1e9, scheduler=fair),),
        slots=(ConcurrencyScheduling(name="slots", max_concurrency=10_000, scheduler=fair),),
    )


def report() -> tuple[str, list[Bar]]:
    through = through_all()
    enter, refuse, admit, weight = crowd()
    lines = [
        f"All seven policies, from entering to settled: {through:.1f} us of CPU (median)",
        f"{QUEUED} waiting: {enter:.1f} us to wait, {refuse:.1f} us to be refused, {admit:.1f} us to end a request "
        f"and admit the next; {weight / QUEUED:.0f} bytes each, {weight / 1e6:.1f} MB in all",
    ]
    return "\n".join(lines), [
        Bar("seven_policies_us", through, 60),
        Bar("queued_10000_wait_us", enter, 50),
        Bar("queued_10000_refuse_us", refuse, 50),
        Bar("queued_10000_admit_us", admit, 50),
        Bar("queued_10000_bytes", weight, _MOST_BYTES),
    ]


def through_all() -> float:
    """Microseconds of one request that passes, 50 others being in flight; answers are not kept."""
    orders = {name: Shortest() for name in ("adaptive", "quota", "slots")}
    flow, times, now = Flow(seven(), 0.0, orders=orders), [], 10.0
    flow.tick(now)
    held = []
    for number in range(_REQUESTS):
        now += 0.01
        job = Job(
            id=f"request {number}",
            labels={"tenant": f"t{number % 20}", "model": "m"},
            prompt_tokens=500,
            output_tokens=300,
            cache_key=f"key {number}",
        )
        began = time.thread_time_ns()
        outcome = flow.enter(job, now)
        took = time.thread_time_ns() - began
        if not isinstance(outcome, Admitted):
            raise AssertionError(f"there is room for everybody, but {outcome}")
        held.append(outcome.ticket)
        if len(held) > 50:
            ticket, end = held.pop(0), End(usage=Used(480, 310), latency=3.0, ttft=0.2, completed=True)
            began = time.thread_time_ns()
            ticket.settle(now, end)
            times.append((took + time.thread_time_ns() - began) / 1000)
    return quantile(times, 0.5)


def crowd() -> tuple[float, float, float, float]:
    """Microseconds to wait, to be refused and to be admitted when so many wait, and bytes that those weigh."""
    scheduler = Scheduler(
        default_workload_parameters=WorkloadParameters(queue_timeout=Duration(1e6)),
        fairness_key="tenant",
        max_size=QUEUED,
        max_per_flow=QUEUED,
        ordering="shortest",
    )
    policy = ConcurrencyScheduling(name="slots", max_concurrency=1, max_inflight_duration=1e9, scheduler=scheduler)
    flow = Flow(Policies(slots=(policy,)), 0.0, orders={"slots": Shortest()})
    first = flow.enter(_job(0), 1.0)
    if not isinstance(first, Admitted):
        raise AssertionError("the first request finds a free slot")
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    places = [flow.enter(_job(number), 1.0 + number * 1e-3) for number in range(1, QUEUED - 500)]
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    weight = (after - before) / len(places) * QUEUED
    enter = [_entering(flow, number, places) for number in range(QUEUED, QUEUED + 501)]
    refused: list[Outcome] = []
    refuse = [_entering(flow, number, refused) for number in range(2 * QUEUED, 2 * QUEUED + 500)]
    if not all(isinstance(outcome, Refused) for outcome in refused):
        raise AssertionError("the queue is full")
    current, admit = first.ticket, []
    waiting = [place for place in places if isinstance(place, FlowPlace)]
    for _ in range(500):
        began = time.thread_time_ns()
        current.settle(21.0, End(usage=Used(100, 100), latency=1.0, completed=True))
        admit.append((time.thread_time_ns() - began) / 1000)
        place = next(place for place in waiting if isinstance(place.result, Admitted))
        waiting.remove(place)
        current = place.ticket
    return quantile(enter, 0.5), quantile(refuse, 0.5), quantile(admit, 0.5), weight


def _entering(flow: Flow, number: int, outcomes: list[Outcome]) -> float:
    """Microseconds of CPU until the flow has answered."""
    job = _job(number)
    began = time.thread_time_ns()
    outcome = flow.enter(job, 20.0)
    took = time.thread_time_ns() - began
    outcomes.append(outcome)
    return took / 1000


def _job(number: int) -> Job:
    return Job(id=str(number), labels={"tenant": f"t{number % 100}"}, prompt_tokens=100, output_tokens=number % 700 + 1)
