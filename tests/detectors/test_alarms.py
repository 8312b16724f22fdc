"""The thresholds that people choose by."""

import json
from pathlib import Path

from detectors.alarms import LEVELS, described, false_alarms


def calibration(folder: Path) -> Path:
    limits = {"zh": [0.5, 0.6], "en": [0.7, 0.8], "mixed": [0.7, 0.8]}
    of_level = {"BUSINESS_LEGAL": limits, "BUSINESS_FINANCE": limits, "INJECTION": limits}
    rates = {"BUSINESS_LEGAL": 0.001, "BUSINESS_FINANCE": 0.002, "INJECTION": 0.004}
    table = {
        "lengths": [126],
        "thresholds": dict.fromkeys(LEVELS, of_level),
        "false_alarms": dict.fromkeys(LEVELS, rates),
        "shortest": 4,
    }
    (folder / "calibration.json").write_text(json.dumps(table), "utf-8")
    return folder


def test_every_level_is_a_line_for_business_and_one_for_attacks(tmp_path: Path) -> None:
    head, *lines = described("quiet", calibration(tmp_path))
    assert "126" in head
    assert "zh 0.500 0.600  en 0.700 0.800" in lines[0]
    assert lines[0].endswith("false alarms 0.30%") and lines[1].endswith("false alarms 0.40%")
    assert [line[0] for line in lines] == [" ", " ", " ", " ", "*", "*"]


def test_a_model_without_a_table_has_no_lines(tmp_path: Path) -> None:
    assert described("balanced", tmp_path) == []
    assert false_alarms(tmp_path) == {}


def test_false_alarms_are_of_the_level(tmp_path: Path) -> None:
    assert false_alarms(calibration(tmp_path), "strict")["INJECTION"] == 0.004
