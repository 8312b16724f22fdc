"""Figures for the model card, of the model as it is served and on rows that training and calibration left alone."""

from __future__ import annotations

import json
import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from detectors.alarms import LEVELS
from detectors.classifier import Classifier, load
from detectors.classifier.model import EncoderClassifier
from detectors.training import calibrate, labelled, shared
from detectors.training.labelled import Labelled, is_business
from detectors.training.labels import INJECTION, SEQUENCE
from detectors.training.text.row import Row
from detectors.training.work import Work

log = logging.getLogger(__name__)

Figures = dict[str, Any]
NAMED = frozenset({"PERSON", "ORGANIZATION", "LOCATION"})
RATE = 0.01
Bools = npt.NDArray[np.bool_]


def f1(model: Classifier, rows: Iterable[Row], kinds: frozenset[str] = NAMED) -> dict[str, float]:
    """Precision, recall and F1 of exact spans of KINDS."""
    right = found = wanted = 0
    for row in rows:
        spans = set(row.spans)
        got = {
            (each.start, each.end, each.category) for each in model.predict(row.text).findings if each.category in kinds
        }
        right, found, wanted = right + len(got & spans), found + len(got), wanted + len(spans)
    precision, recall = right / max(1, found), right / max(1, wanted)
    return {
        "precision": round(precision, 3),
        "recall": round(recall, 3),
        "f1": round(2 * right / max(1, found + wanted), 3),
    }


def names(work: Work, model: Classifier) -> Figures:
    """F1 on the tagged sets' dev parts, which nothing is trained or chosen on."""
    dev = list(shared.tagged(work.data, "dev"))
    return {name: f1(model, [row for row in dev if row.source == name]) for name in sorted({row.source for row in dev})}


def sources(scored: Sequence[calibrate.Scored], model: EncoderClassifier) -> Figures:
    """By source and level: of rows to find the share found, of others the share flagged."""
    every: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for row in scored:
        family = row.each.row.source if row.each.family.startswith("hand/harmless") else row.each.family
        counts = every[family]
        side = "wanted" if row.each.row.labels else "harmless"
        counts[side] += 1
        probabilities = model.calibration.probabilities(row.logits, SEQUENCE)
        for level in LEVELS:
            limits = model.calibration.limits(level, row.language, row.tokens)
            got = {name for name, value in zip(SEQUENCE, probabilities, strict=True) if value >= limits[name]}
            counts[f"{side} {level}"] += bool(got & row.each.known)
    return {
        family: {
            name: count if name in ("wanted", "harmless") else round(count / counts[name.split()[0]], 4)
            for name, count in sorted(counts.items())
        }
        for family, counts in sorted(every.items())
    }


def at_rate(scored: Sequence[calibrate.Scored]) -> Figures:
    """Recall at 1 % of the harmless rows, one threshold for all, by language; pairs of which both are right there."""
    found: Figures = {}
    for language in ("zh", "en"):
        rows = [row for row in scored if (row.language == "en") == (language == "en")]
        business = np.asarray([row.logits[:-1].max() for row in rows])
        attack = np.asarray([row.logits[-1] for row in rows])
        quiet = {id(row) for row in calibrate.harmless(rows, INJECTION)}
        harmless = np.asarray([id(row) in quiet and row.each.known == labelled.KNOWN for row in rows])
        hostile = np.asarray([INJECTION in row.each.row.labels for row in rows])
        pairs = np.asarray([_is_pair(row.each) for row in rows])
        wanted = np.asarray([is_business(row.each) for row in rows])
        limits = [np.sort(values[harmless])[::-1][int(RATE * harmless.sum())] for values in (business, attack)]
        found[language] = {
            "business recall": round(float((business[wanted] > limits[0]).mean()), 3),
            "pairs both right": round(_both(business[pairs] > limits[0], wanted[pairs]), 3),
            "injection recall": round(float((attack[hostile] > limits[1]).mean()), 3),
            "harmless": int(harmless.sum()),
        }
    return found


def _is_pair(each: Labelled) -> bool:
    return each.family.startswith("hand/pairs") and not each.row.source.endswith(labelled.AROUND)


def _both(flagged: Bools, wanted: Bools) -> float:
    """Share of pairs, each a row to find and behind it the one that is not, that are told apart."""
    first = np.flatnonzero(wanted[:-1] & ~wanted[1:])
    return float((flagged[first] & ~flagged[first + 1]).mean()) if len(first) else float("nan")


def run(work: Work, directory: Path) -> Figures:
    """Every figure of the model in DIRECTORY."""
    model = load(directory)
    assert isinstance(model, EncoderClassifier)  # noqa: S101 (a directory that export wrote)
    rows = calibrate.of_part(work.sequence, "measure", work.seed)
    scored = calibrate.scored(model, rows)
    parts: Mapping[str, Callable[[], Figures]] = {
        "names": lambda: names(work, model),
        "at 1 %": lambda: at_rate(scored),
        "sources": lambda: sources(scored, model),
        "unseen": lambda: json.loads((work.folder / "unseen.json").read_text("utf-8")),
    }
    figures: Figures = {}
    for name, part in parts.items():
        figures[name] = part()
        log.info("%s: %s", name, json.dumps(figures[name], indent=1))
    return figures
