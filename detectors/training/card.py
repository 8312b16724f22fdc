"""The model card: what is said of every model of this recipe, and the figures of the run that made this one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detectors.alarms import LEVELS
from detectors.training.labels import BUSINESS, NAMES
from detectors.training.parts import FIRST, FROZEN, TUNED

TEXT = Path(__file__).parent / "card.md"
"""The card without its figures: `{names}` and the like stand for tables."""

BARS = {"ner_zh_uner_dev": 0.68, "ner_en_wnut17_dev": 0.66}
UNSEEN, KNOWN = 0.40, 0.80


def table(head: list[str], rows: list[list[object]]) -> str:
    lines: list[list[object]] = [[*head], ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def names(figures: Mapping[str, Mapping[str, float]]) -> str:
    rows: list[list[object]] = [
        [name, each["precision"], each["recall"], f"**{each['f1']}**", BARS.get(name, "")]
        for name, each in figures.items()
    ]
    return table(["set", "precision", "recall", "F1", "bar"], rows)


def at_rate(figures: Mapping[str, Mapping[str, float]]) -> str:
    kinds = ("business recall", "pairs both right", "injection recall")
    return table(
        ["language", *kinds, "harmless rows"],
        [[language, *(_percent(each[kind]) for kind in kinds), each["harmless"]] for language, each in figures.items()],
    )


def sources(figures: Mapping[str, Mapping[str, float]], side: str) -> str:
    """The share of each source that is found, or flagged, at each level."""
    rows: list[list[object]] = [
        [name, each[side], *(_percent(each[f"{side} {level}"]) for level in LEVELS)]
        for name, each in figures.items()
        if each.get(side)
    ]
    return table(["source", "rows", *LEVELS], rows)


def unseen(figures: Mapping[str, float]) -> str:
    return table(["source", "found"], [[name, _percent(share)] for name, share in figures.items()])


def write(directory: Path, figures: Mapping[str, Any]) -> None:
    """Write DIRECTORY's README.md from FIGURES, what `evaluate.run` gives."""
    text = TEXT.read_text("utf-8")
    parts = {
        "categories": ", ".join(f"`{name}`" for name in BUSINESS),
        "named": ", ".join(f"`{name}`" for name in NAMES),
        "layers": f"{FIRST} layers, then {FROZEN - FIRST} more, then branches of {TUNED}",
        "names": names(figures["names"]),
        "at_rate": at_rate(figures["at 1 %"]),
        "found": sources(figures["sources"], "wanted"),
        "flagged": sources(figures["sources"], "harmless"),
        "unseen": unseen(figures["unseen"]),
    }
    for name, value in parts.items():
        text = text.replace("{" + name + "}", value)
    (directory / "README.md").write_text(text, "utf-8")
