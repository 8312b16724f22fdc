"""What to ask Redis for so that a flow's report can be shown."""

from __future__ import annotations

from extproc.scheduling.flow import Flow
from extproc.scheduling.job import Job
from extproc.scheduling.state.claims import Claim, Lookup


def subjects(flow: Flow, job: Job | None) -> tuple[list[tuple[str, int]], list[Claim], list[Lookup]]:
    """Tables with their limit of slots (-1: none), and the job's claims and lookups, each by itself."""
    tables: list[tuple[str, int]] = []
    claims: list[Claim] = []
    lookups: list[Lookup] = []
    for part in flow.parts:
        subject = part.subject(job)
        if subject is not None:
            tables.append((part.policy.name, subject.slots))
            claims += subject.claims
            lookups += subject.lookups
    return tables, claims, lookups
