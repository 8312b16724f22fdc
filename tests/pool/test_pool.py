"""States, leases and candidates of a pool; then any mixture of everything."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from extproc.pool.endpoint import EndpointView, State
from extproc.pool.load import EngineLoad
from extproc.pool.policies import POLICIES, make_policy
from extproc.pool.policy import PickRequest
from extproc.pool.pool import Lease, NoEndpoints, Pool

REQUEST = PickRequest(model="m", prompt_tokens=10, expected_output_tokens=5)


def make(*addresses: str, policy: str = "least-request", retry_count: int = 2, seed: int = 0) -> Pool:
    pool = Pool("p", make_policy(policy), retry_count=retry_count, stale_after=2.0, random=Random(seed))
    pool.set_members({address: {} for address in addresses}, 0.0)
    return pool


def idle(now: float) -> EngineLoad:
    return EngineLoad("vllm", now, running=0.0, waiting=0.0)


def shown(pool: Pool, address: str, now: float = 0.0) -> EndpointView:
    return next(view for view in pool.view(now).endpoints if view.address == address)


def test_candidates_are_the_chosen_one_and_the_next_best() -> None:
    pool = make("a", "b", "c", "d")
    for address, waiting in (("a", 3.0), ("b", 1.0), ("c", 2.0), ("d", 9.0)):
        pool.observe(address, EngineLoad("vllm", 1.0, running=0.0, waiting=waiting), 1.0)
    pick = pool.pick(REQUEST, 1.0)
    assert pick.candidates == ("b", "c", "a")
    assert pick.lease.address == "b"
    assert make("a", "b", retry_count=0).pick(REQUEST, 1.0).candidates in {("a",), ("b",)}
    assert len(make("a", "b", retry_count=5).pick(REQUEST, 1.0).candidates) == 2


def test_load_is_counted_before_the_next_pick() -> None:
    pool = make("a", "b", "c")
    first = {pool.pick(REQUEST, 0.0).candidates[0] for _ in range(3)}
    assert first == {"a", "b", "c"}
    assert [view.in_flight for view in pool.view(0.0).endpoints] == [1, 1, 1]
    assert [view.tokens for view in pool.view(0.0).endpoints] == [15, 15, 15]


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_an_unreachable_endpoint_leaves_at_once_and_returns_by_itself(policy: str) -> None:
    pool = make("a", "b", policy=policy)
    change = pool.unreachable("a", "connection refused", 1.0)
    assert change is not None
    assert (change.before, change.state, change.reason) == (State.UNKNOWN, State.UNREACHABLE, "connection refused")
    assert pool.unreachable("a", "no answer", 1.2) is None, "told once"
    assert {pool.pick(REQUEST, 1.5).candidates for _ in range(20)} == {("b",)}
    assert shown(pool, "a", 1.5).reason == "no answer"
    back = pool.observe("a", idle(2.0), 2.0)
    assert back is not None
    assert (back.before, back.state) == (State.UNREACHABLE, State.HEALTHY)
    assert pool.observe("a", idle(2.2), 2.2) is None
    assert "a" in pool.pick(REQUEST, 2.2).candidates


def test_a_failed_request_is_not_healed_by_a_scrape_that_began_before_it() -> None:
    pool = make("a", "b")
    pool.scrape_begins("a", 1.0)
    change = pool.failed("a", 1.1)
    assert change is not None
    assert change.state is State.UNREACHABLE
    assert pool.failed("a", 1.1) is None
    assert pool.observe("a", idle(1.2), 1.2) is None
    assert pool.pick(REQUEST, 1.3).candidates == ("b",)
    pool.scrape_begins("a", 1.4)
    assert pool.observe("a", idle(1.5), 1.5) is not None


def test_reachable_without_figures_is_healthy_with_unknown_load() -> None:
    pool = make("a")
    change = pool.observe("a", None, 1.0, "load unknown: HTTP 404 from /metrics")
    assert change is not None
    assert change.reason.startswith("load unknown")
    assert pool.observe("a", None, 1.2, "load unknown: HTTP 404 from /metrics") is None
    view = shown(pool, "a")
    assert (view.state, view.engine, view.running, view.metrics_age) == (State.HEALTHY, None, None, None)
    known = pool.observe("a", idle(1.4), 1.4)
    assert known is not None
    assert known.reason == ""


def test_no_endpoints_says_why() -> None:
    pool = make()
    with pytest.raises(NoEndpoints) as nobody:
        pool.pick(REQUEST, 0.0)
    assert nobody.value.reason == "pool_empty"
    pool.set_members({"a": {}}, 0.0)
    lease = pool.pick(REQUEST, 0.0).lease
    pool.unreachable("a", "gone", 0.0)
    with pytest.raises(NoEndpoints) as away:
        pool.pick(REQUEST, 0.0)
    assert away.value.reason == "all_unreachable"
    pool.set_members({}, 0.0)
    with pytest.raises(NoEndpoints) as drained:
        pool.pick(REQUEST, 0.0)
    assert drained.value.reason == "pool_empty"
    lease.release(1.0)


def test_a_removed_endpoint_drains_until_its_last_request_ends() -> None:
    pool = make("a", "b")
    leases = [pool.pick(REQUEST, 0.0).lease for _ in range(4)]
    changes = pool.set_members({"b": {}}, 1.0)
    assert [(change.address, change.state) for change in changes] == [("a", State.DRAINING)]
    assert pool.observe("a", idle(1.0), 1.0) is None
    assert pool.unreachable("a", "x", 1.0) is None
    assert pool.failed("a", 1.0) is None
    assert pool.pick(REQUEST, 1.0).candidates == ("b",)
    on_a = [lease for lease in leases if lease.address == "a"]
    assert len(on_a) == 2
    on_a[0].release(2.0)
    assert shown(pool, "a").state is State.DRAINING
    on_a[1].release(2.0)
    assert [view.address for view in pool.view(2.0).endpoints] == ["b"]
    assert pool.addresses() == ["b"]


def test_an_endpoint_that_returns_while_it_drains_keeps_its_load() -> None:
    pool = make("a")
    lease = pool.pick(REQUEST, 0.0).lease
    pool.set_members({}, 1.0)
    pool.set_members({"a": {"gpu": "h20"}}, 2.0)
    view = shown(pool, "a")
    assert (view.state, view.in_flight, view.labels) == (State.UNKNOWN, 1, {"gpu": "h20"})
    lease.release(3.0)
    assert shown(pool, "a").in_flight == 0


def test_a_lease_moves_and_is_released_once() -> None:
    pool = make("a", "b")
    pick = pool.pick(REQUEST, 0.0)
    chosen, other = pick.candidates
    pick.lease.move(other)
    pick.lease.move(other)
    assert (shown(pool, chosen).in_flight, shown(pool, other).in_flight) == (0, 1)
    pick.lease.count_tokens(4)
    assert shown(pool, other).tokens == 4
    for _ in range(3):
        pick.lease.release(5.0)
        pick.lease.move(chosen)
        pick.lease.count_tokens(99)
    assert [(view.in_flight, view.tokens) for view in pool.view(5.0).endpoints] == [(0, 0), (0, 0)]
    assert shown(pool, other, 7.0).idle == 2.0


def test_a_lease_served_outside_the_pool_loads_nobody_and_may_come_back() -> None:
    pool = make("a")
    lease = pool.pick(REQUEST, 0.0).lease
    lease.move("203.0.113.9:1")
    assert lease.address is None
    assert shown(pool, "a").in_flight == 0
    lease.count_tokens(7)
    lease.move("a")
    assert (shown(pool, "a").in_flight, shown(pool, "a").tokens) == (1, 7)


def test_reconfiguring_keeps_load_and_states() -> None:
    pool = make("a", "b", "c")
    pool.unreachable("c", "x", 0.0)
    pool.pick(REQUEST, 0.0)
    pool.configure(make_policy("round-robin"), retry_count=0, stale_after=1.0)
    assert len(pool.pick(REQUEST, 0.0).candidates) == 1
    assert sum(view.in_flight for view in pool.view(0.0).endpoints) == 2
    assert shown(pool, "c").state is State.UNREACHABLE


def test_list_order_decides_nothing() -> None:
    """Over many picks, each endpoint gets the same share of first, second and third places wherever it stands."""
    names = [f"10.0.0.{index}:8000" for index in range(6)]
    for order in (names, names[::-1]):
        pool = make(*order, seed=5)
        places = [Counter[str](), Counter[str](), Counter[str]()]
        for _ in range(3000):
            pick = pool.pick(REQUEST, 0.0)
            pick.lease.release(0.0)
            for place, address in zip(places, pick.candidates, strict=True):
                place[address] += 1
        for place in places:
            assert all(390 < place[name] < 610 for name in names), place  # 5 standard deviations


ADDRESSES = [f"10.0.0.{index}:8000" for index in range(5)]
ADDRESS = st.sampled_from(ADDRESSES)


class PoolMachine(RuleBasedStateMachine):
    """Any mixture of events, checked against a plain list of who holds what."""

    leases = Bundle[Lease]("leases")

    def __init__(self) -> None:
        super().__init__()
        self.pool = make(*ADDRESSES[:3], seed=9)
        self.members = set(ADDRESSES[:3])
        self.away: set[str] = set()
        self.now = 0.0
        self.held: list[Lease] = []

    def tick(self) -> float:
        self.now += 0.3
        return self.now

    @rule(target=leases, tokens=st.integers(0, 1000))
    def pick(self, tokens: int) -> Lease:
        usable = self.members - self.away
        try:
            pick = self.pool.pick(PickRequest(prompt_tokens=tokens), self.tick())
        except NoEndpoints:
            assert not usable
            spare = Pool("spare", make_policy("round-robin"), retry_count=0, stale_after=1.0, random=Random(0))
            spare.set_members({"x": {}}, 0.0)
            return spare.pick(PickRequest(), 0.0).lease
        assert set(pick.candidates) <= usable
        assert len(set(pick.candidates)) == len(pick.candidates) == min(3, len(usable))
        self.held.append(pick.lease)
        return pick.lease

    @rule(lease=leases, address=ADDRESS | st.just("203.0.113.1:1"))
    def move(self, lease: Lease, address: str) -> None:
        lease.move(address)

    @rule(lease=leases, tokens=st.integers(0, 1000))
    def count_tokens(self, lease: Lease, tokens: int) -> None:
        lease.count_tokens(tokens)

    @rule(lease=consumes(leases), times=st.integers(1, 3))
    def release(self, lease: Lease, times: int) -> None:
        for _ in range(times):
            lease.release(self.tick())

    @rule(members=st.sets(ADDRESS))
    def change_members(self, members: set[str]) -> None:
        self.pool.set_members({address: {} for address in members}, self.tick())
        self.away &= members & self.members
        self.members = members

    @rule(address=ADDRESS, waiting=st.none() | st.integers(0, 50))
    def observe(self, address: str, waiting: int | None) -> None:
        now = self.tick()
        load = None if waiting is None else EngineLoad("vllm", now, running=1.0, waiting=float(waiting))
        self.pool.scrape_begins(address, now)
        self.pool.observe(address, load, now)
        self.away.discard(address)

    @rule(address=ADDRESS, reported=st.booleans())
    def lose(self, address: str, reported: bool) -> None:
        if reported:
            self.pool.failed(address, self.tick())
        else:
            self.pool.unreachable(address, "no answer", self.tick())
        if address in self.members:
            self.away.add(address)

    @invariant()
    def load_is_what_the_leases_hold(self) -> None:
        held = Counter(lease.address for lease in self.held if lease.address is not None)
        views = {view.address: view for view in self.pool.view(self.now).endpoints}
        assert {address: view.in_flight for address, view in views.items() if view.in_flight} == dict(held)
        assert all(view.tokens >= 0 for view in views.values())
        assert set(views) >= self.members
        assert {address for address, view in views.items() if view.state is State.UNREACHABLE} == self.away
        for address in views.keys() - self.members:
            assert views[address].state is State.DRAINING
            assert views[address].in_flight > 0

    def teardown(self) -> None:
        for lease in self.held:
            lease.release(self.tick())
        for view in self.pool.view(self.now).endpoints:
            assert (view.in_flight, view.tokens) == (0, 0)
        assert {view.address for view in self.pool.view(self.now).endpoints} == self.members


PoolMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestPoolMachine = PoolMachine.TestCase


def test_only_an_endpoint_that_may_be_chosen_is_worth_a_look() -> None:
    looks: list[str] = []
    policy = make_policy("least-request")
    pool = Pool("p", policy, retry_count=0, stale_after=2.0, random=Random(0), on_suspect=looks.append)
    pool.set_members({"a": {}, "b": {}}, 0.0)
    pool.unreachable("b", "connection refused", 0.0)
    pool.pick(REQUEST, 0.0).lease.suspect(["a", "b", "c"])
    assert looks == ["a"]
