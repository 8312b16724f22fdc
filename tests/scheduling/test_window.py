from hypothesis import given
from hypothesis import strategies as st

from extproc.scheduling.window import WindowSum


def test_what_is_old_drops_out() -> None:
    window = WindowSum(30)
    for second in range(60):
        window.add(second, second)
    assert window.mean(59) == sum(range(30, 60)) / 30
    assert window.total(75) == sum(range(46, 60))
    assert (window.total(1e9), window.mean(1e9)) == (0, None)


def test_a_clock_that_steps_back_counts_as_standing_still() -> None:
    window = WindowSum(30)
    window.add(1, 100)
    window.add(2, 10)
    assert window.total(120) == 3
    assert window.total(130) == 0


@given(st.lists(st.tuples(st.floats(0, 200), st.integers(0, 9)), max_size=50))
def test_it_holds_the_last_seconds_to_a_thirtieth(events: list[tuple[float, int]]) -> None:
    window, events = WindowSum(30), sorted(events)
    for at, value in events:
        window.add(value, at)
    now = events[-1][0] if events else 0.0
    least = sum(value for at, value in events if at > now - 29)
    most = sum(value for at, value in events if at > now - 31)
    assert least <= window.total(now) <= most
