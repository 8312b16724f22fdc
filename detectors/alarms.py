"""How often the classifier that comes with the package takes a harmless text for a statement."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

MODEL = Path(__file__).parent / "model"
"""The classifier that comes with the package."""
LEVEL = "balanced"
"""The thresholds that the model has by itself."""


def false_alarms(directory: Path = MODEL, level: str = LEVEL) -> Mapping[str, float]:
    """Category to the share of harmless texts, held out from the training, that reach its threshold.

    Read from `false_alarms` of the model's `calibration.json`, by level and category; empty where there is none.
    """
    try:
        said: Any = msgspec.json.decode((directory / "calibration.json").read_bytes())
        rates = said["false_alarms"]
        return msgspec.convert(rates.get(level, rates), dict[str, float])
    except (OSError, msgspec.MsgspecError, KeyError, TypeError, AttributeError):
        return {}
