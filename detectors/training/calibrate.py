"""Calibration: from the logits of rows that training left alone to probabilities and thresholds."""

from __future__ import annotations

import itertools
import json
import logging
import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression

from detectors.alarms import LEVELS, Level
from detectors.classifier import load
from detectors.classifier.calibration import LANGUAGES, Calibration, Scale
from detectors.classifier.cascade import NOTHING, PARTS
from detectors.classifier.model import EncoderClassifier
from detectors.text import Text
from detectors.training import labelled
from detectors.training.labelled import Labelled, Part
from detectors.training.labels import BUSINESS, INJECTION, NAMES, SEQUENCE, WINDOW
from detectors.training.onward import limits as limits_onward
from detectors.training.work import Work

log = logging.getLogger(__name__)

LENGTHS = (32, WINDOW - 2, 1000)
"""Borders of the classes of length: a line, one window, a page, more."""

RATES: dict[Level, float] = {"strict": 0.01, "balanced": 0.0025, "quiet": 0.0005}
"""Share of harmless rows that may reach a threshold, of all categories of business together, or of attacks."""

LEVEL_OF_KINDS = 2.0
"""How many times that share of the rows of any one kind may reach it, where there are enough to tell."""

ENOUGH = 80
"""Rows of one kind of which a share can be told."""

LONG = 2.0
"""How many times the share of false alarms texts of more than one window may have: they have more chances of one."""

LEAST, GREATEST = 0.05, 0.995
"""No threshold is outside these, however quiet or loud the harmless rows are."""

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

MOST = 120
"""Rows of one source that a part is made of."""

NAME_LIMITS = tuple(at / 20 for at in range(8, 19))
OPEN = -100.0
"""A limit of the first look that lets every window pass."""

SHUT = 1e9
"""One that lets none pass."""

Floats = npt.NDArray[np.float64]


class Scored(msgspec.Struct, frozen=True):
    """A row with the model's logits."""

    each: Labelled
    logits: npt.NDArray[np.float32]
    tokens: int
    language: str


def blank() -> Calibration:
    """What a model is served with before it is calibrated."""
    flat = (0.5,) * (len(LENGTHS) + 1)
    of_level = {category: dict.fromkeys(LANGUAGES, flat) for category in SEQUENCE}
    return Calibration(
        dict.fromkeys(SEQUENCE, Scale(1.0, 0.0)),
        LENGTHS,
        dict.fromkeys(LEVELS, of_level),
        dict.fromkeys(LEVELS, dict.fromkeys(SEQUENCE, 0.0)),
        dict.fromkeys(NAMES, 0.5),
        dict.fromkeys(PARTS, OPEN),
    )


def scored(model: EncoderClassifier, rows: Sequence[Labelled]) -> list[Scored]:
    """ROWS with their logits."""
    return [Scored(each, *model.logits(Text(each.row.text))) for each in rows]


def long(rows: Sequence[Labelled], seed: int) -> Iterator[Labelled]:
    """Harmless long texts, of harmless rows in a row: in many windows a false alarm has many chances."""
    chooser = random.Random(seed)
    plain = [each for each in rows if each.family in PROSE]
    for target in [1500] * 60 + [5000] * 12 + [15_000] * 2:
        parts: list[str] = []
        while sum(map(len, parts)) < target:
            parts.append(chooser.choice(plain).row.text)
        row = msgspec.structs.replace(plain[0].row, text="\n\n".join(parts), source="long")
        yield Labelled(row, labelled.KNOWN, False)


def kind(each: Labelled) -> str:
    """What sort of text a row is, for shares of false alarms."""
    parts = each.row.source.split("/")
    return parts[-1] if parts[0] == "hand" and parts[1].startswith("harmless") else each.family


def harmless(rows: Sequence[Scored], category: str) -> list[Scored]:
    """Those of ROWS that hold nothing, and of which that is known for CATEGORY. The harmless sides of pairs and
    look-alikes are not among them: they were written to be mistaken, and nobody sends them by the thousand."""
    return [
        row
        for row in rows
        if category in row.each.known
        and not row.each.row.labels
        and not row.each.family.startswith(("hand/pairs", "hand/injections"))
    ]


def fit(logits: Floats, wanted: Floats) -> Scale:
    """Platt's scale and shift: logistic regression on the logit alone. A scale near zero would turn the order round."""
    if not 0 < wanted.sum() < len(wanted):
        return Scale(1.0, 0.0)
    found = LogisticRegression(C=100.0).fit(logits[:, None], wanted)
    return Scale(round(max(float(found.coef_[0, 0]), 0.1), 5), round(float(found.intercept_[0]), 5))


def threshold(values: Floats, rate: float) -> float:
    """The probability that a share of RATE of the harmless VALUES reaches; of few, one above their highest."""
    if not len(values):
        return LEAST
    ordered = np.sort(values)[::-1]
    return float(min(GREATEST, max(LEAST, ordered[int(rate * len(ordered))] + 1e-4)))


def _thresholds(rows: Sequence[Scored], column: Floats, rate: float) -> dict[str, tuple[float, ...]]:
    """For each language and class of length; mixed text takes the stricter of the two languages."""
    borders = (0, *LENGTHS, 10**9)
    found: dict[str, list[float]] = {"zh": [], "en": []}
    for language, limits in found.items():
        for low, high in itertools.pairwise(borders):
            wide = rate * (LONG if low >= WINDOW - 2 else 1.0)
            groups: defaultdict[str, list[float]] = defaultdict(list)
            for row, value in zip(rows, column, strict=True):
                if row.language in (language, "mixed") and low <= row.tokens <= high:
                    groups[kind(row.each)].append(value)
            every = np.asarray([value for values in groups.values() for value in values], np.float64)
            limit = threshold(every, wide)
            for values in groups.values():
                if len(values) >= ENOUGH:
                    limit = max(limit, threshold(np.asarray(values, np.float64), LEVEL_OF_KINDS * wide))
            limits.append(round(limit, 4))
    mixed = tuple(max(pair) for pair in zip(found["zh"], found["en"], strict=True))
    return {"zh": tuple(found["zh"]), "en": tuple(found["en"]), "mixed": mixed}


def names(model: EncoderClassifier, rows: Sequence[Labelled]) -> dict[str, float]:
    """The limit of each category of names that gives the best F1."""
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


def of_part(rows: Sequence[Labelled], part: Part, seed: int) -> list[Labelled]:
    """The rows of a part, at most MOST of each source, pairs side by side."""
    groups: defaultdict[str, list[Labelled]] = defaultdict(list)
    for each in rows:
        if each.part == part:
            groups[each.family].append(each)
    found = []
    for family in sorted(groups):
        several = groups[family]
        if not family.startswith("hand/pairs"):
            random.Random(seed).shuffle(several)
        found += several[:MOST]
    return found


def _served(directory: Path, calibration: Calibration) -> EncoderClassifier:
    """The model with another calibration, which is written beside it."""
    write(directory / "calibration.json", calibration)
    model = load(directory)
    assert isinstance(model, EncoderClassifier)  # noqa: S101 (a directory that export wrote)
    return model


def run(work: Work, directory: Path) -> None:
    """Write DIRECTORY's calibration.json. Limits, scale and thresholds come from the rows of the part `calibrate`,
    false alarms from those of the part `measure`."""
    onward = limits_onward(work, _served(directory, blank()))
    without_names = msgspec.structs.replace(blank(), onward=onward | {"NAMES": SHUT})
    model = _served(directory, without_names)
    rows = of_part(work.sequence, "calibrate", work.seed)
    log.info("%d rows to calibrate on", len(rows))
    found = scored(model, [*rows, *long(rows, work.seed)])
    scale: dict[str, Scale] = {}
    limits: dict[Level, dict[str, dict[str, tuple[float, ...]]]] = {level: {} for level in LEVELS}
    for categories in (BUSINESS, (INJECTION,)):
        numbers = [SEQUENCE.index(category) for category in categories]
        known = [each for each in found if categories[0] in each.each.known]
        top = np.asarray([each.logits[numbers].max() for each in known], np.float64)
        wanted = np.asarray([not each.each.row.labels.isdisjoint(categories) for each in known], np.float64)
        looked = top > NOTHING
        one = fit(top[looked], wanted[looked])
        quiet = harmless(found, categories[0])
        logits = np.asarray([each.logits[numbers].max() for each in quiet], np.float64)
        column = np.where(logits <= NOTHING, 0.0, 1 / (1 + np.exp(-(logits * one.slope + one.shift))))
        for level in LEVELS:
            of_level = _thresholds(quiet, column, RATES[level])
            limits[level] |= dict.fromkeys(categories, of_level)
            log.info("%s %s: %s", categories[0], level, of_level)
        scale |= dict.fromkeys(categories, one)
    tagged = of_part(work.names, "calibrate", work.seed)
    whole = _served(directory, msgspec.structs.replace(blank(), onward=onward))
    made = Calibration(scale, LENGTHS, limits, {}, names(whole, tagged), onward)
    write(directory / "calibration.json", msgspec.structs.replace(made, false_alarms=alarms(work, model, made)))


def alarms(work: Work, model: EncoderClassifier, made: Calibration) -> dict[Level, dict[str, float]]:
    """Shares of the harmless rows of the part `measure` that reach the thresholds of each level, by category."""
    rows = of_part(work.sequence, "measure", work.seed)
    found = harmless(scored(model, rows), INJECTION)
    result: dict[Level, dict[str, float]] = {}
    for level in LEVELS:
        counts = dict.fromkeys(SEQUENCE, 0)
        for row in found:
            limits = made.limits(level, row.language, row.tokens)
            looked = row.logits > NOTHING
            for category, value, seen in zip(SEQUENCE, made.probabilities(row.logits, SEQUENCE), looked, strict=True):
                counts[category] += bool(seen and value >= limits[category] and category in row.each.known)
        result[level] = {category: round(count / len(found), 5) for category, count in counts.items()}
    return result


def write(path: Path, calibration: Calibration) -> None:
    """As JSON that people can read."""
    path.write_text(json.dumps(msgspec.to_builtins(calibration), indent=1) + "\n", "utf-8")
