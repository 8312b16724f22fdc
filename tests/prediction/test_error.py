from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.prediction.error import Errors, kendall_tau


def slow_tau(left: list[float], right: list[float]) -> float:
    """By the definition, every pair."""
    agree = untied_left = untied_right = 0
    for i in range(len(left)):
        for j in range(i):
            a, b = (left[i] > left[j]) - (left[i] < left[j]), (right[i] > right[j]) - (right[i] < right[j])
            agree += a * b
            untied_left += a != 0
            untied_right += b != 0
    return agree / (untied_left * untied_right) ** 0.5 if untied_left and untied_right else 0.0


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=30))
def test_tau_is_what_counting_every_pair_gives(pairs: list[tuple[int, int]]) -> None:
    left, right = [float(a) for a, _ in pairs], [float(b) for _, b in pairs]
    assert kendall_tau(left, right) == pytest.approx(slow_tau(left, right))


def test_tau_of_the_right_and_of_the_reverse_order() -> None:
    assert kendall_tau([1, 2, 3, 4], [10, 20, 30, 40]) == 1
    assert kendall_tau([1, 2, 3, 4], [40, 30, 20, 10]) == -1


def test_two_lists_of_different_lengths_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="zip"):
        kendall_tau([1, 2], [1])


def test_running_figures_are_means_at_first_and_fade_later() -> None:
    errors = Errors(0.9)
    errors.observe(100, 200, 150, 1.0)
    errors.observe(100, 200, 250, 2.0)
    assert (errors.absolute, errors.covered) == (100, 0.5)
    assert errors.pinball == pytest.approx((0.1 * 50 + 0.9 * 50) / 2)
    for _ in range(2000):
        errors.observe(100, 200, 100, 3.0)
    assert errors.absolute == pytest.approx(0, abs=1e-3)
    assert errors.covered == pytest.approx(1)
