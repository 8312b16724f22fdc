"""From logits to probabilities, and from which probability a category counts."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import msgspec
import numpy as np
import numpy.typing as npt

LANGUAGES = ("zh", "en", "mixed")


class Calibration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The contents of `calibration.json`."""

    scale: Mapping[str, tuple[float, float]]
    """Category to a and b: the probability of a logit x is 1 / (1 + exp(-(a x + b)))."""
    lengths: tuple[int, ...]
    """Upper borders of the classes of length, in tokens; longer texts are one class more."""
    thresholds: Mapping[str, Mapping[str, tuple[float, ...]]]
    """Category, language, class of length to the probability from which it counts."""
    names: Mapping[str, float]
    """Category of the token head to the mean probability from which a name is reported."""
    shortest: int = 4
    """Texts of fewer tokens have no sequence category: one word is not a statement."""

    def problem(self, categories: tuple[str, ...], names: tuple[str, ...]) -> str:
        """What is missing for a model with these outputs, or an empty string."""
        for category in categories:
            if category not in self.scale:
                return f"$.scale has no {category}"
            for language in LANGUAGES:
                if len(self.thresholds.get(category, {}).get(language, ())) != len(self.lengths) + 1:
                    return f"$.thresholds.{category}.{language} needs {len(self.lengths) + 1} numbers"
        missing = [name for name in names if name not in self.names]
        if any(first >= second for first, second in pairwise(self.lengths)):
            return "$.lengths must rise"
        return f"$.names has no {missing[0]}" if missing else ""

    def limits(self, language: str, tokens: int) -> dict[str, float]:
        """Category to its threshold for a text of this language and length."""
        at = sum(tokens > border for border in self.lengths)
        return {category: limits[language][at] for category, limits in self.thresholds.items()}

    def probabilities(self, logits: npt.NDArray[np.float32], categories: tuple[str, ...]) -> npt.NDArray[np.float64]:
        """Probabilities of LOGITS, whose last axis is CATEGORIES."""
        slope = np.asarray([self.scale[category][0] for category in categories])
        shift = np.asarray([self.scale[category][1] for category in categories])
        return np.asarray(1.0 / (1.0 + np.exp(-np.clip(logits * slope + shift, -30, 30))), np.float64)


def language(codes: npt.NDArray[np.uint32]) -> str:
    """Which of `LANGUAGES` a text is in; five letters weigh as much as one Chinese character."""
    chinese = int(np.count_nonzero((codes >= 0x3400) & (codes <= 0x9FFF)))
    letters = int(np.count_nonzero(((codes | 32) >= 97) & ((codes | 32) <= 122)))
    share = chinese / max(1.0, chinese + letters / 5)
    return "zh" if share > 0.7 else "en" if share < 0.1 else "mixed"
