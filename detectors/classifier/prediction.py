"""What a classifier says about one text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import msgspec

from detectors.alarms import LEVEL, Level
from detectors.findings import Finding
from detectors.text import Text


class Prediction(msgspec.Struct, frozen=True):
    """The outcome for one text."""

    scores: dict[str, float]
    """Category to the probability that the text belongs to it; of a long text, its highest part counts. 0 is also what
    the first look finds plainly harmless."""
    findings: list[Finding]
    """Names, and the parts of the text that reached a category's threshold; in order, spans in the original text."""
    thresholds: Mapping[str, float] = {}
    """The probability from which each category of `scores` counts, for a text of this language and length."""
    complete: bool = True
    """Whether all of the text was looked at: false where it has more windows than the caller allows."""


class Classifier(Protocol):
    """A loaded model. Safe to call from several threads at once; the work releases the interpreter lock."""

    @property
    def name(self) -> str: ...

    def predict(
        self,
        text: Text | str,
        *,
        thresholds: Mapping[str, float] | None = None,
        level: Level = LEVEL,
        most: int | None = None,
    ) -> Prediction:
        """What TEXT is and holds. `thresholds` replace the model's own of `level` by category; at most `most` windows
        are read."""
        ...


def moved(found: Finding, text: Text) -> Finding:
    """A finding in the plain text as one in the original."""
    start, end = text.span(found.start, found.end)
    return Finding(start, end, found.category, found.score, found.detector)
