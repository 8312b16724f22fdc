"""How many tokens an answer will have, learned online from the gateway's own answers. Linear in the logarithm.

The mean is moved by a Kalman filter whose covariance is kept diagonal, one weight and one variance a slot: a slot that
was seldom seen moves far, one that was seen often hardly moves, and a variance never falls below a floor, so that what
was learned long ago fades. An error counts at most `_CLIP`, which makes it follow the median and bounds what one answer
can do. The high quantile lies a learned distance above, by model. Memory is fixed: `SLOTS` weights and variances.

`max_tokens` is one weak feature among many, and caps the result. An answer that reached it teaches only that it would
not have been shorter.
"""

from __future__ import annotations

import math
import zlib
from array import array
from collections import OrderedDict
from operator import mul
from typing import Literal

import msgspec

from extproc.prediction.error import Errors
from extproc.prediction.features import SLOTS, USUAL, Features

HIGH = 0.9
"""Share of answers that should not be longer than `LengthPrediction.high`."""
LONGEST = 131_072
_NOISE = 1.0
"""Variance of the logarithm of a length, given everything. Above what answers show, so that single ones weigh less."""
_GRAM_VARIANCE, _MARK_VARIANCE, _PRIOR_VARIANCE = 1.0, 0.04, 0.25
_FLOOR = 0.004
"""Least variance of a slot: its weight remembers some 250 answers that have it."""
_CLIP = 1.5
_MAX_MODELS = 512
_SPREAD = 0.9
"""Distance of the high quantile before anything is learned: a factor of 2.5."""
_COUNTED = 24_000
"""Answers over which it is counted how often a word comes."""
_AGED = 4
"""Slots whose count is halved with every answer from then on: each in turn, all of them within 16,384 answers."""
_LOGS = [math.log(1 + number) - 0.3 for number in range(_COUNTED + 2)]
"""What a word's rarity loses by so many prompts that had it; even a word of every prompt counts a little."""
_VERSION = 1
_MOST_BYTES = 4 << 20


class LengthPrediction(msgspec.Struct, frozen=True, gc=False):
    """Tokens of an answer."""

    median: float
    """For ordering."""
    high: float
    """For reserving: longer in about one case of ten."""


class Corrupt(ValueError):
    """Saved bytes that cannot be read. The text says why."""


class _Saved(msgspec.Struct, forbid_unknown_fields=True):
    version: int
    slots: int
    weights: bytes
    variances: bytes
    seen: bytes
    scale: float
    scale_variance: float
    spread: float
    spreads: dict[str, float]
    learned: int


class LengthPredictor:
    """Plain Python lists: about 10 us a prediction and 45 us an answer at some 100 features, nothing to import."""

    __slots__ = (
        "_scale",
        "_scale_variance",
        "_seen",
        "_spread",
        "_spreads",
        "_variances",
        "_weights",
        "errors",
        "learned",
    )

    def __init__(self) -> None:
        self._weights = [0.0] * SLOTS
        self._variances = [1.0] * SLOTS
        """Relative to the kind's own variance."""
        self._seen = [0] * SLOTS
        """How many prompts had the word, at most `_COUNTED`."""
        self._scale = 0.8
        """What a unit of `Features.prior` is worth."""
        self._scale_variance = 1.0
        self._spread = _SPREAD
        self._spreads: OrderedDict[str, float] = OrderedDict()
        self.errors = Errors(HIGH)
        self.learned = 0
        """Answers that moved it, in all."""

    def __repr__(self) -> str:
        return f"<LengthPredictor learned={self.learned} {self.errors}>"

    def predict(self, features: Features) -> LengthPrediction:
        """At least 1, at most what the client allows."""
        mean = self._mean(features)
        high = mean + self._spreads.get(features.model, self._spread)
        most = float(min(features.cap, LONGEST) if features.cap else LONGEST)
        ceiling = math.log(most + 1)
        return LengthPrediction(
            max(1.0, math.exp(mean) - 1 if mean < ceiling else most),
            max(1.0, math.exp(high) - 1 if high < ceiling else most),
        )

    def learn(self, features: Features, tokens: int, now: float) -> None:
        """An answer has ended by itself or at its limit; what a client broke off says nothing. `now`: seconds."""
        if tokens <= 0:
            return
        expected = self.predict(features)
        self.errors.observe(expected.median, expected.high, tokens, now)
        error = math.log(tokens + 1) - self._mean(features)
        if features.cap and tokens >= features.cap and error < 0:
            return
        self.learned += 1
        self._learn_spread(features.model, error)
        self._move(features, max(-_CLIP, min(_CLIP, error)))
        self._age()

    def save(self) -> bytes:
        """Everything but the error figures; at most some 500 KB."""
        saved = _Saved(
            version=_VERSION,
            slots=SLOTS,
            weights=array("f", self._weights).tobytes(),
            variances=array("f", self._variances).tobytes(),
            seen=array("H", self._seen).tobytes(),
            scale=self._scale,
            scale_variance=self._scale_variance,
            spread=self._spread,
            spreads=dict(self._spreads),
            learned=self.learned,
        )
        return zlib.compress(msgspec.msgpack.encode(saved), 1)

    @classmethod
    def load(cls, data: bytes) -> LengthPredictor:
        """From what `save` gave. Raises Corrupt: the caller warns, and starts with a new one."""
        saved = _decode(data)
        weights, variances = _numbers("f", saved.weights), _numbers("f", saved.variances)
        seen = _numbers("H", saved.seen)
        figures = (saved.scale, saved.scale_variance, saved.spread, *saved.spreads.values())
        sane = all(map(math.isfinite, figures)) and saved.learned >= 0 and len(saved.spreads) <= _MAX_MODELS
        ranges = ((weights, -50, 50), (variances, 1e-6, 1), (seen, 0, _COUNTED))
        if not sane or not all(low <= min(part) and max(part) <= high for part, low, high in ranges):
            raise Corrupt("the saved figures are out of range")
        found = cls()
        found._weights, found._variances, found._seen = weights, variances, list(map(int, seen))
        found._scale, found._scale_variance, found._spread = saved.scale, saved.scale_variance, saved.spread
        found._spreads.update(saved.spreads)
        found.learned = saved.learned
        return found

    def _values(self, grams: tuple[int, ...]) -> tuple[list[float], float]:
        """How much each word counts, the rarer the more, and what their squares add up to."""
        seen, logs = self._seen, _LOGS
        common = math.log(2 + min(self.learned, _COUNTED))
        values = [common - logs[seen[slot]] for slot in grams]
        return values, sum(map(mul, values, values)) or 1.0

    def _mean(self, features: Features) -> float:
        """Logarithm of tokens + 1."""
        weight = self._weights.__getitem__
        values, squares = self._values(features.grams)
        words: float = sum(map(mul, map(weight, features.grams), values)) / math.sqrt(squares)
        return _USUAL + self._scale * features.prior + sum(map(weight, features.marks)) + words

    def _move(self, features: Features, error: float) -> None:
        """The filter's step; `error` in logarithms."""
        weights, variances, seen = self._weights, self._variances, self._seen
        grams, marks, prior = features.grams, features.marks, features.prior
        values, squares = self._values(grams)
        known = list(map(variances.__getitem__, grams))
        part = _GRAM_VARIANCE / squares
        total = _NOISE + _PRIOR_VARIANCE * self._scale_variance * prior * prior
        total += _MARK_VARIANCE * sum(map(variances.__getitem__, marks))
        total += part * sum(map(mul, known, map(mul, values, values)))
        step, shrink = error * _GRAM_VARIANCE / math.sqrt(squares) / total, part / total
        for slot, value, variance in zip(grams, values, known, strict=True):
            weights[slot] += step * variance * value
            if variance > _FLOOR:
                variances[slot] = variance * (1 - shrink * variance * value * value)
            if seen[slot] < _COUNTED:
                seen[slot] += 1
        step, shrink = error * _MARK_VARIANCE / total, _MARK_VARIANCE / total
        for slot in marks:
            variance = variances[slot]
            weights[slot] += step * variance
            if variance > _FLOOR:
                variances[slot] = variance * (1 - shrink * variance)
        gain = _PRIOR_VARIANCE * self._scale_variance * prior / total
        self._scale += gain * error
        self._scale_variance = max(_FLOOR, self._scale_variance * (1 - gain * prior))

    def _age(self) -> None:
        """Words that do not come any more are rare again."""
        if self.learned > _COUNTED:
            first = self.learned * _AGED
            for number in range(first, first + _AGED):
                self._seen[number % SLOTS] >>= 1

    def _learn_spread(self, model: str, error: float) -> None:
        """One step of the quantile's own gradient, longer while little is known."""
        step = max(0.02, 0.3 / math.sqrt(1 + self.learned))
        known = self._spreads.get(model)
        if known is None:
            known = self._spread
            if len(self._spreads) >= _MAX_MODELS:
                self._spreads.popitem(last=False)
        else:
            self._spreads.move_to_end(model)
        self._spreads[model] = _stepped(known, error, step)
        self._spread = _stepped(self._spread, error, step)


_USUAL = math.log(USUAL + 1)


def _stepped(spread: float, error: float, step: float) -> float:
    return max(0.05, min(6.0, spread + step * (HIGH if error > spread else HIGH - 1)))


def _numbers(kind: Literal["f", "H"], data: bytes) -> list[float]:
    numbers: array[float] = array(kind)
    if len(data) != numbers.itemsize * SLOTS:
        raise Corrupt("the saved numbers are not as many as there should be")
    numbers.frombytes(data)
    if not all(map(math.isfinite, numbers)):
        raise Corrupt("a saved number is none")
    return numbers.tolist()


def _decode(data: bytes) -> _Saved:
    unpack = zlib.decompressobj()
    try:
        plain = unpack.decompress(data, _MOST_BYTES)
        saved = msgspec.msgpack.decode(plain, type=_Saved)
    except (zlib.error, msgspec.MsgspecError, ValueError) as error:
        raise Corrupt(f"the saved predictor cannot be read: {error}") from None
    if (saved.version, saved.slots) != (_VERSION, SLOTS):
        raise Corrupt(f"saved by another version: {saved.version} with {saved.slots} slots")
    return saved
