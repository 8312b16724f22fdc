"""From logits to probabilities, from which probability a category counts, and what a first look lets pass."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import msgspec
import numpy as np
import numpy.typing as npt

from detectors.alarms import LEVELS, Level

LANGUAGES = ("zh", "en", "mixed")


class Scale(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """The probability of a logit x is 1 / (1 + exp(-(slope x + shift)))."""

    slope: float
    shift: float


class Calibration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The contents of `calibration.json`."""

    scale: Mapping[str, Scale]
    """By category."""
    lengths: tuple[int, ...]
    """Upper borders of the classes of length, in tokens; longer texts are one class more."""
    thresholds: Mapping[Level, Mapping[str, Mapping[str, tuple[float, ...]]]]
    """Level, category, language, class of length to the probability from which it counts."""
    false_alarms: Mapping[Level, Mapping[str, float]]
    """Level, category to the share of harmless texts, held out from everything else, that reach the threshold."""
    names: Mapping[str, float]
    """Category of the token head to the mean probability from which a name is reported."""
    onward: Mapping[str, float]
    """Part of the model to the logit of the first stage from which it looks at a window."""
    shortest: int = 4
    """Texts of fewer tokens have no sequence category: one word is not a statement."""

    def problem(self, categories: tuple[str, ...], names: tuple[str, ...], parts: tuple[str, ...]) -> str:
        """What is missing for a model with these outputs and parts, or an empty string."""
        for category in categories:
            if category not in self.scale:
                return f"$.scale has no {category}"
            for level in LEVELS:
                of_level = self.thresholds.get(level, {}).get(category, {})
                for language in LANGUAGES:
                    if len(of_level.get(language, ())) != len(self.lengths) + 1:
                        return f"$.thresholds.{level}.{category}.{language} needs {len(self.lengths) + 1} numbers"
        if any(first >= second for first, second in pairwise(self.lengths)):
            return "$.lengths must rise"
        for field, wanted, given in (("names", names, self.names), ("onward", parts, self.onward)):
            if missing := [name for name in wanted if name not in given]:
                return f"$.{field} has no {missing[0]}"
        return ""

    def limits(self, level: Level, language: str, tokens: int) -> dict[str, float]:
        """Category to its threshold for a text of this language and length."""
        at = sum(tokens > border for border in self.lengths)
        return {category: limits[language][at] for category, limits in self.thresholds[level].items()}

    def probabilities(self, logits: npt.NDArray[np.float32], categories: tuple[str, ...]) -> npt.NDArray[np.float64]:
        """Probabilities of LOGITS, whose last axis is CATEGORIES."""
        slope = np.asarray([self.scale[category].slope for category in categories])
        shift = np.asarray([self.scale[category].shift for category in categories])
        return np.asarray(1.0 / (1.0 + np.exp(-np.clip(logits * slope + shift, -30, 30))), np.float64)


def language(codes: npt.NDArray[np.uint32]) -> str:
    """Which of `LANGUAGES` a text is in; five letters weigh as much as one Chinese character."""
    chinese = int(np.count_nonzero((codes >= 0x3400) & (codes <= 0x9FFF)))
    letters = int(np.count_nonzero(((codes | 32) >= 97) & ((codes | 32) <= 122)))
    share = chinese / max(1.0, chinese + letters / 5)
    return "zh" if share > 0.7 else "en" if share < 0.1 else "mixed"
