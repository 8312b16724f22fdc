"""Figures for the model card: unseen sources, held-out rows, names, and a floor of hashed character n-grams."""

from __future__ import annotations

import collections
import logging
import random
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.linear_model import SGDClassifier

from detectors.classifier import Classifier, load
from detectors.classifier.model import EncoderClassifier
from detectors.text import Text
from detectors.training import labelled, shared
from detectors.training.labelled import INJECTION, Labelled
from detectors.training.network import SEQUENCE
from detectors.training.text.row import Row

log = logging.getLogger(__name__)

MOST_PER_SOURCE = 400
FLOOR_ROWS = 40_000
FLIP_ATTACKS = 200
FLIP_WORDS = 500

Floats = npt.NDArray[np.float64]
Score = Callable[[str], float]


def f1(model: Classifier, rows: Iterable[Row], kinds: frozenset[str]) -> tuple[float, float, float]:
    """Precision, recall and F1 of exact spans of KINDS."""
    right = found = wanted = 0
    for row in rows:
        spans = set(row.spans)
        got = {
            (each.start, each.end, each.category) for each in model.predict(row.text).findings if each.category in kinds
        }
        right, found, wanted = right + len(got & spans), found + len(got), wanted + len(spans)
    precision, recall = right / max(1, found), right / max(1, wanted)
    return precision, recall, 2 * precision * recall / max(1e-9, precision + recall)


def _by_source(rows: list[Labelled], seed: int) -> dict[str, list[Labelled]]:
    found: dict[str, list[Labelled]] = collections.defaultdict(list)
    shuffled = list(rows)
    random.Random(seed).shuffle(shuffled)
    for each in shuffled:
        if each.known and len(found[each.family]) < MOST_PER_SOURCE:
            found[each.family].append(each)
    return dict(sorted(found.items()))


def recall_at(attacks: Floats, harmless: Floats, rate: float) -> float:
    """Share of ATTACKS that score above all but RATE of HARMLESS."""
    ordered = np.sort(harmless)[::-1]
    return float((attacks > ordered[int(rate * len(ordered))]).mean()) if len(attacks) else float("nan")


def unseen(score: Score, sources: dict[str, list[Labelled]], title: str) -> None:
    """Injection on the sources that the first stage left out, at 1 % false alarms on its harmless sources."""
    chosen = {name: sources[name] for name in labelled.UNSEEN if name in sources}
    values = {
        name: np.asarray([(score(each.row.text), bool(each.row.labels & INJECTION)) for each in rows], np.float64)
        for name, rows in chosen.items()
    }
    harmless = np.concatenate([each[each[:, 1] == 0, 0] for each in values.values()])
    log.info("%s: %d harmless rows of unseen sources", title, len(harmless))
    for name, each in values.items():
        attacks = each[each[:, 1] == 1, 0]
        if len(attacks):
            log.info("  %-36s %4d attacks, %.1f %% found", name, len(attacks), 100 * recall_at(attacks, harmless, 0.01))


def floor(rows: list[Labelled], seed: int) -> Score:
    """A linear model on hashed character n-grams, trained on ROWS: what the encoder has to beat."""
    known = [each for each in rows if each.known >= INJECTION]
    random.Random(seed).shuffle(known)
    known = known[:FLOOR_ROWS]
    turn = HashingVectorizer(analyzer="char_wb", ngram_range=(2, 5), n_features=2**20, alternate_sign=False)
    model = SGDClassifier(loss="log_loss", alpha=1e-6, random_state=seed)
    model.fit(turn.transform(each.row.text[:4000] for each in known), [bool(each.row.labels) for each in known])

    def score(text: str) -> float:
        return float(model.decision_function(turn.transform([text[:4000]]))[0])

    return score


def decisions(model: Classifier, sources: dict[str, list[Labelled]]) -> None:
    """What the calibrated thresholds do on held-out rows of each source."""
    for name, rows in sources.items():
        counts = collections.Counter[str]()
        for each in rows:
            got = {found.category for found in model.predict(each.row.text).findings} & set(SEQUENCE) & each.known
            counts["wanted"] += bool(each.row.labels)
            counts["found"] += bool(each.row.labels and got)
            counts["exact"] += bool(each.row.labels & got)
            counts["false"] += bool(got and not each.row.labels)
        harmless = len(rows) - counts["wanted"]
        log.info(
            "  %-36s %4d to find: %5.1f %% found (%5.1f %% named right); %4d harmless: %5.2f %% flagged",
            name,
            counts["wanted"],
            100 * counts["found"] / max(1, counts["wanted"]),
            100 * counts["exact"] / max(1, counts["wanted"]),
            harmless,
            100 * counts["false"] / max(1, harmless),
        )


def flips(model: Classifier, rows: list[Labelled], seed: int) -> tuple[int, int]:
    """How many attacks are found, and how many of those no longer are with 500 harmless words before or behind them."""
    chooser = random.Random(seed)
    plain = [each.row.text for each in rows if not each.row.labels and each.known == labelled.EVERYTHING]
    attacks = [each.row.text for each in rows if each.row.labels == INJECTION]
    found = lost = 0
    for attack in chooser.sample(attacks, min(FLIP_ATTACKS, len(attacks))):
        if not _attack(model, attack):
            continue
        found += 1
        around = ""
        while _words(around) < FLIP_WORDS:
            around += chooser.choice(plain) + "\n"
        lost += not _attack(model, f"{around}\n{attack}" if chooser.random() < 0.5 else f"{attack}\n\n{around}")
    return found, lost


def _words(text: str) -> float:
    """Words, a Chinese one having some 1.6 characters."""
    return len(text.split()) + sum("\u3400" <= letter <= "\u9fff" for letter in text) / 1.6


def _attack(model: Classifier, text: str) -> bool:
    return any(each.category == "INJECTION" for each in model.predict(text).findings)


def run(data: Path, directory: Path, first: Path | None, seed: int, *, linear: bool = True) -> None:
    """Log every figure of the model in DIRECTORY; FIRST is the export of the first stage, for unseen sources."""
    kept, held = labelled.split(data, seed)
    names = frozenset({"PERSON", "ORGANIZATION", "LOCATION"})
    model = load(directory)
    for name in ("ner_zh_uner_dev", "ner_en_wnut17_dev"):
        dev = [row for row in shared.tagged(data, "dev") if row.source == name]
        log.info("%s: precision %.3f recall %.3f F1 %.3f", name, *f1(model, dev, names))
    log.info("held-out rows of trained sources, at the calibrated thresholds")
    decisions(model, _by_source(held, seed))
    log.info("attacks found %d, of those lost among 500 harmless words %d", *flips(model, held, seed))
    if first is not None:
        stage = load(first)
        assert isinstance(stage, EncoderClassifier)  # noqa: S101 (a directory that export wrote)
        at = SEQUENCE.index("INJECTION")
        everything = _by_source([each for each in kept + held if each.family in labelled.UNSEEN], seed)
        unseen(lambda text: float(stage.logits(Text(text))[0][at]), everything, "first stage")
        if linear:
            rows = [each for each in kept if each.family not in labelled.UNSEEN]
            unseen(floor(rows, seed), everything, "hashed character n-grams")
