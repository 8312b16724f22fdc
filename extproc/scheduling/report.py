"""What the policies are doing, for people: live state, and why one request would pass or wait. Changes nothing."""

from __future__ import annotations

from extproc.scheduling.flow import Flow, Part
from extproc.scheduling.job import Job
from extproc.scheduling.status import Explanation, PolicyState


def state(flow: Flow, now: float) -> list[PolicyState]:
    """Every policy in the order of processing."""
    return [part.status(flow.store, now) for part in flow.parts]


def explain(flow: Flow, job: Job, now: float) -> list[Explanation]:
    """Every policy in the order of processing. After a `refuse` or a `hit` the rest would not be asked."""
    return [part.explain(flow.store, job, now) if part.match(job.labels) else _unmatched(part) for part in flow.parts]


def _unmatched(part: Part) -> Explanation:
    return Explanation(policy=part.policy.name, kind=part.kind, says="not matched", dry_run=part.policy.dry_run)
