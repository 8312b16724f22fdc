"""How well predicted lengths fit: running errors, and how well they order answers."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Sequence
from itertools import groupby

_MEMORY = 0.99
"""A running figure is a mean over some 100 answers."""
_SAMPLE = 256


class Errors:
    """Running figures of one predictor, each of what was predicted before the answer was learned from."""

    __slots__ = ("_high", "_sample", "absolute", "covered", "observed", "pinball", "relative", "updated")

    def __init__(self, high: float) -> None:
        self._high = high
        self._sample: deque[tuple[float, int]] = deque(maxlen=_SAMPLE)
        self.observed = 0
        self.absolute = 0.0
        """Mean tokens between the median and the truth."""
        self.relative = 0.0
        """The same as a share of the truth."""
        self.pinball = 0.0
        """Loss of the high quantile, tokens."""
        self.covered = 0.0
        """Share of answers that were not longer than the high quantile."""
        self.updated = 0.0
        """When the last answer was observed."""

    def __repr__(self) -> str:
        return f"<Errors observed={self.observed} absolute={self.absolute:.0f} covered={self.covered:.2f}>"

    def observe(self, median: float, high: float, tokens: int, now: float) -> None:
        self.observed += 1
        weight = max(1 - _MEMORY, 1 / self.observed)
        beyond = tokens - high
        self.absolute += weight * (abs(tokens - median) - self.absolute)
        self.relative += weight * (min(10.0, abs(tokens - median) / tokens) - self.relative)
        self.pinball += weight * (max(self._high * beyond, (self._high - 1) * beyond) - self.pinball)
        self.covered += weight * ((beyond <= 0) - self.covered)
        self.updated = now
        self._sample.append((median, tokens))

    def tau(self) -> float:
        """Kendall's rank correlation over the last answers: 1 is the right order, 0 is no order. About 1 ms."""
        return kendall_tau([median for median, _ in self._sample], [float(tokens) for _, tokens in self._sample])


def kendall_tau(left: Sequence[float], right: Sequence[float]) -> float:
    """Tau-b: ties count for neither. 0 where one side does not vary. O(n sqrt n) or so, by insertion into a list.

    Raises ValueError when the two are not of one length.
    """
    pairs = sorted(zip(left, right, strict=True))
    seen: list[float] = []
    balance = 0
    for _, group in groupby(pairs, key=lambda pair: pair[0]):
        equals = [second for _, second in group]
        for second in equals:
            balance += bisect_left(seen, second) - (len(seen) - bisect_right(seen, second))
        for second in equals:
            insort(seen, second)
    number = len(pairs) * (len(pairs) - 1) // 2
    comparable = (number - _tied(left)) * (number - _tied(right))
    return balance / comparable**0.5 if comparable else 0.0


def _tied(values: Sequence[float]) -> int:
    sizes = [len(list(group)) for _, group in groupby(sorted(values))]
    return sum(size * (size - 1) // 2 for size in sizes)
