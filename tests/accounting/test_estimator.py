import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.accounting.estimator import DECAY, OUTLIER, PRIOR_BYTES, SAMPLE_BYTES, Estimator, Ratio
from extproc.payload.usage import Usage


def usage(prompt: int, completion: int) -> Usage:
    return Usage(prompt_tokens=prompt, completion_tokens=completion)


def test_an_unknown_model_costs_a_token_for_every_four_bytes_rounded_up() -> None:
    estimator = Estimator()
    assert estimator.expect("new", 400)[0] == 100
    assert estimator.expect("new", 401)[0] == 101
    assert estimator.estimate("new", 8, 1) == usage(2, 1)
    assert estimator.estimate("new", 0, 0) == usage(0, 0)


def test_one_answer_moves_the_ratio_exactly_as_documented() -> None:
    ratio = Ratio()
    ratio.learn(1000, 500)
    tokens = DECAY * PRIOR_BYTES / 4 + 500
    size = DECAY * PRIOR_BYTES + 1000
    assert ratio.tokens(10_000) == math.ceil(tokens / size * 10_000)


def test_a_huge_sample_weighs_no_more_than_the_limit() -> None:
    huge, at_limit = Ratio(), Ratio()
    huge.learn(int(SAMPLE_BYTES) * 100, int(SAMPLE_BYTES) * 50)
    at_limit.learn(int(SAMPLE_BYTES), int(SAMPLE_BYTES) // 2)
    assert huge.tokens(10**6) == at_limit.tokens(10**6)


@pytest.mark.parametrize(("reported", "believed"), [(10**9, 250 * OUTLIER), (1, 250 / OUTLIER)])
def test_an_absurd_count_moves_the_ratio_by_a_bounded_step(reported: int, believed: float) -> None:
    absurd, bounded = Ratio(), Ratio()
    absurd.learn(1000, reported)
    bounded.learn(1000, round(believed))
    assert absurd.tokens(10**6) == pytest.approx(bounded.tokens(10**6), rel=0.01)


def test_a_tiny_answer_hardly_counts() -> None:
    ratio = Ratio()
    ratio.learn(2, 2)
    assert ratio.tokens(4000) == pytest.approx(1000, rel=0.03)


def test_the_ratio_of_a_model_is_found_and_followed() -> None:
    estimator = Estimator()
    for _ in range(300):
        estimator.learn("m", 3000, 200, usage(2000, 100))
    assert estimator.estimate("m", 300, 200) == usage(200, 100)
    for _ in range(600):
        estimator.learn("m", 3000, 200, usage(600, 100))
    assert estimator.expect("m", 3000)[0] == pytest.approx(600, abs=2)
    assert estimator.expect("other", 3000)[0] == 750


def test_event_streams_have_a_ratio_of_their_own() -> None:
    """Both starting values are near enough to what servers send that a few answers settle them."""
    estimator = Estimator()
    assert estimator.estimate("new", 0, 20_000, events=True) == usage(0, 100)
    for _ in range(5):
        estimator.learn("m", 400, 30_000, usage(100, 100), events=True)
        estimator.learn("m", 400, 500, usage(100, 100))
    assert estimator.estimate("m", 0, 30_000, events=True).completion_tokens == pytest.approx(100, abs=5)
    assert estimator.estimate("m", 0, 500).completion_tokens == pytest.approx(100, abs=6)


def test_directions_without_bytes_or_tokens_teach_nothing() -> None:
    estimator = Estimator()
    estimator.learn("embedder", 800, 0, usage(100, 0))
    assert estimator.estimate("embedder", 0, 40) == usage(0, 10)
    assert estimator.expect("embedder", 800)[0] < 200


def test_the_model_unused_longest_is_forgotten() -> None:
    estimator = Estimator(max_models=2)
    for name in ("a", "b"):
        estimator.learn(name, 1000, 1000, usage(1000, 1000))
    estimator.expect("a", 1)[0]
    estimator.learn("c", 1000, 1000, usage(1000, 1000))
    assert len(estimator) == 2
    assert estimator.expect("b", 1000)[0] == 250
    assert estimator.expect("a", 1000)[0] > 250


def test_names_are_kept_short_and_guesses_create_no_entry() -> None:
    estimator = Estimator()
    estimator.estimate("never learned", 10, 10)
    assert len(estimator) == 0
    estimator.learn("m" * 10**6, 100, 100, usage(10, 10))
    assert max(map(len, estimator._models)) == 128


@given(st.lists(st.tuples(st.integers(0, 10**9), st.integers(0, 10**9)), max_size=60), st.integers(1, 10**9))
def test_any_history_leaves_a_finite_positive_estimate(history: list[tuple[int, int]], size: int) -> None:
    ratio = Ratio()
    for seen_bytes, seen_tokens in history:
        ratio.learn(seen_bytes, seen_tokens)
    assert ratio.tokens(size) >= 1
    assert ratio.tokens(size) <= ratio.tokens(size * 2)


def test_the_length_of_answers_is_expected_from_the_last_ones() -> None:
    estimator = Estimator()
    assert estimator.expect("m", 400)[1] == 0
    estimator.learn("m", 400, 400, Usage(100, 50))
    assert estimator.expect("m", 400)[1] == 50
    for _ in range(500):
        estimator.learn("m", 400, 4000, Usage(100, 200))
    assert estimator.expect("m", 400)[1] == 200
