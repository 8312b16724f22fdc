"""How good the predictor would have been on recorded answers, beside simpler rules.

Prompts are held out, never rows: what was answered to a prompt by any model is either learned from or judged by.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from random import Random

import msgspec

from extproc.prediction.error import kendall_tau
from extproc.prediction.features import Features, PredictionInput, features
from extproc.prediction.predictor import HIGH, LengthPrediction, LengthPredictor

CHARACTERS_PER_TOKEN = 4


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """One recorded answer. Either its text or its tokens; more fields in a row are not looked at."""

    prompt: str
    model: str = ""
    response: str = ""
    tokens: int = 0
    tenant: str = ""
    route: str = ""
    prompt_tokens: int = 0
    max_tokens: int | None = None

    @property
    def length(self) -> int:
        """Tokens; from the text, where they are not known, one for each four characters."""
        return self.tokens or max(1, round(len(self.response) / CHARACTERS_PER_TOKEN))

    def features(self) -> Features:
        return features(
            PredictionInput(
                model=self.model,
                tenant=self.tenant,
                route=self.route,
                prompt_tokens=self.prompt_tokens or len(self.prompt) // CHARACTERS_PER_TOKEN,
                max_tokens=self.max_tokens,
                text=self.prompt,
            )
        )


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """Of one rule after so many answers, on prompts that it has not seen; mean over the folds."""

    rule: str
    seen: int
    tau: float
    """Kendall's tau-b between predicted and real tokens; 1 is the right order."""
    error: float
    """Mean tokens between prediction and truth."""
    covered: float
    """Share of answers not longer than the high prediction; `HIGH` is right."""


class Baseline(msgspec.Struct, frozen=True):
    """`learn(features, tokens)`, and `predict(features)`."""

    learn: Callable[[Features, int], None]
    predict: Callable[[Features], LengthPrediction]


def ours() -> Baseline:
    predictor = LengthPredictor()
    return Baseline(lambda what, tokens: predictor.learn(what, tokens, 0.0), predictor.predict)


def constant() -> Baseline:
    """Everybody's median."""
    known: list[int] = []
    return Baseline(lambda _, tokens: known.append(tokens), lambda _: _middle(known))


def by_model() -> Baseline:
    """The model's median."""
    known: dict[str, list[int]] = {}
    return Baseline(
        lambda what, tokens: known.setdefault(what.model, []).append(tokens),
        lambda what: _middle(known.get(what.model, [])),
    )


def histogram(sizes: dict[Features, int]) -> Baseline:
    """The median of answers to prompts of about that size: log2 of the input by log2 of the output."""
    known: dict[int, list[int]] = {}

    def cell(what: Features) -> list[int]:
        return known.setdefault(sizes[what].bit_length(), [])

    return Baseline(lambda what, tokens: cell(what).append(tokens), lambda what: _middle(cell(what)))


def evaluate(
    pairs: Sequence[Pair], seen: Sequence[int] = (0, 100, 300, 1000), folds: int = 5, rounds: int = 3
) -> list[Score]:
    """Scores of every rule at each number of answers seen that all folds reach. Each round shuffles anew.

    Raises ValueError when there are fewer different prompts than folds.
    """
    if len(prompts := sorted({pair.prompt for pair in pairs})) < max(2, folds):
        raise ValueError(f"{len(prompts)} different prompts are too few for {folds} folds")
    known = [(pair.prompt, pair.features(), pair.length) for pair in pairs]
    sizes = {what: len(prompt) for prompt, what, _ in known}
    found: dict[tuple[str, int], list[Score]] = {}
    for seed in range(rounds):
        dice = Random(seed)  # noqa: S311 -- the same folds every time
        dice.shuffle(prompts)
        dice.shuffle(known)
        for fold in range(folds):
            held_out = set(prompts[fold::folds])
            train = [(what, tokens) for prompt, what, tokens in known if prompt not in held_out]
            test = [(what, tokens) for prompt, what, tokens in known if prompt in held_out]
            rules = {"constant": constant(), "by model": by_model(), "log2 histogram": histogram(sizes), "ours": ours()}
            for name, rule in rules.items():
                for score in _learn_and_judge(name, rule, train, test, seen):
                    found.setdefault((name, score.seen), []).append(score)
    return [_mean(scores) for scores in found.values() if len(scores) == folds * rounds]


def _learn_and_judge(
    name: str,
    rule: Baseline,
    train: Sequence[tuple[Features, int]],
    test: Sequence[tuple[Features, int]],
    seen: Sequence[int],
) -> list[Score]:
    scores, learned = [], 0
    for number in sorted(set(seen)):
        if number > len(train):
            break
        for what, tokens in train[learned:number]:
            rule.learn(what, tokens)
        learned = number
        scores.append(_judge(name, number, [rule.predict(what) for what, _ in test], [tokens for _, tokens in test]))
    return scores


def _judge(rule: str, seen: int, predicted: Sequence[LengthPrediction], real: Sequence[int]) -> Score:
    pairs = list(zip(predicted, real, strict=True))
    return Score(
        rule=rule,
        seen=seen,
        tau=kendall_tau([one.median for one in predicted], [float(tokens) for tokens in real]),
        error=sum(abs(one.median - tokens) for one, tokens in pairs) / len(pairs),
        covered=sum(tokens <= one.high for one, tokens in pairs) / len(pairs),
    )


def _mean(scores: Sequence[Score]) -> Score:
    number = len(scores)
    return Score(
        rule=scores[0].rule,
        seen=scores[0].seen,
        tau=math.fsum(score.tau for score in scores) / number,
        error=math.fsum(score.error for score in scores) / number,
        covered=math.fsum(score.covered for score in scores) / number,
    )


def _middle(known: Sequence[int]) -> LengthPrediction:
    if not known:
        return LengthPrediction(300.0, 750.0)
    ordered = sorted(known)
    high = bisect_right(range(len(ordered)), HIGH * (len(ordered) - 1)) - 1
    return LengthPrediction(float(ordered[len(ordered) // 2]), float(ordered[high]))
