from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.pool.backlog import Backlog, Speed

ASSUMED = 100.0


def fresh(everywhere: Speed | None = None) -> Backlog:
    return Backlog(everywhere or Speed(), ASSUMED)


def test_an_empty_queue_does_not_wait() -> None:
    assert fresh().wait(5.0) == 0.0
    assert fresh().rate == ASSUMED


def test_prompts_before_a_new_one_are_waited_for_less_what_is_done_of_the_first() -> None:
    backlog = fresh()
    backlog.add("a", 200.0, 10.0, told=True)
    backlog.add("b", 100.0, 10.5, told=True)
    assert backlog.wait(10.0) == 3.0
    assert backlog.wait(11.0) == 2.0
    assert backlog.wait(11.9) == pytest.approx(1.1)
    assert backlog.wait(60.0) == 1.0, "the first one may be late, but those behind it have not begun"


def test_a_first_token_ends_its_prompt_and_shows_the_speed() -> None:
    backlog = fresh()
    for name in "abcd":
        backlog.add(name, 1000.0, 0.0, told=True)
    for number, name in enumerate("abc", 1):
        backlog.done(name, 5.0 * number)
    assert backlog.tokens == 1000.0
    assert backlog.rate == pytest.approx(200.0, rel=0.04), "1000 tokens every 5 s"
    assert backlog.wait(15.0) == pytest.approx(5.0, rel=0.04)
    backlog.done("d", 20.0)
    assert (backlog.tokens, backlog.wait(20.0)) == (0.0, 0.0)


def test_an_idle_time_is_no_slowness() -> None:
    backlog = fresh()
    for number in range(10):
        backlog.add(number, 500.0, 100.0 * number, told=True)
        backlog.done(number, 100.0 * number + 1.0)
    assert backlog.rate == pytest.approx(500.0, rel=0.05)


def test_a_change_of_speed_is_followed() -> None:
    backlog, now = fresh(), 0.0
    for seconds in [1.0] * 60 + [4.0] * 30:
        backlog.add("x", 1000.0, now, told=True)
        now += seconds
        backlog.done("x", now)
    assert backlog.rate == pytest.approx(250.0, rel=0.1)


def test_a_new_endpoint_is_thought_as_fast_as_the_pool() -> None:
    everywhere = Speed()
    known = fresh(everywhere)
    for number in range(20):
        known.add(number, 5000.0, float(number), told=True)
        known.done(number, number + 1.0)
    assert fresh(everywhere).rate == pytest.approx(5000.0, rel=0.1)


def test_a_prompt_that_goes_away_teaches_nothing() -> None:
    backlog = fresh()
    backlog.add("a", 100.0, 0.0, told=True)
    backlog.drop("a", 50.0)
    backlog.drop("a", 50.0)
    backlog.done("a", 50.0)
    assert (backlog.rate, backlog.tokens, backlog.wait(50.0)) == (ASSUMED, 0.0, 0.0)


def test_where_nobody_tells_a_prompt_is_done_when_it_should_be() -> None:
    backlog = fresh()
    backlog.add("a", 100.0, 0.0, told=False)
    backlog.add("b", 100.0, 0.0, told=False)
    backlog.add("c", 100.0, 0.0, told=True)
    assert backlog.wait(0.5) == 2.5
    assert backlog.wait(1.5) == 1.5
    assert backlog.wait(9.0) == 0.0
    assert backlog.tokens == 100.0, "the told one is waited for"
    backlog.done("c", 9.0)
    assert backlog.quiet == 0
    assert backlog.wait(9.0) == 0.0


@given(
    st.lists(
        st.tuples(st.sampled_from(["add", "done", "drop"]), st.integers(0, 5), st.floats(0, 1e5), st.booleans()),
        max_size=40,
    )
)
def test_any_order_ends_at_nothing(events: list[tuple[str, int, float, bool]]) -> None:
    backlog = fresh()
    held: dict[int, float] = {}
    for number, (event, key, tokens, told) in enumerate(events):
        now = float(number)
        if event == "add" and key not in held:
            backlog.add(key, tokens, now, told)
            held[key] = tokens
        elif event != "add":
            getattr(backlog, event)(key, now)
            held.pop(key, None)
        assert backlog.wait(now) >= 0.0
        assert backlog.rate > 0.0
    for key in held:
        backlog.drop(key, 1e6)
    assert (backlog.tokens, backlog.quiet, backlog.wait(1e6)) == (0.0, 0, 0.0)
