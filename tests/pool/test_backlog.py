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
    for number in range(12):
        backlog.add(number, 1000.0, 0.0, told=True)
    for number in range(11):
        backlog.done(number, 5.0 * (number + 1))
    assert backlog.tokens == 1000.0
    assert backlog.rate == pytest.approx(200.0, rel=0.1), "1000 tokens every 5 s"
    assert backlog.wait(55.0) == pytest.approx(5.0, rel=0.1)
    backlog.done(11, 60.0)
    assert (backlog.tokens, backlog.wait(60.0)) == (0.0, 0.0)


def serve(backlog: Backlog, tokens: float, seconds: float, times: int, begin: float = 0.0, every: float = 0.0) -> float:
    """Prompts one after the other; returns the time."""
    now = begin
    for number in range(times):
        now = max(now, begin + number * every)
        backlog.add("x", tokens, now, told=True)
        now += seconds
        backlog.done("x", now)
    return now


def test_an_idle_time_is_no_slowness() -> None:
    backlog = fresh()
    serve(backlog, 500.0, 1.0, times=60, every=100.0)
    assert backlog.rate == pytest.approx(500.0, rel=0.2)


def test_a_change_of_speed_is_followed() -> None:
    backlog = fresh()
    now = serve(backlog, 1000.0, 1.0, times=60)
    serve(backlog, 1000.0, 4.0, times=30, begin=now)
    assert backlog.rate == pytest.approx(250.0, rel=0.2)


def test_a_new_endpoint_is_thought_as_fast_as_the_pool() -> None:
    everywhere = Speed()
    serve(fresh(everywhere), 5000.0, 1.0, times=60)
    assert fresh(everywhere).rate == pytest.approx(5000.0, rel=0.2)


@pytest.mark.parametrize(("other", "alike"), [(950.0, True), (400.0, False)])
def test_small_differences_of_speed_are_taken_for_none(other: float, alike: bool) -> None:
    everywhere = Speed()
    members = {tokens: fresh(everywhere) for tokens in (1000.0, other)}
    for turn in range(60):
        for tokens, backlog in members.items():
            serve(backlog, tokens, 1.0, times=1, begin=float(turn))
    for backlog in members.values():
        backlog.add("y", 1.0, 100.0, told=True)
    assert (members[other].rate == members[1000.0].rate) is alike
    if not alike:
        assert members[other].rate < 0.6 * members[1000.0].rate


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
