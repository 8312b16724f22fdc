"""All policies together: exact transcripts with a given clock, and conservation over random lives."""

from __future__ import annotations

import random
from collections import Counter
from functools import partial

import pytest

from extproc.payload.usage import Usage
from extproc.scheduling.flow import Flow
from extproc.scheduling.job import Job
from extproc.scheduling.labels import Condition
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
from extproc.scheduling.state.claims import Grant
from extproc.scheduling.ticket import Admitted, End, FlowPlace, Hit, Outcome, PlaceOutcome, Ticket
from extproc.scheduling.workloads import Scheduler
from extproc.spec import Duration
from tests.scheduling.build import admitted, hit, job, quota, refused, run_to, tiers, used, waiting

ANSWER = b'{"choices":[{"finish_reason":"stop","message":{"content":"hi"}}]}'


def left(flow: Flow, policy: str, now: float) -> float:
    return flow.store.levels(policy, 1, now)[0].left


def test_without_policies_everything_passes() -> None:
    flow = Flow(Policies(), 0)
    ticket = admitted(flow.enter(job(), 0)).ticket
    ticket.settle(1, used(1, 1))
    assert flow.next_event() == float("inf")
    assert flow.idle


def test_a_rate_limit_per_user_says_when_to_come_back() -> None:
    policy = RateLimiting(name="r", limit_by_label_key="user", bucket_capacity=2, fill_amount=1, interval=10)
    flow = Flow(Policies(rates=(policy,)), 0)
    assert [isinstance(flow.enter(job(user="a"), 0), Admitted) for _ in range(3)] == [True, True, False]
    no = refused(flow.enter(job(user="a"), 4))
    assert (no.status, no.reason) == (429, "rate_limited")
    assert no.retry_after == pytest.approx(6)
    admitted(flow.enter(job(user="b"), 4))
    admitted(flow.enter(job(user="a"), 10))


def test_tokens_are_reserved_before_and_settled_after() -> None:
    policy = RateLimiting(name="r", unit="tokens", bucket_capacity=1000, fill_amount=0)
    flow = Flow(Policies(rates=(policy,)), 0)
    first = admitted(flow.enter(job(100, 500, max_tokens=300), 0)).ticket
    assert left(flow, "r", 0) == 600
    first.settle(1, used(120, 30))
    assert left(flow, "r", 1) == 850
    second = admitted(flow.enter(job(100, 100), 1)).ticket
    second.settle(2, used(100, 2000))
    assert left(flow, "r", 2) == 850 - 2100
    refused(flow.enter(job(1), 2))


def test_reserving_the_maximum_never_goes_into_debt() -> None:
    policy = RateLimiting(name="r", unit="tokens", reserve="max_tokens", bucket_capacity=1000, fill_amount=0)
    flow = Flow(Policies(rates=(policy,)), 0)
    tickets = [out.ticket for _ in range(5) if isinstance(out := flow.enter(job(50, 10, max_tokens=200), 0), Admitted)]
    assert len(tickets) == 4
    for ticket in tickets:
        ticket.settle(1, used(50, 200))
    assert left(flow, "r", 1) == 0


def test_settling_twice_or_undoing_after_changes_nothing() -> None:
    policy = RateLimiting(name="r", unit="tokens", bucket_capacity=100, fill_amount=0)
    flow = Flow(Policies(rates=(policy,)), 0)
    ticket = admitted(flow.enter(job(50), 0)).ticket
    for _ in range(3):
        ticket.settle(1, used(10, 10))
    ticket.undo(2)
    assert left(flow, "r", 2) == 80


def test_what_a_bucket_never_holds_is_refused_without_a_time() -> None:
    no = refused(Flow(quota(10, 1, unit="tokens"), 0).enter(job(11), 0))
    assert (no.reason, no.status, no.retry_after) == ("exceeds_quota", 429, None)


def test_a_concurrency_limit_per_user_and_its_healing() -> None:
    policy = ConcurrencyLimiting(name="c", limit_by_label_key="user", max_concurrency=1, max_inflight_duration=60)
    flow = Flow(Policies(concurrency=(policy,)), 0)
    first = admitted(flow.enter(job(user="a"), 0)).ticket
    no = refused(flow.enter(job(user="a"), 0))
    assert (no.status, no.reason) == (429, "too_many_in_flight")
    admitted(flow.enter(job(user="b"), 0))
    first.settle(5)
    admitted(flow.enter(job(user="a"), 5))  # never released
    refused(flow.enter(job(user="a"), 64))
    admitted(flow.enter(job(user="a"), 65))


def test_a_refusal_gives_back_what_earlier_stages_took() -> None:
    policies = Policies(
        rates=(RateLimiting(name="r", unit="tokens", bucket_capacity=100, fill_amount=0),),
        concurrency=(ConcurrencyLimiting(name="c", max_concurrency=1),),
        quotas=(QuotaScheduling(name="q", bucket_capacity=1, fill_amount=0, scheduler=Scheduler(max_size=0)),),
    )
    flow = Flow(policies, 0)
    first = admitted(flow.enter(job(40), 0)).ticket
    assert refused(flow.enter(job(40), 0)).policy == "c"
    assert left(flow, "r", 0) == 60
    first.settle(1, used(40, 0))
    assert refused(flow.enter(job(40), 1)).policy == "q"
    assert (left(flow, "r", 1), left(flow, "c", 1)) == (60, 1)


def test_a_hundred_at_once_on_a_quota_of_ten() -> None:
    flow = Flow(quota(10, 1), 0)
    outcomes = [flow.enter(job(), 0) for _ in range(100)]
    assert sum(isinstance(out, Admitted) for out in outcomes) == 10
    places = [out for out in outcomes if isinstance(out, FlowPlace)]
    run_to(flow, 30.0)
    assert [place.outcome for place in places] == ["admitted"] * 30 + ["waiting"] * 60


def test_those_who_wait_are_admitted_in_order_and_woken_once() -> None:
    flow = Flow(quota(1, 1), 0)
    admitted(flow.enter(job(), 0))
    woken: list[str] = []
    places = []
    for name in "abc":
        place = waiting(flow.enter(job(), 0))
        place.wake = partial(woken.append, name)
        places.append(place)
    assert flow.next_event() == 1
    flow.tick(1)
    assert woken == ["a"]
    places[1].leave(0.0)
    flow.tick(2)
    assert woken == ["a", "c"]
    assert [place.outcome for place in places] == ["admitted", "left", "admitted"]


def test_a_deadline_refuses_with_position_and_expected_wait() -> None:
    flow = Flow(quota(1, 0.1, scheduler=tiers(timeout=5)), 0)
    admitted(flow.enter(job(), 0))
    first, second = (waiting(flow.enter(job(tier="gold"), 0)) for _ in range(2))
    assert first.deadline == 5
    run_to(flow, 5)
    assert (first.outcome, second.outcome) == ("expired", "expired")
    no = refused(first.result)
    assert (no.reason, no.status, no.position) == ("queue_timeout", 429, 1)
    assert no.expected_wait == pytest.approx(5)  # whoever came now would be first, and half of its token is there
    assert flow.next_event() == float("inf")


def test_a_full_queue_says_so() -> None:
    flow = Flow(quota(1, 0.1, scheduler=tiers(size=2)), 0)
    outcomes = [flow.enter(job(tier="gold"), 0) for _ in range(4)]
    no = refused(outcomes[3])
    assert (no.reason, no.position) == ("queue_full", 3)
    assert no.expected_wait == pytest.approx(30)


def test_a_full_queue_makes_room_for_a_higher_priority() -> None:
    flow = Flow(quota(1, 0.1, scheduler=tiers(size=2)), 0)
    admitted(flow.enter(job(), 0))
    low = [waiting(flow.enter(job(tier="bronze"), 0)) for _ in range(2)]
    high = waiting(flow.enter(job(tier="gold"), 0))
    assert [place.outcome for place in low] == ["waiting", "evicted"]
    assert refused(low[1].result).reason == "evicted"
    flow.tick(10)
    assert high.outcome == "admitted"


def test_saturated_priorities_share_a_quota_as_their_weights() -> None:
    flow = Flow(quota(400, 10, unit="tokens"), 0)
    rng, tokens, now = random.Random(3), Counter[str](), 0.0
    live: list[tuple[str, FlowPlace, int]] = []

    def fill() -> None:
        counts = Counter(name for name, _, _ in live)
        for name in ("gold", "silver", "bronze"):
            for _ in range(20 - counts[name]):
                size = rng.randint(1, 40)
                outcome = flow.enter(job(size, tier=name), now)
                if isinstance(outcome, FlowPlace):
                    live.append((name, outcome, size))

    fill()
    for _ in range(20_000):
        now = max(now, flow.next_event())
        flow.tick(now)
        for name, place, size in live:
            if place.outcome == "admitted":
                tokens[name] += size
        live = [item for item in live if item[1].outcome == "waiting"]
        fill()
        if sum(tokens.values()) > 120_000:
            break
    total = sum(tokens.values())
    assert tokens["gold"] / total == pytest.approx(3 / 6, rel=0.02)
    assert tokens["silver"] / total == pytest.approx(2 / 6, rel=0.02)
    assert tokens["bronze"] / total == pytest.approx(1 / 6, rel=0.02)


def test_slots_are_handed_on_by_priority() -> None:
    policy = ConcurrencyScheduling(name="s", max_concurrency=1, unit="requests", scheduler=tiers())
    flow = Flow(Policies(slots=(policy,)), 0)
    running = admitted(flow.enter(job(), 0)).ticket
    places = {name: waiting(flow.enter(job(tier=name), 0)) for name in ("bronze", "silver", "gold")}
    order = []
    for now in (1, 2, 3):
        running.settle(now)
        (name,) = [name for name, place in places.items() if place.outcome == "admitted"]
        running = places.pop(name).ticket
        order.append(name)
    assert order == ["gold", "silver", "bronze"]


def test_a_lost_slot_heals_for_those_who_wait() -> None:
    policy = ConcurrencyScheduling(name="s", max_concurrency=1, max_inflight_duration=30, scheduler=tiers())
    flow = Flow(Policies(slots=(policy,)), 0)
    admitted(flow.enter(job(), 0))
    place = waiting(flow.enter(job(), 1))
    seen: list[PlaceOutcome] = []
    for now in (29.5, 30):
        run_to(flow, now)
        seen.append(place.outcome)
    assert seen == ["waiting", "admitted"]


def test_a_request_waits_in_one_line_after_the_other() -> None:
    policies = Policies(
        quotas=(QuotaScheduling(name="q", bucket_capacity=1, fill_amount=1, scheduler=tiers()),),
        slots=(ConcurrencyScheduling(name="s", max_concurrency=1, scheduler=tiers()),),
    )
    flow = Flow(policies, 0)
    first = admitted(flow.enter(job(), 0)).ticket
    place = waiting(flow.enter(job(), 0))
    flow.tick(1)
    assert place.outcome == "waiting"
    assert [line.queue.waiting for line in flow.lines] == [0, 1]
    place.leave(0.0)
    assert left(flow, "q", 1) == 1
    first.settle(2)
    assert left(flow, "s", 2) == 1


def test_ten_thousand_opened_then_left() -> None:
    flow = Flow(quota(1, 0), 0)
    admitted(flow.enter(job(), 0))
    places = [waiting(flow.enter(job(tenant=str(i % 50)), 0)) for i in range(10_000)]
    for place in places:
        place.leave(0.0)
        place.leave(0.0)
    assert flow.idle
    assert flow.lines[0].tally.left == 10_000
    assert flow.next_event() == float("inf")


def test_the_queue_of_one_tenant_does_not_hold_up_another() -> None:
    flow = Flow(quota(1, 1, scheduler=tiers(fairness="tenant")), 0)
    admitted(flow.enter(job(), 0))
    for _ in range(500):
        waiting(flow.enter(job(tenant="heavy"), 0))
    light = waiting(flow.enter(job(tenant="light"), 0))
    run_to(flow, 3)
    assert light.outcome == "admitted"


def test_who_comes_after_a_queue_has_emptied_is_asked_for_afresh() -> None:
    flow = Flow(quota(10, 0.1, unit="tokens", scheduler=tiers(timeout=0.2)), 0)
    admitted(flow.enter(job(5), 0))
    big = waiting(flow.enter(job(10), 0))
    run_to(flow, 0.2)
    assert big.outcome == "expired"
    admitted(flow.enter(job(3), 0.3))


def test_dry_run_counts_and_lets_pass() -> None:
    policies = Policies(
        ramps=(LoadRamping(name="ramp", steps=(RampStep(0, Duration(0)),), dry_run=True),),
        rates=(RateLimiting(name="r", bucket_capacity=1, fill_amount=0, dry_run=True),),
        concurrency=(ConcurrencyLimiting(name="c", max_concurrency=1, dry_run=True),),
        quotas=(QuotaScheduling(name="q", bucket_capacity=1, fill_amount=0, dry_run=True),),
        slots=(ConcurrencyScheduling(name="s", max_concurrency=1, dry_run=True),),
    )
    flow = Flow(policies, 0)
    tickets = [admitted(flow.enter(job(), 0)).ticket for _ in range(3)]
    counts = {part.policy.name: part.tally for part in flow.parts}
    assert (counts["ramp"].would_refuse, counts["r"].would_refuse, counts["c"].would_refuse) == (3, 2, 2)
    assert (counts["q"].would_wait, counts["s"].would_wait) == (2, 2)
    for ticket in tickets:
        ticket.settle(1)
    assert (left(flow, "c", 1), left(flow, "s", 1)) == (1, 1)


def test_policies_are_only_for_the_requests_that_they_match() -> None:
    match = (Condition("route", "equals", ("x",)),)
    flow = Flow(Policies(rates=(RateLimiting(name="r", match=match, bucket_capacity=0, fill_amount=0),)), 0)
    refused(flow.enter(job(route="x"), 0))
    admitted(flow.enter(job(route="y"), 0))


def test_a_new_configuration_keeps_what_has_not_changed() -> None:
    old = Flow(quota(1, 1), 0)
    admitted(old.enter(job(), 0))
    place = waiting(old.enter(job(), 0))
    more = Policies(quotas=quota(1, 1).quotas, rates=(RateLimiting(name="r", bucket_capacity=9, fill_amount=1),))
    new = Flow(more, 0.5, before=old)
    later = waiting(new.enter(job(), 0.5))
    new.tick(1)
    assert (place.outcome, later.outcome) == ("admitted", "waiting")
    new.tick(2)
    assert later.outcome == "admitted"


def test_a_changed_policy_keeps_its_bucket_and_lets_the_old_queue_run_out() -> None:
    old = Flow(quota(1, 1), 0)
    admitted(old.enter(job(), 0))
    place = waiting(old.enter(job(), 0))
    new = Flow(quota(2, 1), 0, before=old)
    waiting(new.enter(job(), 0))
    assert not old.idle
    old.tick(1)
    assert place.outcome == "admitted"
    assert old.idle


class Remote:
    """The driver of a store elsewhere: asks, and the answers come when `deliver` is called."""

    def __init__(self, flow: Flow) -> None:
        self.flow = flow
        self.asked = 0

    def pump(self, now: float) -> None:
        while attempts := self.flow.attempts(now):
            for attempt in attempts:
                self.asked += 1
                self.flow.answered(attempt, self.flow.store.ask(attempt.ask, now), now)


def test_a_remote_store_is_asked_once_for_a_request_that_passes() -> None:
    flow = Flow(quota(1, 1), 0, remote=True)
    remote = Remote(flow)
    prepared = flow.prepare(job(), 0)
    assert not isinstance(prepared, Refused)
    admitted(flow.finish(prepared, flow.store.ask(prepared.ask, 0), 0))
    prepared = flow.prepare(job(), 0)
    assert not isinstance(prepared, Refused)
    place = waiting(flow.finish(prepared, flow.store.ask(prepared.ask, 0), 0))
    flow.tick(0.5)
    remote.pump(0.5)
    assert remote.asked == 0
    flow.tick(1)
    remote.pump(1)
    assert (remote.asked, place.outcome) == (1, "admitted")


def test_who_leaves_while_the_remote_store_decides_gives_back() -> None:
    flow = Flow(quota(1, 1), 0, remote=True)
    prepared = flow.prepare(job(), 0)
    assert not isinstance(prepared, Refused)
    prepared.ticket.undo(0)
    assert refused(flow.finish(prepared, flow.store.ask(prepared.ask, 0), 0)).reason == "left"
    assert left(flow, "quota", 0) == 1
    place = waiting(flow.finish(_asked(flow), Grant(), 0))
    (attempt,) = flow.attempts(0)
    place.leave(0.0)
    flow.answered(attempt, flow.store.ask(attempt.ask, 0), 0)
    assert (left(flow, "quota", 0), place.outcome, flow.idle) == (1, "left", True)


def _asked(flow: Flow):  # type: ignore[no-untyped-def]
    return flow.prepare(job(), 0)


class Life:
    """Requests at random, and what they really used."""

    def __init__(self, flow: Flow, seed: int) -> None:
        self.flow = flow
        self.rng = random.Random(seed)
        self.now = 0.0
        self.spent: Counter[str] = Counter()
        self.kinds: Counter[str] = Counter()
        self.sent: list[Ticket] = []
        self.places: list[FlowPlace] = []

    def step(self) -> None:
        rng = self.rng
        self.now += rng.expovariate(20)
        key = str(rng.randint(0, 30)) if rng.random() < 0.3 else ""
        tenant, tier = str(rng.randint(0, 5)), rng.choice(["gold", "bronze"])
        new = job(rng.randint(1, 800), rng.randint(0, 800), key=key, tenant=tenant, tier=tier)
        outcome = self.flow.enter(new, self.now)
        self.kinds[type(outcome).__name__] += 1
        if isinstance(outcome, Admitted | Hit):
            self.sent.append(outcome.ticket)
        elif isinstance(outcome, FlowPlace):
            self.places.append(outcome)
        if self.places and rng.random() < 0.1:
            self.places.pop(rng.randrange(len(self.places))).leave(self.now)
        if rng.random() < 0.3:
            self.flow.tick(self.now)
        while self.sent and rng.random() < 0.42:
            self.end(self.sent.pop(rng.randrange(len(self.sent))))
        self.collect()

    def collect(self) -> None:
        for place in [place for place in self.places if place.outcome != "waiting"]:
            self.kinds[place.outcome] += 1
            self.places.remove(place)
            if isinstance(place.result, Admitted | Hit):
                self.sent.append(place.ticket)

    def end(self, ticket: Ticket) -> None:
        kind = self.rng.choice(["done", "done", "error", "crash", "undo"])
        self.kinds[kind] += 1
        real = self.rng.randint(0, 3000)
        if kind == "done":
            if ticket.cache_status != "hit":
                self.spent[ticket.job.labels["tenant"]] += real
            completed, answer = self.rng.random() < 0.8, self.rng.choice([ANSWER, None])
            ticket.settle(self.now, End(usage=Usage(real), completed=completed, answer=answer))
        elif kind == "error":
            ticket.settle(self.now, End(failed=True))
        elif kind == "crash":
            ticket.settle(self.now)
        else:
            ticket.undo(self.now)

    def finish(self) -> None:
        while self.places or self.sent:
            if self.places:
                self.places.pop().leave(self.now)
            if self.sent:
                self.end(self.sent.pop())
            self.collect()


def test_every_token_and_slot_is_conserved_over_a_hundred_thousand_random_endings() -> None:
    """Requests enter, wait, are admitted, expire, are evicted, leave, settle, crash or are undone at random; at the end
    every slot is free and each bucket holds its capacity less what was really used."""
    scheduler, huge = tiers(timeout=3, fairness="tenant", size=40, per_flow=30), 1 << 40
    bucket = {"unit": "tokens", "bucket_capacity": huge, "fill_amount": 0.0}
    policies = Policies(
        rates=(RateLimiting(name="r", limit_by_label_key="tenant", **bucket),),  # type: ignore[arg-type]
        concurrency=(ConcurrencyLimiting(name="c", max_concurrency=80, max_inflight_duration=1e9),),
        caches=(Caching(name="k", max_entries=20, ttl=5, join_timeout=2),),
        adaptive=(AverageLatencyScheduling(name="a", scheduler=scheduler),),
        quotas=(QuotaScheduling(name="q", scheduler=scheduler, **bucket),),  # type: ignore[arg-type]
        slots=(ConcurrencyScheduling(name="s", max_concurrency=12, max_inflight_duration=1e9, scheduler=scheduler),),
    )
    flow = Flow(policies, 0)
    life = Life(flow, 7)
    for _ in range(100_000):
        life.step()
    life.finish()
    wanted = ("Hit", "Refused", "FlowPlace", "admitted", "answered", "expired", "evicted", "undo", "crash")
    assert min(life.kinds[kind] for kind in wanted) > 50, life.kinds
    assert flow.idle
    assert left(flow, "c", life.now) == 80
    assert left(flow, "s", life.now) == 12
    assert left(flow, "q", life.now) == huge - sum(life.spent.values())
    assert {level.key: huge - level.left for level in flow.store.levels("r", 10, life.now)} == life.spent


def test_a_hit_skips_the_queue() -> None:
    policies = Policies(
        caches=(Caching(name="k"),),
        quotas=(QuotaScheduling(name="q", bucket_capacity=1, fill_amount=0, scheduler=Scheduler()),),
    )
    flow = Flow(policies, 0)
    first = admitted(flow.enter(job(key="x"), 0))
    assert first.cache == "miss"
    first.ticket.settle(1, End(usage=used(3, 4).usage, completed=True, answer=ANSWER))
    found = hit(flow.enter(job(key="x"), 2))
    assert (found.entry.body, found.entry.prompt_tokens, found.entry.completion_tokens) == (ANSWER, 3, 4)
    waiting(flow.enter(job(key="y"), 2))


def test_where_nobody_waits_no_turn_is_paid_for() -> None:
    """A tenant that used more than predicted all night is not punished for it when others come in the morning."""
    policy = QuotaScheduling(
        name="q", unit="tokens", bucket_capacity=100, fill_amount=100, scheduler=tiers(fairness="tenant")
    )
    flow = Flow(Policies(quotas=(policy,)), 0)
    for night in range(0, 1000, 10):
        admitted(flow.enter(job(1, tenant="a"), night)).ticket.settle(night + 1, used(1, 50))
    admitted(flow.enter(job(100, tenant="c"), 1000))
    places = [waiting(flow.enter(job(50, tenant="ab"[i % 2]), 1000)) for i in range(10)]
    run_to(flow, 1002)
    assert [place.outcome == "admitted" for place in places] == [True] * 4 + [False] * 6


def test_a_tenant_that_says_less_than_it_uses_gets_no_more() -> None:
    """Two tenants wait all the time: one is predicted at a tenth of what it uses."""
    policy = QuotaScheduling(
        name="q", unit="tokens", bucket_capacity=200, fill_amount=100, scheduler=tiers(fairness="tenant")
    )
    flow = Flow(Policies(quotas=(policy,)), 0)
    tokens, now = Counter[str](), 0.0
    live: list[tuple[str, FlowPlace]] = []
    while tokens.total() < 50_000:
        for tenant, said in (("honest", 100), ("liar", 10)):
            while sum(name == tenant for name, _ in live) < 5:
                outcome = flow.enter(job(said, tenant=tenant), now)
                live.append((tenant, outcome if isinstance(outcome, FlowPlace) else waiting_of(outcome)))
        now = max(now, flow.next_event())
        flow.tick(now)
        for tenant, place in live:
            if place.outcome == "admitted":
                tokens[tenant] += 100
                place.ticket.settle(now, used(100, 0))
        live = [item for item in live if item[1].outcome == "waiting"]
    assert tokens["liar"] == pytest.approx(tokens["honest"], rel=0.05)
    assert tokens.total() <= 200 + 100 * now + 200


def waiting_of(outcome: Outcome) -> FlowPlace:
    """A place for a request that passed at once, so that both can be treated alike."""
    ticket = admitted(outcome).ticket
    place = FlowPlace(ticket, 0)
    place.outcome = "admitted"
    return place


class Reversed:
    """Last come, first served; and what it was told."""

    by_ratio = False

    def __init__(self) -> None:
        self.told: list[tuple[str, int, float, float]] = []

    def key(self, job: Job, now: float) -> float:
        return -now

    def learn(self, endpoint: str, tokens: int, seconds: float, waited: float = 0.0) -> None:
        self.told.append((endpoint, tokens, seconds, waited))


def test_an_order_of_its_own_decides_within_a_flow_and_learns_from_answers() -> None:
    order = Reversed()
    scheduler = Scheduler(ordering="shortest")
    policies = Policies(slots=(ConcurrencyScheduling(name="s", max_concurrency=1, scheduler=scheduler),))
    flow = Flow(policies, 0, orders={"s": order})
    running = admitted(flow.enter(job(), 0)).ticket
    early, late = waiting(flow.enter(job(), 1)), waiting(flow.enter(job(), 2))
    running.settle(3, End(usage=Usage(1, 9), latency=3.0, completed=True))
    assert (early.outcome, late.outcome) == ("waiting", "admitted")
    late.ticket.settle(5, End(usage=Usage(1, 7), latency=2.0, completed=True))
    early.ticket.settle(6, End(usage=Usage(1, 7), latency=1.0))  # cut short: no whole answer
    assert order.told == [("", 9, 3.0, 0.0), ("", 7, 2.0, 1.0)]
