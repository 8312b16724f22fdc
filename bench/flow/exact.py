"""What must be exact: shares of saturated priorities, quotas, and that nothing is lost whatever way requests end."""

from __future__ import annotations

from random import Random

from bench.flow.bars import Bar, rows
from bench.flow.gateway import Used
from extproc.scheduling.fair import FairQueue
from extproc.scheduling.flow import Flow
from extproc.scheduling.job import Job
from extproc.scheduling.policy import (
    ConcurrencyLimiting,
    ConcurrencyScheduling,
    Policies,
    QuotaScheduling,
    RateLimiting,
)
from extproc.scheduling.ticket import Admitted, End, FlowPlace, Hit, Ticket
from extproc.scheduling.workloads import Scheduler


def report(endings: int) -> tuple[str, list[Bar]]:
    share, table = shares(6_000)
    excess, admitted = quota_excess()
    lost, kinds = conservation(endings)
    counted = ", ".join(f"{number} {kind}" for kind, number in sorted(kinds.items()))
    lines = [
        "Saturated priorities 1:2:3, random costs:",
        table,
        f"Token quota under saturation: {admitted} requests, {excess:.3g} tokens beyond it at any moment",
        f"{endings} requests ended at random ({counted}): {lost:.3g} tokens and slots lost",
    ]
    return "\n".join(lines), [
        Bar("shares_1_2_3_off", share, 0.02),
        Bar("token_quota_exceeded_by", excess, 0),
        Bar("tokens_and_slots_lost", lost, 0),
    ]


def shares(number: int) -> tuple[float, str]:
    """The largest relative distance of a priority's share of the tokens from its due, and the table."""
    dice, served = Random(1), {1: 0.0, 2: 0.0, 3: 0.0}
    queue: FairQueue[int] = FairQueue(1000, 1000)
    costs: dict[int, list[float]] = {priority: [] for priority in served}

    def come(priority: int) -> None:
        queue.push(priority, (f"priority {priority}", ""), priority, dice.expovariate(1 / 500) + 20, float("inf"))

    for priority in (1, 2, 3):
        for _ in range(20):
            come(priority)
    for _ in range(number):
        entry = queue.head()
        assert entry is not None
        queue.admit(entry)
        served[entry.item] += entry.cost
        costs[entry.item].append(entry.cost)
        come(entry.item)
    total = sum(served.values())
    off = {priority: abs(tokens / total / (priority / 6) - 1) for priority, tokens in served.items()}
    body = [(f"priority {p}", len(costs[p]), served[p] / total, p / 6, off[p]) for p in served]
    return max(off.values()), rows(("", "requests", "share", "due", "off"), body)


def quota_excess() -> tuple[float, int]:
    """Most tokens that were ever spent above capacity + rate * time, with estimates that are upper bounds; requests."""
    capacity, rate = 10_000.0, 1_000.0
    policy = QuotaScheduling(
        name="quota",
        unit="tokens",
        reserve="max_tokens",
        bucket_capacity=capacity,
        fill_amount=rate,
        scheduler=Scheduler(max_size=10_000, max_per_flow=10_000),
    )
    dice, flow, now = Random(2), Flow(Policies(quotas=(policy,)), 0.0), 0.0
    spent, worst, admitted = 0.0, 0.0, 0
    open_tickets: list[tuple[Ticket, int]] = []
    waiting: list[tuple[FlowPlace, int]] = []
    for number in range(5_000):
        now += dice.expovariate(4.0)
        flow.tick(now)
        prompt, limit = dice.randrange(1, 300), dice.randrange(1, 800)
        real = prompt + dice.randrange(1, limit + 1)
        outcome = flow.enter(Job(id=str(number), prompt_tokens=prompt, max_tokens=limit, output_tokens=limit), now)
        if isinstance(outcome, Admitted):
            open_tickets.append((outcome.ticket, real))
        elif isinstance(outcome, FlowPlace):
            waiting.append((outcome, real))
        for place, tokens in waiting:
            if isinstance(place.result, Admitted):
                open_tickets.append((place.result.ticket, tokens))
        waiting = [found for found in waiting if found[0].outcome == "waiting"]
        while open_tickets and dice.random() < 0.6:
            ticket, tokens = open_tickets.pop(dice.randrange(len(open_tickets)))
            ticket.settle(now, End(usage=Used(0, tokens)))
            spent += tokens
            admitted += 1
            worst = max(worst, spent - capacity - rate * now)
    return max(0.0, worst), admitted


def conservation(number: int) -> tuple[float, dict[str, int]]:
    """Tokens and slots that are missing once every request has ended, and how requests ended."""
    flow, dice, kinds = Flow(_crowded(), 0.0), Random(3), {"answered": 0, "left": 0, "refused": 0, "unsent": 0}
    now, spent = 0.0, 0.0
    held: list[Ticket] = []
    places: list[FlowPlace] = []

    def end(ticket: Ticket) -> float:
        if dice.random() < 0.2:
            ticket.undo(now)
            kinds["unsent"] += 1
            return 0.0
        tokens = dice.randrange(0, 900)
        ticket.settle(now, End(usage=Used(0, tokens) if tokens else None, failed=dice.random() < 0.1))
        if dice.random() < 0.3:
            ticket.settle(now, End(usage=Used(0, 500)))
        kinds["answered"] += 1
        return float(tokens)

    def sort() -> None:
        nonlocal places
        held.extend(place.result.ticket for place in places if isinstance(place.result, Admitted | Hit))
        kinds["refused"] += sum(place.outcome in ("expired", "evicted", "impossible") for place in places)
        places = [place for place in places if place.outcome == "waiting"]

    for count in range(number):
        now += dice.expovariate(1.0)
        flow.tick(now)
        job = Job(
            id=str(count), labels={"tenant": f"t{count % 7}"}, prompt_tokens=dice.randrange(300), output_tokens=200
        )
        outcome = flow.enter(job, now)
        if isinstance(outcome, Admitted | Hit):
            held.append(outcome.ticket)
        elif isinstance(outcome, FlowPlace):
            places.append(outcome)
        else:
            kinds["refused"] += 1
        sort()
        if places and dice.random() < 0.2:
            places.pop(dice.randrange(len(places))).leave(now)
            kinds["left"] += 1
            sort()
        while held and dice.random() < 0.47:
            spent += end(held.pop(dice.randrange(len(held))))
            sort()
    while held or places:
        now += 1.0
        flow.tick(now)
        sort()
        while held:
            spent += end(held.pop())
            sort()
    return _missing(flow, now, spent), kinds


_BUCKET = 1e9
"""So large that nothing is refused or filled up: what is left is then exactly what was not spent."""


def _crowded() -> Policies:
    return Policies(
        rates=(RateLimiting(name="rate", unit="tokens", bucket_capacity=_BUCKET, fill_amount=0.0),),
        concurrency=(ConcurrencyLimiting(name="each", limit_by_label_key="tenant", max_concurrency=6),),
        quotas=(QuotaScheduling(name="quota", unit="tokens", bucket_capacity=_BUCKET, fill_amount=0.0),),
        slots=(
            ConcurrencyScheduling(
                name="slots",
                max_concurrency=12,
                max_inflight_duration=1e9,
                scheduler=Scheduler(max_size=30, fairness_key="tenant"),
            ),
        ),
    )


def _missing(flow: Flow, now: float, spent: float) -> float:
    """By the books of the store: each bucket holds its capacity less what was spent, and every slot is free."""
    buckets = [level.left for table in ("rate", "quota") for level in flow.store.levels(table, 10, now)]
    slots = [level.limit - level.left for table in ("each", "slots") for level in flow.store.levels(table, 100, now)]
    return sum(abs(_BUCKET - left - spent) for left in buckets) + sum(slots)
