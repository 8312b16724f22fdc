from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.simulate.scenario import Outcome
from extproc.simulate.summary import spread, summarise, table

ANSWERED = Outcome(1.0, 100, 5, engine=0, cached_tokens=40, first_token=2.0, finished=4.0, ending="answered")
OTHER = Outcome(0.0, 300, 1, engine=1, cached_tokens=0, first_token=3.0, finished=3.0, ending="answered")


def test_the_figures_of_a_run() -> None:
    one = summarise("x", [ANSWERED, OTHER, Outcome(0.0, 5, 5), Outcome(0.0, 9, 9, ending="failed")], engines=2)
    assert (one.requests, one.rejected, one.failed) == (4, 1, 1)
    assert (one.ttft.mean, one.ttft.p50, one.ttft.p99) == (2.0, 1.0, 3.0)
    assert (one.tpot.mean, one.e2e.mean) == (0.5, 3.0)
    assert one.hit_rate == 40 / 400
    assert one.balance == 300 / 180


def test_nothing_answered_is_no_division_by_zero() -> None:
    one = summarise("x", [Outcome(0.0, 5, 5)], engines=3)
    assert (one.ttft.mean, one.hit_rate, one.balance) == (0.0, 0.0, 1.0)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=300))
def test_a_percentile_is_a_time_that_occurred_and_so_many_are_not_above_it(times: list[float]) -> None:
    shown = spread(times)
    for share, value in ((0.5, shown.p50), (0.95, shown.p95), (0.99, shown.p99)):
        assert value in times
        assert sum(time <= value for time in times) >= share * len(times) - 1e-9
        assert sum(time < value for time in times) < share * len(times)
    assert shown.mean == pytest.approx(sum(times) / len(times))


def test_the_table_lines_up() -> None:
    lines = table([summarise("a long name", [ANSWERED], 1), summarise("b", [OTHER], 2)]).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[1].startswith("a long name  ")
    assert lines[1].split()[3:5] == ["1.000", "1.000"]
