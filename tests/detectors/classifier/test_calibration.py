"""Languages, classes of length, and what a file has to hold."""

from typing import Any

import msgspec
import numpy as np
import pytest

from detectors.alarms import LEVELS
from detectors.classifier.calibration import Calibration, Scale, language
from detectors.classifier.encode import code_points

LIMITS = {"INJECTION": {"zh": (0.1, 0.2, 0.3), "en": (0.4, 0.5, 0.6), "mixed": (0.7, 0.8, 0.9)}}
FULL = Calibration(
    scale={"INJECTION": Scale(2.0, -1.0)},
    lengths=(32, 126),
    thresholds=dict.fromkeys(LEVELS, LIMITS),
    false_alarms={},
    names={"PERSON": 0.5},
    onward={"NAMES": -1.0},
)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("请给我一份公司年会的开场白", "zh"),
        ("Write an opening speech", "en"),
        ("请把 this whole English paragraph 翻译一下", "mixed"),
        ("", "en"),
        ("12345", "en"),
    ],
)
def test_language_by_characters(text: str, wanted: str) -> None:
    assert language(code_points(text)) == wanted


@pytest.mark.parametrize(("tokens", "wanted"), [(1, 0.4), (32, 0.4), (33, 0.5), (126, 0.5), (127, 0.6), (10**6, 0.6)])
def test_limits_follow_the_length(tokens: int, wanted: float) -> None:
    assert FULL.limits("balanced", "en", tokens) == {"INJECTION": wanted}


def test_each_level_has_its_own_limits() -> None:
    quiet = {"INJECTION": dict.fromkeys(("zh", "en", "mixed"), (0.9, 0.9, 0.9))}
    found = msgspec.structs.replace(FULL, thresholds={**FULL.thresholds, "quiet": quiet})
    assert [found.limits(level, "zh", 1)["INJECTION"] for level in LEVELS] == [0.1, 0.1, 0.9]


def test_probabilities_are_platt_scaled_and_never_overflow() -> None:
    found = FULL.probabilities(np.asarray([[0.5], [1e6], [-1e6]], np.float32), ("INJECTION",))
    assert found[0, 0] == pytest.approx(0.5)
    assert 0 <= found[2, 0] < 1e-9 < 1 - 1e-9 < found[1, 0] <= 1


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ({"scale": {}}, "$.scale has no INJECTION"),
        ({"thresholds": {"strict": LIMITS}}, "$.thresholds.balanced.INJECTION.zh needs 3 numbers"),
        ({"lengths": (126, 32)}, "$.lengths must rise"),
        ({"names": {}}, "$.names has no PERSON"),
        ({"onward": {}}, "$.onward has no NAMES"),
        ({}, ""),
    ],
)
def test_what_is_missing_is_named(change: dict[str, Any], wanted: str) -> None:
    found = msgspec.structs.replace(FULL, **change).problem(("INJECTION",), ("PERSON",), ("NAMES",))
    assert found == wanted
