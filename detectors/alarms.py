"""How often the classifier that comes with the package takes a harmless text for a statement."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec

MODEL = Path(__file__).parent / "model"
"""The classifier that comes with the package."""
Level = Literal["strict", "balanced", "quiet"]
"""Which of the model's thresholds count: `strict` finds most and errs most."""
LEVELS: tuple[Level, ...] = get_args(Level)
LEVEL: Level = "balanced"
"""The thresholds that the model has by itself."""


class Table(msgspec.Struct, frozen=True):
    """What of `calibration.json` people choose by."""

    lengths: list[int]
    thresholds: dict[Level, dict[str, dict[str, list[float]]]]
    false_alarms: dict[Level, dict[str, float]]


def described(chosen: Level, directory: Path = MODEL) -> list[str]:
    """The thresholds of every level with the share of harmless texts that reach them, as lines; CHOSEN is marked.

    All categories of business information share their thresholds; their shares are added. Empty for another model.
    """
    try:
        table = msgspec.json.decode((directory / "calibration.json").read_bytes(), type=Table)
    except (OSError, msgspec.DecodeError):
        return []
    borders = ", ".join(map(str, table.lengths))
    lines = [f"probability from which a text of up to {borders} and more tokens counts, in Chinese and English:"]
    for level in LEVELS:
        of_level = table.thresholds[level]
        for name in ("BUSINESS", "INJECTION"):
            meant = [category for category in of_level if category.startswith(name)]
            said = "  ".join(
                f"{language} " + " ".join(f"{limit:.3f}" for limit in of_level[meant[0]][language])
                for language in ("zh", "en")
            )
            share = sum(table.false_alarms[level].get(category, 0.0) for category in meant)
            mark = "*" if level == chosen else " "
            lines.append(f"{mark} {level:<9}{name:<10}{said}  false alarms {share:.2%}")
    return lines


def false_alarms(directory: Path = MODEL, level: Level = LEVEL) -> Mapping[str, float]:
    """Category to the share of harmless texts, held out from the training, that reach its threshold.

    Read from `false_alarms` of the model's `calibration.json`, by level and category; empty where there is none.
    """
    try:
        said: Any = msgspec.json.decode((directory / "calibration.json").read_bytes())
        rates = said["false_alarms"]
        return msgspec.convert(rates.get(level, rates), dict[str, float])
    except (OSError, msgspec.MsgspecError, KeyError, TypeError, AttributeError):
        return {}
