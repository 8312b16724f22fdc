"""What a section of the benchmark says, and the figures that more than one section needs."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from pathlib import Path

import msgspec

from bench.flow.bars import Bar, quantile, rows
from detectors import Check, Guard

__all__ = [
    "MISSING",
    "Bar",
    "Bench",
    "Counts",
    "Section",
    "capped",
    "examined",
    "percent",
    "quantile",
    "rows",
    "threshold_at",
]

MISSING = math.nan
"""The value of a bar that could not be measured: neither above nor below any limit, so the bar is short."""


class Section(msgspec.Struct, frozen=True):
    """One part of the report."""

    title: str
    text: tuple[str, ...]
    """Tables and remarks, in order."""
    bars: tuple[Bar, ...] = ()


class Bench(msgspec.Struct, frozen=True):
    """What the sections measure on."""

    folder: Path
    """Holds the shared sets, `NAME.jsonl.gz`."""
    fast: Guard
    """Patterns and secrets, no classifier."""
    full: Guard | None
    """Every detector; None where the classifier could not be loaded."""
    model: Guard | None
    """The classifier alone."""
    quick: bool = False

    @property
    def most(self) -> int:
        """Rows that are taken of one set."""
        return 60 if self.quick else 300


class Counts(msgspec.Struct, frozen=True):
    """Of a yes-or-no question, or of spans."""

    right: int = 0
    """Said and true."""
    said: int = 0
    true: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.right + other.right, self.said + other.said, self.true + other.true)

    @property
    def precision(self) -> float:
        return self.right / self.said if self.said else 0.0

    @property
    def recall(self) -> float:
        return self.right / self.true if self.true else 0.0

    @property
    def f1(self) -> float:
        return 2 * self.right / (self.said + self.true) if self.said + self.true else 0.0

    @staticmethod
    def of_spans(said: Collection[object], true: Collection[object]) -> Counts:
        """`said` and `true` hold no value twice."""
        return Counts(len(set(said) & set(true)), len(said), len(true))


def examined(guard: Guard, text: str) -> Check:
    """`guard.examine`, of which every detector has to finish: one that fails finds nothing, and that is no figure."""
    check = guard.examine(text)
    assert not check.failures, check.failures
    return check


def percent(part: int, whole: int) -> float:
    return 100 * part / whole if whole else 0.0


def threshold_at(scores: Sequence[float], share: float) -> float:
    """The least threshold that at most a `share` of `scores` exceeds. A score counts if it is above the threshold."""
    ordered = sorted(scores, reverse=True)
    return ordered[int(share * len(ordered))] if ordered else 0.0


def capped(texts: Sequence[str], most: int) -> list[str]:
    """At most so many, evenly from the whole sequence, so that every part of it is there."""
    if len(texts) <= most:
        return list(texts)
    return [texts[at * len(texts) // most] for at in range(most)]
