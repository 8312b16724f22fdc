"""Waiting for an endpoint: who goes next, who waits too long, who leaves."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.pool.load import EngineLoad
from extproc.pool.policy import LeastRequests, PickRequest, ScoredPolicy
from extproc.pool.pool import NoEndpoints, Pick, Pool
from extproc.pool.waiting import PoolQueueFull, QueueLimits, QueuePlace, Saturated, SaturationLimits

A, B = "10.0.0.1:8000", "10.0.0.2:8000"
ASK = PickRequest(model="m")


def pool(*addresses: str, in_flight: int | None = 1, **queue: float) -> Pool:
    made = Pool(
        "gpus",
        ScoredPolicy([(LeastRequests(), 1.0)]),
        retry_count=2,
        stale_after=2.0,
        random=Random(1),
        saturation=SaturationLimits(in_flight=in_flight),
        queue=QueueLimits(**queue),  # type: ignore[arg-type]
    )
    made.set_members({address: {} for address in addresses}, 0.0)
    return made


def admitted(outcome: Pick | QueuePlace[Pick]) -> Pick:
    assert isinstance(outcome, Pick), outcome
    return outcome


def waiting(outcome: Pick | QueuePlace[Pick]) -> QueuePlace[Pick]:
    assert isinstance(outcome, QueuePlace), outcome
    assert outcome.outcome == "waiting"
    return outcome


def report(made: Pool, address: str, now: float, **load: float) -> None:
    made.scrape_begins(address, now)
    made.observe(address, EngineLoad(engine="vllm", taken_at=now, **load), now)  # type: ignore[arg-type]


def test_a_release_admits_whoever_came_first_and_wakes_only_them() -> None:
    made = pool(A)
    first = admitted(made.admit(ASK, 0.0))
    second, third = waiting(made.admit(ASK, 1.0)), waiting(made.admit(ASK, 2.0))
    view = made.view(3.0)
    assert (view.waiting, view.oldest_wait) == (2, 2.0)
    woken: list[str] = []
    second.wake = lambda: woken.append("second")
    third.wake = lambda: woken.append("third")
    first.lease.release(3.0)
    assert (second.outcome, third.outcome, woken) == ("admitted", "waiting", ["second"])
    assert second.pick is not None
    second.pick.lease.release(4.0)
    assert (third.outcome, woken, made.waiting) == ("admitted", ["second", "third"], 0)


def test_nobody_overtakes_those_who_wait() -> None:
    made = pool(A, B)
    first, _ = admitted(made.admit(ASK, 0.0)), admitted(made.admit(ASK, 0.0))
    place = waiting(made.admit(ASK, 0.0))
    made.configure(made.policy, retry_count=2, stale_after=2.0, saturation=SaturationLimits(in_flight=1))
    late = waiting(made.admit(ASK, 1.0))
    first.lease.release(2.0)
    assert (place.outcome, late.outcome) == ("admitted", "waiting")


def test_waiting_too_long_ends_in_order() -> None:
    made = pool(A, timeout=10.0)
    admitted(made.admit(ASK, 0.0))
    first, second = waiting(made.admit(ASK, 0.0)), waiting(made.admit(ASK, 5.0))
    first.retry(9.9)
    assert made.waiting == 2
    second.retry(10.0)
    assert (first.outcome, second.outcome) == ("expired", "waiting")
    second.retry(15.0)
    assert second.outcome == "expired"


def test_a_full_queue_refuses_and_a_place_left_is_free_at_once() -> None:
    made = pool(A, max_size=1)
    admitted(made.admit(ASK, 0.0))
    place = waiting(made.admit(ASK, 0.0))
    with pytest.raises(PoolQueueFull):
        made.admit(ASK, 0.0)
    place.leave(0.0)
    place.leave(0.0)
    assert place.outcome == "left"
    waiting(made.admit(ASK, 0.0))


def test_a_pool_that_empties_tells_those_who_wait() -> None:
    made = pool(A)
    lease = admitted(made.admit(ASK, 0.0)).lease
    place = waiting(made.admit(ASK, 0.0))
    made.unreachable(A, "connection refused", 1.0)
    lease.release(1.0)
    assert place.outcome == "impossible"
    assert isinstance(place.error, NoEndpoints)


def test_what_a_scrape_shows_fills_an_endpoint_and_empties_it_again() -> None:
    made = pool(A, in_flight=None)
    report(made, A, 0.0, running=10, waiting=5, kv_usage=0.5)
    with pytest.raises(Saturated):
        made.pick(ASK, 0.0)
    place = waiting(made.admit(ASK, 0.0))
    report(made, A, 0.2, running=10, waiting=0, kv_usage=0.96)
    assert made.waiting == 1
    report(made, A, 0.4, running=10, waiting=0, kv_usage=0.5)
    assert place.outcome == "admitted"


def test_requests_sent_since_a_scrape_join_the_queue_that_it_showed() -> None:
    made = pool(A, in_flight=None)
    report(made, A, 0.0, running=10, waiting=3, kv_usage=0.5)
    for _ in range(2):
        admitted(made.admit(ASK, 0.1))
    waiting(made.admit(ASK, 0.1))


def test_stale_figures_fill_nothing() -> None:
    made = pool(A, in_flight=None)
    report(made, A, 0.0, running=10, waiting=50, kv_usage=1.0)
    admitted(made.admit(ASK, 3.0))


@given(st.lists(st.tuples(st.sampled_from("arls"), st.integers(0, 9)), max_size=80), st.integers(1, 3))
def test_no_endpoint_is_filled_beyond_its_limit_and_none_idles_while_somebody_waits(
    events: list[tuple[str, int]], limit: int
) -> None:
    made = pool(A, B, in_flight=limit, timeout=1000.0, max_size=20)
    leases: list[Pick] = []
    places: list[QueuePlace[Pick]] = []
    for now, (event, which) in enumerate(events):
        if event == "a":
            try:
                outcome = made.admit(ASK, float(now))
            except PoolQueueFull:
                continue
            if isinstance(outcome, Pick):
                leases.append(outcome)
            else:
                places.append(outcome)
        elif event == "r" and leases:
            leases.pop(which % len(leases)).lease.release(float(now))
        elif event == "l" and places:
            places[which % len(places)].leave(float(now))
        elif event == "s" and places:
            places[which % len(places)].retry(float(now))
        leases += [place.pick for place in places if place.outcome == "admitted" and place.pick]
        places = [place for place in places if place.outcome == "waiting"]
        counts = [endpoint.in_flight for endpoint in made.view(float(now)).endpoints]
        assert max(counts) <= limit
        assert made.waiting == len(places)
        if places:
            assert min(counts) == limit
    while leases:
        leases.pop().lease.release(100.0)
        leases += [place.pick for place in places if place.outcome == "admitted" and place.pick]
        places = [place for place in places if place.outcome == "waiting"]
    assert not places
    assert [endpoint.in_flight for endpoint in made.view(100.0).endpoints] == [0, 0]
