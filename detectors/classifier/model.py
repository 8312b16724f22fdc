"""The model of this package: a cascade of graphs over windows of a text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from detectors.alarms import LEVEL, Level
from detectors.classifier import regions, windows
from detectors.classifier.calibration import Calibration, language
from detectors.classifier.cascade import NOTHING, Cascade, Ints, Seen
from detectors.classifier.encode import Encoded, encode
from detectors.classifier.names import Tags, decode
from detectors.classifier.prediction import Prediction, moved
from detectors.findings import Finding
from detectors.text import Text

NARROW = 94
"""Width of the windows of a text that is longer than the model's own. One sentence among others weighs more in a narrow
window, but narrow windows share more tokens with their neighbours."""

OVERLAP = 16
"""Tokens that neighbouring windows share."""

Floats = npt.NDArray[np.float32]


class EncoderClassifier:
    """Serves one directory; see `detectors.classifier.load`."""

    def __init__(
        self,
        name: str,
        cascade: Cascade,
        tokenizer: Any,
        calibration: Calibration,
        categories: tuple[str, ...],
        tags: Tags,
        *,
        window: int = 128,
    ) -> None:
        self.name = name
        self.categories = categories
        self.calibration = calibration
        self._cascade = cascade
        self._tokenizer = tokenizer
        self._tags = tags
        self._wide = window - 2
        self._narrow = min(NARROW, self._wide)
        self._ends = np.asarray([[tokenizer.token_to_id("<s>")], [tokenizer.token_to_id("</s>")]], np.int64)

    def __repr__(self) -> str:
        return (
            f"EncoderClassifier({self.name!r}, {len(self.categories)} categories, {len(self._tags.categories)} names)"
        )

    def predict(
        self,
        text: Text | str,
        *,
        thresholds: Mapping[str, float] | None = None,
        level: Level = LEVEL,
        most: int | None = None,
    ) -> Prediction:
        """See `Classifier.predict`. Names have no entry in `scores`."""
        whole = text if isinstance(text, Text) else Text(text)
        encoded = encode(self._tokenizer.encode, whole.plain)
        size = len(encoded.ids)
        limits = self.calibration.limits(level, language(encoded.codes), size) | dict(thresholds or {})
        limits = {category: limits[category] for category in self.categories}
        if not size:
            return Prediction(dict.fromkeys(self.categories, 0.0), [], limits)
        begins, width, complete = self._cut(size, most)
        seen = self._run(encoded, begins, width)
        found = self._names(seen, begins, width, encoded, whole.plain, thresholds or {})
        scores = np.zeros(len(self.categories))
        if size >= self.calibration.shortest:
            each = self.calibration.probabilities(np.stack([one.logits for one in seen]), self.categories)
            each[np.stack([one.logits for one in seen]) <= NOTHING] = 0.0
            scores = each.max(0)
            found += self._regions(each, seen, begins, encoded, whole.plain, limits)
        spans = sorted(moved(each, whole) for each in found)
        return Prediction(
            {category: round(float(score), 6) for category, score in zip(self.categories, scores, strict=True)},
            spans,
            limits,
            complete,
        )

    def logits(self, text: Text) -> tuple[Floats, int, str]:
        """For calibration: the highest logit of each category over the windows, the number of tokens, the language."""
        encoded = encode(self._tokenizer.encode, text.plain)
        size = len(encoded.ids)
        if not size:
            return np.full(len(self.categories), NOTHING, np.float32), 0, language(encoded.codes)
        begins, width, _ = self._cut(size, None)
        every = np.stack([one.logits for one in self._run(encoded, begins, width)])
        return every.max(0), size, language(encoded.codes)

    def first_look(self, text: Text) -> Floats:
        """The first graph's logits by PARTS, the highest over the windows. Raises ValueError for a text of nothing."""
        encoded = encode(self._tokenizer.encode, text.plain)
        begins, width, _ = self._cut(len(encoded.ids), None)
        found: Floats = self._cascade.look(self._rows(encoded, begins, width)).max(0)
        return found

    def _rows(self, encoded: Encoded, begins: list[int], width: int) -> list[Ints]:
        """The ids of the windows that begin at BEGINS, with their marks."""
        opening, closing = self._ends
        return [np.concatenate([opening, encoded.ids[at : at + width], closing]) for at in begins]

    def _cut(self, size: int, most: int | None) -> tuple[list[int], int, bool]:
        """Where the windows of a text of SIZE tokens begin, how wide they are, and whether they cover all of it."""
        width = self._wide if size <= self._wide else self._narrow
        every = windows.starts(size, width, OVERLAP)
        picked = windows.chosen(len(every), windows.MOST if most is None else most)
        return [every[at] for at in picked], width, len(picked) == len(every)

    def _run(self, encoded: Encoded, begins: list[int], width: int) -> list[Seen]:
        """What the model says of each window. Windows that hold the same tokens run once: a text that repeats itself
        costs no more than what it repeats."""
        keys = [encoded.ids[at : at + width].tobytes() for at in begins]
        first = {key: at for at, key in reversed(list(enumerate(keys)))}
        unique = sorted(first.values())
        rows = self._rows(encoded, [begins[at] for at in unique], width)
        seen = dict(zip(unique, self._cascade.run(rows), strict=True))
        return [seen[first[key]] for key in keys]

    def _names(
        self,
        seen: list[Seen],
        begins: list[int],
        width: int,
        encoded: Encoded,
        text: str,
        thresholds: Mapping[str, float],
    ) -> list[Finding]:
        if all(each.tags is None for each in seen):
            return []
        every = np.full((len(encoded.ids), len(self._tags.categories) * 2 + 1), -20, np.float32)
        every[:, 0] = 0
        owned = windows.owners(begins, width, len(encoded.ids))
        for each, begin, (first, last) in zip(seen, begins, owned, strict=True):
            if each.tags is not None:
                every[first:last] = each.tags[first - begin : last - begin]
        powers = np.exp(every - every.max(1, keepdims=True)).astype(np.float64)
        limits = {name: thresholds.get(name, limit) for name, limit in self.calibration.names.items()}
        return decode(powers / powers.sum(1, keepdims=True), encoded, text, self._tags, limits)

    def _regions(
        self,
        scores: npt.NDArray[np.float64],
        seen: list[Seen],
        begins: list[int],
        encoded: Encoded,
        text: str,
        limits: Mapping[str, float],
    ) -> list[Finding]:
        """What reached its threshold, as the sentence of its window that speaks most for it; regions that touch are
        one."""
        found: list[Finding] = []
        for number, category in enumerate(self.categories):
            parts: list[Finding] = []
            for at in np.flatnonzero(scores[:, number] >= limits[category]):
                where = seen[at].where
                if where is None:  # a caller's threshold of nothing: no sentence speaks for it
                    where = np.zeros((min(len(encoded.ids), 1), 2), np.float32)
                weights = where[:, 1 if category == "INJECTION" else 0]
                start, end = regions.strongest(weights, encoded, begins[at], text)
                score = round(float(scores[at, number]), 4)
                if parts and start <= parts[-1].end:
                    start, score = parts[-1].start, max(score, parts[-1].score)
                    end = max(end, parts.pop().end)
                parts.append(Finding(start, end, category, score, "classifier"))
            found += parts
        return found
