from __future__ import annotations

from random import Random

import pytest

from extproc.prediction.evaluate import Pair, Score, evaluate


def pairs(number: int) -> list[Pair]:
    dice = Random(1)
    kinds = {"write a report on": 900, "name the colour of": 12, "explain": 300}
    return [
        Pair(prompt=f"{kind} subject {index}", model=model, tokens=round(tokens * dice.uniform(0.7, 1.4)))
        for index in range(number)
        for kind, tokens in kinds.items()
        for model in ("a", "b")
    ]


def by_rule(scores: list[Score], seen: int) -> dict[str, Score]:
    return {score.rule: score for score in scores if score.seen == seen}


def test_what_can_be_learned_is_learned_and_the_baselines_cannot() -> None:
    found = by_rule(evaluate(pairs(40), (0, 100)), 100)
    assert found["ours"].tau > 0.6
    assert abs(found["constant"].tau) < 0.01
    assert found["ours"].tau > found["by model"].tau + 0.3


def test_nothing_is_learned_from_prompts_that_judge() -> None:
    """Lengths that only the whole prompt tells: whoever sees a prompt's other answer would order them right."""
    dice = Random(2)
    lengths = {f"question {dice.getrandbits(60):x}": dice.randrange(10, 2000) for _ in range(200)}
    rows = [Pair(prompt=prompt, model=model, tokens=tokens) for prompt, tokens in lengths.items() for model in "abc"]
    assert abs(by_rule(evaluate(rows, (400,)), 400)["ours"].tau) < 0.15


def test_numbers_that_not_every_fold_reaches_are_left_out() -> None:
    assert {score.seen for score in evaluate(pairs(10), (0, 40, 10_000))} == {0, 40}


def test_it_comes_out_the_same_every_time() -> None:
    assert evaluate(pairs(10), (40,)) == evaluate(pairs(10), (40,))


def test_too_few_prompts_are_refused() -> None:
    with pytest.raises(ValueError, match="too few"):
        evaluate(pairs(1))


def test_the_length_of_a_text_is_estimated_where_tokens_are_not_given() -> None:
    assert Pair(prompt="x", response="a" * 400).length == 100
    assert Pair(prompt="x", response="a" * 400, tokens=7).length == 7
    assert Pair(prompt="x").length == 1
