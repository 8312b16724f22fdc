"""What the policies are doing, for people: live state, and why one request would pass or wait. Changes nothing."""

from __future__ import annotations

import math
from typing import Any, Literal

import msgspec

from extproc.scheduling.adaptive import AdaptiveLine
from extproc.scheduling.cache import AnswerCache
from extproc.scheduling.flow import Flow, Part
from extproc.scheduling.job import Job
from extproc.scheduling.limits import ConcurrencyLimit, RateLimit
from extproc.scheduling.line import Line
from extproc.scheduling.outcome import Kind
from extproc.scheduling.ramp import Ramp
from extproc.scheduling.state.claims import Level, never

MOST_ROWS = 20
"""Keys and flows shown of one policy: those with the least left, and the longest."""


class FlowState(msgspec.Struct, frozen=True):
    """One flow that waits."""

    workload: str
    fairness: str
    priority: float
    waiting: int
    cost: float


class PolicyState(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One policy's live state; fields that do not concern its kind are None or empty."""

    name: str
    kind: Kind
    dry_run: bool = False
    counts: dict[str, int] = {}
    levels: list[Level] = []
    waiting: int | None = None
    flows: list[FlowState] = []
    multiplier: float | None = None
    overloaded: bool | None = None
    signal: float | None = None
    setpoint: float | None = None
    percentage: float | None = None
    step: int | None = None
    command: str | None = None
    direction: int | None = None
    entries: int | None = None
    bytes: int | None = None
    joined: int | None = None
    """Requests that wait for an identical one's answer."""


Says = Literal["not matched", "pass", "wait", "refuse", "hit", "miss", "bypass", "join"]


class Explanation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one policy would do with a request that came now, were it alone."""

    policy: str
    kind: Kind
    says: Says
    dry_run: bool = False
    seconds: float | None = None
    """Expected wait, or until it could come back."""
    position: int | None = None
    workload: str = ""
    priority: float | None = None
    cost: float | None = None
    detail: str = ""
    """Of a `refuse`, the code that the client would get first."""


def state(flow: Flow, now: float) -> list[PolicyState]:
    """Every policy in the order of processing."""
    return [_state(part, flow, now) for part in flow.parts]


def explain(flow: Flow, job: Job, now: float) -> list[Explanation]:
    """Every policy in the order of processing. After a `refuse` or a `hit` the rest would not be asked."""
    return [_explain(part, flow, job, now) for part in flow.parts]


def _state(part: Part, flow: Flow, now: float) -> PolicyState:
    name, dry, counts = part.policy.name, part.policy.dry_run, part.tally.counts()
    if isinstance(part, Ramp):
        return PolicyState(
            name=name,
            kind="ramp",
            dry_run=dry,
            counts=counts,
            percentage=part.percentage(now),
            step=part.step(now),
            command=part.state.command,
            direction=part.state.direction,
        )
    if isinstance(part, AnswerCache):
        joined = sum(len(flight.followers) for flight in part.flights.values())
        entries, size = flow.store.cached(name)
        return PolicyState(
            name=name, kind="cache", dry_run=dry, counts=counts, entries=entries, bytes=size, joined=joined
        )
    levels = flow.store.levels(name, MOST_ROWS, now)
    if not isinstance(part, Line):
        return PolicyState(name=name, kind=part.kind, dry_run=dry, counts=counts, levels=levels)
    rows = part.queue.flows(MOST_ROWS)
    flows = [FlowState(key[0], key[1], priority, waiting, cost) for key, priority, waiting, cost in rows]
    loop = part.loop if isinstance(part, AdaptiveLine) else None
    found = loop.signal(now) if loop is not None else None
    return PolicyState(
        name=name,
        kind=part.kind,
        dry_run=dry,
        counts=counts,
        levels=levels,
        waiting=part.queue.waiting,
        flows=flows,
        multiplier=loop.multiplier if loop is not None else None,
        overloaded=loop.overloaded if loop is not None else None,
        signal=found[0] if found is not None else None,
        setpoint=found[1] if found is not None else None,
    )


def _explain(part: Part, flow: Flow, job: Job, now: float) -> Explanation:
    if isinstance(part, Ramp):
        kind: Kind = "ramp"
    else:
        kind = "cache" if isinstance(part, AnswerCache) else part.kind
    if not part.match(job.labels):
        return Explanation(policy=part.policy.name, kind=kind, says="not matched", dry_run=part.policy.dry_run)
    if isinstance(part, Ramp):
        return _explain_ramp(part, job, now)
    if isinstance(part, AnswerCache):
        return _explain_cache(part, flow, job, now)
    return _explain_line(part, flow, job, now) if isinstance(part, Line) else _explain_gate(part, flow, job, now)


def _explain_ramp(part: Ramp, job: Job, now: float) -> Explanation:
    says: Says = "pass" if part.accepts(job, now) else "refuse"
    detail = f"{part.percentage(now):.1f} % are let through"
    if says == "refuse":
        detail = f"ramped_out; {detail}"
    return Explanation(policy=part.policy.name, kind="ramp", says=says, dry_run=part.policy.dry_run, detail=detail)


def _explain_gate(part: RateLimit | ConcurrencyLimit, flow: Flow, job: Job, now: float) -> Explanation:
    claim = part.claim(job)
    short = flow.store.peek(claim, now)
    refused = part.refusal(short, now) if short is not None else None
    return Explanation(
        policy=part.policy.name,
        kind=part.kind,
        says="pass" if refused is None else "refuse",
        dry_run=part.policy.dry_run,
        seconds=refused.retry_after if refused is not None else None,
        cost=part.claim(job).amount if isinstance(part, RateLimit) else 1,
        detail=refused.reason if refused is not None else "",
    )


def _explain_cache(part: AnswerCache, flow: Flow, job: Job, now: float) -> Explanation:
    says: Says = "bypass"
    if job.cache_key:
        lookup = part.lookup(job)
        found = flow.store.look_up(lookup, now)
        says = "hit" if found is not None else "join" if lookup.key in part.flights else "miss"
    return Explanation(policy=part.policy.name, kind="cache", says=says, dry_run=part.policy.dry_run)


def _explain_line(part: Line[Any], flow: Flow, job: Job, now: float) -> Explanation:
    standing = part.standing(job)
    says: Says = "pass"
    detail = ""
    seconds: float | None = None
    position: int | None = None
    queue = part.queue
    if isinstance(part, AdaptiveLine):
        short, ready = None, part.wait(standing.cost, now)
        held = ready > 0
    else:
        short = flow.store.peek(part.claim(job), now)
        held = short is not None
        ready = short.at - now if short is not None and not math.isinf(short.at) else 0.0
    flow_full = queue.waiting >= queue.max_size
    if short is not None and never(short):
        says, detail = "refuse", "exceeds_quota"
    elif (held or queue.waiting) and flow_full and queue.victim(standing.priority) is None:
        says, detail = "refuse", "queue_full"
    elif held or queue.waiting:
        says = "wait"
    if says != "pass" and detail != "exceeds_quota":
        wait = part.expected_wait(standing, now)
        seconds = max(ready, wait) if wait is not None else ready or None
        position = queue.ahead(standing.flow, standing.priority)[0] + 1
    return Explanation(
        policy=part.policy.name,
        kind=part.kind,
        says=says,
        dry_run=part.policy.dry_run,
        seconds=seconds,
        position=position,
        workload=standing.flow[0],
        priority=standing.priority,
        cost=standing.cost,
        detail=detail,
    )
