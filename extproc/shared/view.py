"""What to ask Redis for so that a flow's report can be shown."""

from __future__ import annotations

from extproc.scheduling.adaptive import AdaptiveLine
from extproc.scheduling.cache import AnswerCache
from extproc.scheduling.flow import Flow
from extproc.scheduling.job import Job
from extproc.scheduling.policy import ConcurrencyLimiting, ConcurrencyScheduling
from extproc.scheduling.ramp import Ramp
from extproc.scheduling.state.claims import Claim, Lookup


def subjects(flow: Flow, job: Job | None) -> tuple[list[tuple[str, int]], list[Claim], list[Lookup]]:
    """Tables with their limit of slots (-1: none), and the job's claims and lookups, each by itself."""
    tables: list[tuple[str, int]] = []
    claims: list[Claim] = []
    lookups: list[Lookup] = []
    for part in flow.parts:
        if isinstance(part, Ramp | AdaptiveLine):
            continue
        policy = part.policy
        slots = policy.max_concurrency if isinstance(policy, ConcurrencyLimiting | ConcurrencyScheduling) else -1
        tables.append((policy.name, slots))
        if job is None or not part.match(job.labels):
            continue
        if isinstance(part, AnswerCache):
            lookups += [part.lookup(job)] if job.cache_key else []
        else:
            claims.append(part.claim(job))
    return tables, claims, lookups
