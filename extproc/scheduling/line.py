"""A policy in front of which requests wait: workloads, the queue, and what is said to those it turns away."""

from __future__ import annotations

import math
from typing import Generic, TypeVar

import msgspec

from extproc.scheduling.fair import Entry, FairQueue, FlowKey, Order, QueueFull
from extproc.scheduling.job import Job, Reserve, Unit
from extproc.scheduling.labels import Match, clip, compile_match
from extproc.scheduling.outcome import Kind, Reason, Refused, Tally
from extproc.scheduling.policy import AverageLatencyScheduling, ConcurrencyScheduling, QuotaScheduling
from extproc.scheduling.state.claims import Claim, Short, Store, never
from extproc.scheduling.status import MOST_ROWS, Explanation, FlowState, PolicyState, Says, Subject
from extproc.scheduling.workloads import Workload, matcher_conditions

Waiter = TypeVar("Waiter")
"""Whoever stands in a line."""
Scheduling = QuotaScheduling | ConcurrencyScheduling | AverageLatencyScheduling
HIGHEST = 1000.0
LOWEST = 0.001


class Standing(msgspec.Struct, frozen=True, gc=False):
    """How one request counts in one line."""

    flow: FlowKey
    priority: float
    cost: float
    timeout: float
    estimated: bool
    """Whether the cost is an estimate of tokens, which real usage corrects."""


_SHORTEST = 1e-3
"""Seconds that a service takes at least, where it is divided by."""


class Line(Generic[Waiter]):
    """What quota, slots and adaptive share. `local` lines decide by themselves; the others claim from the store."""

    kind: Kind
    local = False

    def __init__(self, policy: Scheduling, unit: Unit, reserve: Reserve, order: Order | None) -> None:
        self.policy = policy
        self.match = compile_match(policy.match)
        self.tally = Tally()
        scheduler = policy.scheduler
        self.queue: FairQueue[Waiter] = FairQueue(scheduler.max_size, scheduler.max_per_flow)
        self.blocked_until = -math.inf
        """The head was refused and cannot be granted before, unless something is given back."""
        self.ready = (-math.inf, 0.0)
        """When the head that was refused last could be granted, and its cost."""
        self.asking: Entry[Waiter] | None = None
        """The head whose claims a remote store is deciding on."""
        self._unit: Unit = unit
        self._reserve: Reserve = reserve
        self.order = order if scheduler.ordering == "shortest" else None
        self._workloads: list[tuple[Match, Workload]] = [
            (compile_match(matcher_conditions(workload.label_matcher)), workload) for workload in scheduler.workloads
        ]
        self._default = Workload(name="default", parameters=scheduler.default_workload_parameters)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.policy.name} {self.queue!r}>"

    def claim(self, job: Job) -> Claim:
        """What the job needs from the store. Not asked of a local line."""
        raise NotImplementedError

    @property
    def slots(self) -> int:
        """Most requests at one time; -1: they are not counted."""
        return -1

    def served(self, cost: float, now: float) -> None:
        """A request of this cost has come to its end."""

    def status(self, store: Store, now: float) -> PolicyState:
        rows = self.queue.flows(MOST_ROWS)
        return PolicyState(
            name=self.policy.name,
            kind=self.kind,
            dry_run=self.policy.dry_run,
            counts=self.tally.counts(),
            levels=store.levels(self.policy.name, MOST_ROWS, now),
            waiting=self.queue.waiting,
            flows=[FlowState(key[0], key[1], priority, waiting, cost) for key, priority, waiting, cost in rows],
        )

    def explain(self, store: Store, job: Job, now: float) -> Explanation:
        standing, queue = self.standing(job), self.queue
        says: Says = "pass"
        detail, seconds, position = "", None, None
        held, ready, short = self._held(store, job, standing, now)
        if short is not None and never(short):
            says, detail = "refuse", "exceeds_quota"
        elif (held or queue.waiting) and queue.waiting >= queue.max_size and queue.victim(standing.priority) is None:
            says, detail = "refuse", "queue_full"
        elif held or queue.waiting:
            says = "wait"
        if says != "pass" and detail != "exceeds_quota":
            wait = self.expected_wait(standing, now)
            seconds = max(ready, wait) if wait is not None else ready or None
            position = queue.ahead(standing.flow, standing.priority)[0] + 1
        return Explanation(
            policy=self.policy.name,
            kind=self.kind,
            says=says,
            dry_run=self.policy.dry_run,
            seconds=seconds,
            position=position,
            workload=standing.flow[0],
            priority=standing.priority,
            cost=standing.cost,
            detail=detail,
        )

    def subject(self, job: Job | None) -> Subject | None:
        matched = job is not None and self.match(job.labels)
        return Subject(slots=self.slots, claims=(self.claim(job),) if job is not None and matched else ())

    def _held(self, store: Store, job: Job, standing: Standing, now: float) -> tuple[bool, float, Short | None]:
        """Whether a newcomer would be held up, for how many seconds at least, and which claim is short."""
        short = store.peek(self.claim(job), now)
        return short is not None, short.at - now if short is not None and not math.isinf(short.at) else 0.0, short

    def rate(self, now: float) -> float:
        """Cost served in a second, as far as it is known; 0: unknown."""
        raise NotImplementedError

    def standing(self, job: Job) -> Standing:
        scheduler, labels = self.policy.scheduler, job.labels
        workload = self._default
        for match, candidate in self._workloads:
            if match(labels):
                workload = candidate
                break
        parameters = workload.parameters
        priority = parameters.priority
        if scheduler.priority_label_key:
            priority = _priority(labels.get(scheduler.priority_label_key), priority)
        fairness = clip(labels.get(scheduler.fairness_key, "")) if scheduler.fairness_key else ""
        cost = parameters.tokens if parameters.tokens is not None else job.cost(self._unit, self._reserve)
        estimated = parameters.tokens is None and self._unit == "tokens"
        return Standing((workload.name, fairness), priority, cost, parameters.queue_timeout, estimated)

    def join(self, place: Waiter, job: Job, standing: Standing, now: float) -> Entry[Waiter]:
        """The place's entry. Raises QueueFull."""
        order, flow = self.order, standing.flow
        key = order.key(job, now) if order is not None else 0.0
        entry = self.queue.push(place, flow, standing.priority, standing.cost, now + standing.timeout, key)
        if order is not None and order.by_ratio:
            entry.came, entry.seconds = now, max(key, _SHORTEST)
        return entry

    def head(self, now: float) -> Entry[Waiter] | None:
        """Who is next."""
        if self.order is not None and self.order.by_ratio:
            self.queue.age(now)
        return self.queue.head()

    def refusal(self, reason: Reason, standing: Standing, now: float) -> Refused:
        """For a request that is not, or no longer, in the queue."""
        number, _ = self.queue.ahead(standing.flow, standing.priority)
        wait = self.expected_wait(standing, now)
        endless = reason == "exceeds_quota"
        return Refused(
            policy=self.policy.name,
            kind=self.kind,
            reason=reason,
            status=self.policy.denied_status,
            retry_after=None if endless else wait,
            position=None if endless else number + 1,
            expected_wait=None if endless else wait,
        )

    def expected_wait(self, standing: Standing, now: float) -> float | None:
        """Seconds until a newcomer would be served, at the present rate."""
        rate = self.rate(now)
        if rate <= 0:
            return None
        _, before = self.queue.ahead(standing.flow, standing.priority)
        return (before + standing.cost) / rate

    def hold(self, short: Short, cost: float, until: float) -> None:
        """The head, of this cost, was refused: nobody is asked for before `until`, or before something comes back."""
        self.ready = (short.at, cost)
        self.blocked_until = min(short.at, until)

    def next_event(self) -> float:
        """When something happens here by itself; infinity while nobody waits."""
        if not self.queue.waiting:
            return math.inf
        deadline = self.queue.next_deadline()
        return deadline if self.asking is not None else min(deadline, self.blocked_until)


def _priority(text: str | None, otherwise: float) -> float:
    """A priority out of a label, rounded so that few different ones exist."""
    if text is None:
        return otherwise
    try:
        value = float(text)
    except ValueError:
        return otherwise
    if not LOWEST <= value <= HIGHEST:
        return otherwise
    return float(f"{value:.2g}")


__all__ = ["Line", "QueueFull", "Scheduling", "Standing", "Waiter"]
