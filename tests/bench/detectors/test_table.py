"""Figures that several sections share."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bench.detectors.table import MISSING, Bar, Counts, capped, threshold_at


@given(st.lists(st.floats(0, 1), min_size=1), st.sampled_from([0.0, 0.01, 0.1, 0.5]))
def test_at_most_the_share_lies_above_the_threshold(scores: list[float], share: float) -> None:
    limit = threshold_at(scores, share)
    assert sum(score > limit for score in scores) <= share * len(scores)


def test_the_threshold_is_no_higher_than_it_must_be() -> None:
    assert threshold_at([0.1, 0.2, 0.3, 0.4], 0.25) == 0.3


def test_spans_are_right_only_if_all_of_them_is() -> None:
    counts = Counts.of_spans({(0, 2, "A"), (3, 5, "B")}, {(0, 2, "A"), (3, 6, "B"), (9, 11, "A")})
    assert (counts.precision, counts.recall, counts.f1) == (0.5, 1 / 3, 0.4)


def test_nothing_said_and_nothing_there_is_no_division_by_zero() -> None:
    assert (Counts().precision, Counts().recall, Counts().f1) == (0.0, 0.0, 0.0)


def test_a_bar_that_was_not_measured_is_short() -> None:
    assert not Bar("a", MISSING, 1.0).ok
    assert not Bar("a", MISSING, 1.0, least=True).ok


def test_what_is_left_of_a_long_list_is_from_all_of_it() -> None:
    assert capped([str(at) for at in range(100)], 4) == ["0", "25", "50", "75"]
    assert capped(["a"], 4) == ["a"]
