"""Short words for the tests of flow control."""

from __future__ import annotations

from itertools import count

from extproc.payload.usage import Usage
from extproc.scheduling.flow import Flow
from extproc.scheduling.job import Job
from extproc.scheduling.outcome import Refused
from extproc.scheduling.policy import Policies, QuotaScheduling
from extproc.scheduling.ticket import Admitted, End, FlowPlace, Hit, Outcome
from extproc.scheduling.workloads import LabelMatcher, Scheduler, Workload, WorkloadParameters
from extproc.spec import Duration

_ids = count()


def job(prompt: int = 0, output: int = 0, *, key: str = "", max_tokens: int | None = None, **labels: str) -> Job:
    """A request with an id of its own."""
    return Job(
        id=f"r{next(_ids)}",
        labels=labels,
        prompt_tokens=prompt,
        output_tokens=output,
        max_tokens=max_tokens,
        cache_key=key,
    )


def tiers(*, timeout: float = 100.0, fairness: str = "", size: int = 20_000, per_flow: int = 20_000) -> Scheduler:
    """Workloads gold (3), silver (2) and bronze (1) by the label `tier`."""
    return Scheduler(
        workloads=[
            Workload(
                name=name,
                label_matcher=LabelMatcher(match_labels={"tier": name}),
                parameters=WorkloadParameters(priority=weight, queue_timeout=Duration(timeout)),
            )
            for name, weight in (("gold", 3.0), ("silver", 2.0), ("bronze", 1.0))
        ],
        default_workload_parameters=WorkloadParameters(queue_timeout=Duration(timeout)),
        fairness_key=fairness,
        max_size=size,
        max_per_flow=per_flow,
    )


def quota(capacity: float, rate: float, **more: object) -> Policies:
    """One quota policy in requests."""
    fields: dict[str, object] = {"scheduler": tiers(), **more}
    policy = QuotaScheduling(name="quota", bucket_capacity=capacity, fill_amount=rate, **fields)  # type: ignore[arg-type]
    return Policies(quotas=(policy,))


def admitted(outcome: Outcome) -> Admitted:
    assert isinstance(outcome, Admitted), outcome
    return outcome


def refused(outcome: Outcome | None) -> Refused:
    assert isinstance(outcome, Refused), outcome
    return outcome


def waiting(outcome: Outcome) -> FlowPlace:
    assert isinstance(outcome, FlowPlace), outcome
    return outcome


def hit(outcome: Outcome | None) -> Hit:
    assert isinstance(outcome, Hit), outcome
    return outcome


def used(prompt: int, completion: int) -> End:
    """An answer of that many tokens."""
    return End(usage=Usage(prompt, completion))


def run_to(flow: Flow, until: float) -> None:
    """Ticks at every event up to `until`."""
    last = -1.0
    while (at := flow.next_event()) <= until:
        at = max(at, last)
        flow.tick(at)
        last = at + 1e-9
    flow.tick(until)
