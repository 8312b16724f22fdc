"""A store elsewhere: answers come later and in any order, and nothing gets lost on the way."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

from extproc.payload.usage import Usage
from extproc.scheduling.flow import Flow
from extproc.scheduling.outcome import Refused
from extproc.scheduling.policy import (
    AverageLatencyScheduling,
    Caching,
    ConcurrencyLimiting,
    ConcurrencyScheduling,
    Policies,
    QuotaScheduling,
)
from extproc.scheduling.state.memory import MemoryStore
from extproc.scheduling.ticket import Admitted, Attempt, End, FlowPlace, Hit, Prepared, Ticket
from tests.scheduling.build import job, tiers

ANSWER = b'{"choices":[{"finish_reason":"stop","message":{"content":"hi"}}]}'
HUGE = 1 << 40


class Far:
    """A driver with a slow store: questions are answered one at a time, at random."""

    def __init__(self, flow: Flow, rng: random.Random) -> None:
        self.flow, self.rng, self.now = flow, rng, 0.0
        self.pending: list[Callable[[], None]] = []
        self.sent: list[Ticket] = []
        self.places: list[FlowPlace] = []
        self.asked: list[Ticket] = []
        self.kinds: Counter[str] = Counter()
        self.spent = 0

    def enter(self) -> None:
        rng = self.rng
        key = str(rng.randint(0, 20)) if rng.random() < 0.5 else ""
        new = job(rng.randint(1, 500), key=key, tier=rng.choice(["gold", "bronze"]), tenant="t")
        prepared = self.flow.prepare(new, self.now)
        assert isinstance(prepared, Prepared)
        self.asked.append(prepared.ticket)
        self.pending.append(lambda: self.finish(prepared))

    def finish(self, prepared: Prepared) -> None:
        self.asked.remove(prepared.ticket)
        outcome = self.flow.finish(prepared, self.flow.store.ask(prepared.ask, self.now), self.now)
        self.kinds[outcome.reason if isinstance(outcome, Refused) else type(outcome).__name__] += 1
        if isinstance(outcome, Admitted | Hit):
            self.sent.append(outcome.ticket)
        elif isinstance(outcome, FlowPlace):
            self.places.append(outcome)

    def answer(self, attempt: Attempt) -> None:
        self.flow.answered(attempt, self.flow.store.ask(attempt.ask, self.now), self.now)

    def step(self) -> None:
        rng = self.rng
        self.now += rng.expovariate(20)
        self.enter()
        self.flow.tick(self.now)
        self.pending += [lambda attempt=attempt: self.answer(attempt) for attempt in self.flow.attempts(self.now)]  # type: ignore[misc]
        while self.pending and rng.random() < 0.6:
            self.pending.pop(rng.randrange(len(self.pending)))()
        if self.places and rng.random() < 0.1:
            self.places.pop(rng.randrange(len(self.places))).leave(self.now)
        if self.asked and rng.random() < 0.1:
            rng.choice(self.asked).undo(self.now)
        while self.sent and rng.random() < 0.45:
            self.end(self.sent.pop(rng.randrange(len(self.sent))))
        self.collect()

    def end(self, ticket: Ticket) -> None:
        if self.rng.random() < 0.2:
            ticket.undo(self.now)
            return
        real = self.rng.randint(0, 900)
        self.spent += 0 if ticket.cache_status == "hit" else real
        completed = self.rng.random() < 0.7
        ticket.settle(self.now, End(usage=Usage(real), completed=completed, answer=ANSWER, latency=1.0))

    def collect(self) -> None:
        for place in [place for place in self.places if place.outcome != "waiting"]:
            self.kinds[place.outcome] += 1
            self.places.remove(place)
            if isinstance(place.result, Admitted | Hit):
                self.sent.append(place.ticket)

    def finish_all(self) -> None:
        while self.pending or self.places or self.sent:
            while self.pending:
                self.pending.pop()()
            if self.places:
                self.places.pop().leave(self.now)
            while self.sent:
                self.end(self.sent.pop())
            self.collect()


def test_everything_is_conserved_whatever_the_order_of_answers() -> None:
    scheduler = tiers(timeout=3, size=30, per_flow=30)
    policies = Policies(
        concurrency=(ConcurrencyLimiting(name="c", max_concurrency=35, max_inflight_duration=1e9),),
        caches=(Caching(name="k", max_entries=10, ttl=3, join_timeout=2),),
        adaptive=(AverageLatencyScheduling(name="a", scheduler=scheduler),),
        quotas=(QuotaScheduling(name="q", unit="tokens", bucket_capacity=HUGE, fill_amount=0, scheduler=scheduler),),
        slots=(ConcurrencyScheduling(name="s", max_concurrency=10, max_inflight_duration=1e9, scheduler=scheduler),),
    )
    flow = Flow(policies, 0, store=MemoryStore(), remote=True)
    far = Far(flow, random.Random(11))
    for _ in range(20_000):
        far.step()
    far.finish_all()
    wanted = ("Admitted", "Hit", "FlowPlace", "admitted", "answered", "expired", "left", "too_many_in_flight")
    assert min(far.kinds[kind] for kind in wanted) > 20, far.kinds
    assert flow.idle
    levels = {name: flow.store.levels(name, 1, far.now)[0].left for name in ("c", "s", "q")}
    assert levels == {"c": 35, "s": 10, "q": HUGE - far.spent}
