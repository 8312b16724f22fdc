"""Calibration: from the logits of held-out rows to probabilities and thresholds."""

from __future__ import annotations

import itertools
import json
import logging
import random
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression

from detectors.classifier import load
from detectors.classifier.calibration import LANGUAGES, Calibration
from detectors.classifier.model import EncoderClassifier
from detectors.text import Text
from detectors.training import labelled
from detectors.training.labelled import INJECTION, Labelled
from detectors.training.network import NAMES, SEQUENCE

log = logging.getLogger(__name__)

ONE_WINDOW = 126
LENGTHS = (32, ONE_WINDOW, 1000)
"""Borders of the classes of length: a line, one window, a page, more."""

FALSE_ALARMS = {"INJECTION": 0.004} | dict.fromkeys(sorted(set(SEQUENCE) - INJECTION), 0.001)
"""Share of harmless rows that may reach a threshold; all categories together stay near one percent."""

CARRIERS = frozenset({"indirect_injection_bipia_train"})
"""Sets whose harmless texts are what their attacks stand in: they do not say how often harmless text is flagged."""

PROSE = frozenset(
    {
        "unlabelled_zh_docs",
        "unlabelled_en_handbooks",
        "dialogue_zh",
        "dialogue_en_sgd_train",
        "benign_zh_medical_qa",
        "benign_en_t0_prompts",
        "meeting_zh_vcsum_long_train",
    }
)
"""What long harmless texts are put together from: reading matter, not the prompts that play with roles and rules."""

LONG = 2.0
"""How many times the share of false alarms texts of more than one window may have: they have more chances of one."""

ALIKE = {"INJECTION": 6.0}
ALIKE_BUSINESS = 12.0
"""How many times that share of the look-alikes may reach it, which are written to be mistaken."""

LEAST = 0.06
"""No threshold is lower, however quiet the harmless rows are."""

MOST_ROWS = 7_000
NAME_LIMITS = tuple(at / 20 for at in range(8, 19))

PAIRS = frozenset({"business-zh", "business-en", "injection_zh", "injection_en"})
"""Families of generated pairs of a text to find and one that looks like it."""

Floats = npt.NDArray[np.float64]


class Scored(msgspec.Struct, frozen=True):
    """A held-out row with the model's logits."""

    each: Labelled
    logits: npt.NDArray[np.float32]
    tokens: int
    language: str


def blank() -> Calibration:
    """What a model is served with before it is calibrated."""
    flat = (0.5,) * (len(LENGTHS) + 1)
    thresholds = {category: dict.fromkeys(LANGUAGES, flat) for category in SEQUENCE}
    return Calibration(dict.fromkeys(SEQUENCE, (1.0, 0.0)), LENGTHS, thresholds, dict.fromkeys(NAMES, 0.5))


def scored(model: EncoderClassifier, rows: list[Labelled]) -> list[Scored]:
    """ROWS with their logits."""
    return [Scored(each, *model.logits(Text(each.row.text))) for each in rows]


def _long(rows: list[Labelled], seed: int) -> Iterator[Labelled]:
    """Harmless long texts, of harmless rows in a row: in many windows a false alarm has many chances."""
    chooser = random.Random(seed)
    plain = [each for each in rows if each.family in PROSE]
    for target in [1500] * 250 + [5000] * 250 + [15_000] * 60:
        parts: list[str] = []
        while sum(map(len, parts)) < target:
            parts.append(chooser.choice(plain).row.text)
        row = msgspec.structs.replace(plain[0].row, text="\n\n".join(parts), source="long")
        yield Labelled(row, labelled.EVERYTHING, False)


def fit(logits: Floats, wanted: Floats) -> tuple[float, float]:
    """Platt's scale and shift: logistic regression on the logit alone. A scale near zero would turn the order round."""
    if not 0 < wanted.sum() < len(wanted):
        return 1.0, 0.0
    found = LogisticRegression(C=100.0).fit(logits[:, None], wanted)
    return round(max(float(found.coef_[0, 0]), 0.1), 5), round(float(found.intercept_[0]), 5)


def threshold(harmless: Floats, rate: float) -> float:
    """The probability that a share of RATE of the harmless rows reaches; of few rows, one above their highest."""
    if not len(harmless):
        return LEAST
    ordered = np.sort(harmless)[::-1]
    at = int(rate * len(ordered))
    return float(min(0.98, max(LEAST, ordered[at] + 1e-4)))


def thresholds(
    rows: list[Scored], number: int, category: str, scale: tuple[float, float]
) -> dict[str, tuple[float, ...]]:
    """For each language and class of length; mixed text takes the stricter of the two languages."""
    borders = (0, *LENGTHS, 10**9)
    found: dict[str, list[float]] = {"zh": [], "en": []}
    for language, limits in found.items():
        for low, high in itertools.pairwise(borders):
            most = FALSE_ALARMS[category] * (LONG if low >= ONE_WINDOW else 1.0)
            harmless = [
                each
                for each in rows
                if category in each.each.known
                and not each.each.row.labels
                and each.each.family not in CARRIERS
                and each.language in (language, "mixed")
                and low <= each.tokens <= high
            ]
            limit = 0.0
            for alike, rate in ((False, most), (True, ALIKE.get(category, ALIKE_BUSINESS) * most)):
                logits = [each.logits[number] for each in harmless if (each.each.family in PAIRS) == alike]
                share = 1 / (1 + np.exp(-(np.asarray(logits, np.float64) * scale[0] + scale[1])))
                limit = max(limit, threshold(share, rate))
            limits.append(round(limit, 4))
    mixed = tuple(max(pair) for pair in zip(found["zh"], found["en"], strict=True))
    return {"zh": tuple(found["zh"]), "en": tuple(found["en"]), "mixed": mixed}


def names(model: EncoderClassifier, rows: list[Labelled]) -> dict[str, float]:
    """The limit of each category of names that gives the best F1 on held-out rows."""
    everything = dict.fromkeys(NAMES, 0.0)
    found = [(each.row, model.predict(each.row.text, thresholds=everything).findings) for each in rows]
    best: dict[str, float] = {}
    for name in NAMES:
        total = sum(kind == name for row, _ in found for _, _, kind in row.spans)
        result: list[tuple[float, float]] = []
        for limit in NAME_LIMITS:
            right = wrong = 0
            for row, findings in found:
                spans = {(start, end) for start, end, kind in row.spans if kind == name}
                for each in findings:
                    if each.category == name and each.score >= limit:
                        hit = (each.start, each.end) in spans
                        right, wrong = right + hit, wrong + (not hit)
            result.append((2 * right / max(1, right + wrong + total), limit))
        best[name] = max(result)[1]
        log.info("%s: F1 %.3f at %.2f of %d", name, *max(result), total)
    return best


def run(data: Path, directory: Path, seed: int) -> None:
    """Write DIRECTORY's calibration.json from the rows that training held out."""
    path = directory / "calibration.json"
    write(path, blank())
    model = load(directory)
    assert isinstance(model, EncoderClassifier)  # noqa: S101 (a directory that export wrote)
    _, held = labelled.split(data, seed)
    random.Random(seed).shuffle(held)
    tagged = [each for each in held if each.tagged][:2500]
    rows = [each for each in held if each.known][:MOST_ROWS]
    log.info("%d held-out rows", len(rows))
    found = scored(model, [*rows, *_long(rows, seed)])
    scale: dict[str, tuple[float, float]] = {}
    limits: dict[str, dict[str, tuple[float, ...]]] = {}
    for number, category in enumerate(SEQUENCE):
        known = [each for each in found if category in each.each.known]
        logits = np.asarray([each.logits[number] for each in known], np.float64)
        wanted = np.asarray([category in each.each.row.labels for each in known], np.float64)
        scale[category] = fit(logits, wanted)
        limits[category] = thresholds(found, number, category, scale[category])
        log.info("%s: scale %s thresholds %s", category, scale[category], limits[category])
    write(path, Calibration(scale, LENGTHS, limits, names(model, tagged)))


def write(path: Path, calibration: Calibration) -> None:
    """As JSON that people can read."""
    path.write_text(json.dumps(msgspec.to_builtins(calibration), indent=1) + "\n", "utf-8")
