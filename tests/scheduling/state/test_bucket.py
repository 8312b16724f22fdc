import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.scheduling.state.bucket import SLACK, TokenBucket


def test_a_full_bucket_serves_exactly_its_capacity() -> None:
    bucket = TokenBucket(10, 1, now=0)
    assert sum(bucket.take(1, 0) for _ in range(100)) == 10


def test_it_fills_continuously_up_to_its_capacity() -> None:
    bucket = TokenBucket(10, 2, now=0, level=0)
    assert not bucket.take(1, 0.25)
    assert bucket.take(1, 0.5)
    assert bucket.fill(100) == 10


def test_available_at_is_the_moment_from_which_it_is_granted() -> None:
    bucket = TokenBucket(10, 3, now=0, level=0)
    at = bucket.available_at(7, 0)
    assert at == pytest.approx(7 / 3)
    assert not bucket.holds(7, at - 0.01)
    assert bucket.take(7, at)


def test_more_than_the_capacity_never_comes() -> None:
    assert TokenBucket(10, 3, now=0).available_at(10.5, 0) == math.inf
    assert TokenBucket(10, 0, now=0, level=5).available_at(6, 0) == math.inf


def test_settlement_gives_back_up_to_the_capacity_and_takes_into_debt() -> None:
    bucket = TokenBucket(10, 0, now=0)
    bucket.take(8, 0)
    bucket.give(3, 0)
    assert bucket.fill(0) == 5
    bucket.give(-20, 0)
    assert bucket.fill(0) == -15
    bucket.give(100, 0)
    assert bucket.fill(0) == 10


def test_a_debt_is_paid_by_time() -> None:
    bucket = TokenBucket(10, 5, now=0, level=-20)
    assert bucket.available_at(1, 0) == pytest.approx(4.2)


@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(0, 50)), max_size=60))
def test_no_sequence_of_clock_steps_creates_a_token(steps: list[tuple[float, float]]) -> None:
    bucket = TokenBucket(100, 7, now=0)
    taken = sum(amount for now, amount in steps if bucket.take(amount, now))
    latest = max([0.0, *(now for now, _ in steps)])
    assert taken <= 100 + 7 * latest + SLACK * (len(steps) + 1) + 1e-9 * taken


@given(st.floats(0, 2e9), st.floats(1e-3, 1e6), st.floats(0.1, 1e6))
def test_who_comes_back_when_told_is_granted(now: float, rate: float, amount: float) -> None:
    bucket = TokenBucket(1e6, rate, now, level=0)
    at = bucket.available_at(amount, now)
    assert bucket.holds(amount, math.nextafter(at, math.inf)) or at - now < 1e-6


def test_a_new_size_cuts_what_is_above_and_keeps_debts() -> None:
    bucket = TokenBucket(10, 1, now=0)
    bucket.resize(4, 1, 0)
    assert bucket.fill(0) == 4
    bucket.give(-10, 0)
    bucket.resize(100, 1, 0)
    assert bucket.fill(0) == -6
