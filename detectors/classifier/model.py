"""The model of this package: an encoder in ONNX with a token head and a sequence head."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from detectors.classifier import windows
from detectors.classifier.calibration import Calibration, language
from detectors.classifier.encode import Encoded, encode
from detectors.classifier.names import Tags, decode
from detectors.classifier.prediction import Prediction, moved
from detectors.findings import Finding
from detectors.text import Text

BATCH = 4
"""Windows that run together."""

NARROW = 62
"""Width of the windows of a text that is longer than the model's own. A token costs no more in a narrow window, and one
sentence among others weighs more in it: half as many attacks hide in harmless text."""

OVERLAP = 14
"""Tokens that neighbouring windows share."""

_STOPS = "\n。！？!?；"
_MASS = 0.8
"""The part of a window that a finding names holds this share of the attention of its category."""

Floats = npt.NDArray[np.float32]


class EncoderClassifier:
    """Serves one directory; see `detectors.classifier.load`."""

    def __init__(
        self,
        name: str,
        session: Any,
        tokenizer: Any,
        calibration: Calibration,
        categories: tuple[str, ...],
        tags: Tags,
        *,
        window: int = 128,
    ) -> None:
        self.name = name
        self.categories = categories
        self._session = session
        self._tokenizer = tokenizer
        self._calibration = calibration
        self._tags = tags
        self._wide = window - 2
        self._narrow = min(NARROW, self._wide)
        self._ends = tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[SEP]")

    def __repr__(self) -> str:
        return (
            f"EncoderClassifier({self.name!r}, {len(self.categories)} categories, {len(self._tags.categories)} names)"
        )

    def predict(
        self, text: Text | str, *, thresholds: Mapping[str, float] | None = None, most: int | None = None
    ) -> Prediction:
        """See `Classifier.predict`. Names have no entry in `scores`."""
        whole = text if isinstance(text, Text) else Text(text)
        encoded = encode(self._tokenizer.encode, whole.plain)
        size = len(encoded.ids)
        limits = self._calibration.limits(language(encoded.codes), size) | dict(thresholds or {})
        limits = {category: limits[category] for category in self.categories}
        if not size:
            return Prediction(dict.fromkeys(self.categories, 0.0), [], limits)
        width = self._width(size)
        every = windows.starts(size, width, OVERLAP)
        picked = windows.chosen(len(every), windows.MOST if most is None else most)
        begins = [every[at] for at in picked]
        logits, tags, attention = self._run(encoded, begins, width)
        owned = windows.owners(begins, width, size)
        found = self._names(tags, begins, owned, encoded, whole.plain, thresholds or {})
        scores = np.zeros(len(self.categories))
        if size >= self._calibration.shortest:
            each = self._calibration.probabilities(logits, self.categories)
            scores = each.max(0)
            found += self._regions(each, attention, begins, encoded, whole.plain, limits)
        spans = sorted(moved(each, whole) for each in found)
        return Prediction(
            {category: round(float(score), 6) for category, score in zip(self.categories, scores, strict=True)},
            spans,
            limits,
            len(picked) == len(every),
        )

    def logits(self, text: Text) -> tuple[Floats, int, str]:
        """For calibration: the highest logit of each category over the windows, the number of tokens, the language."""
        encoded = encode(self._tokenizer.encode, text.plain)
        size = len(encoded.ids)
        if not size:
            return np.full(len(self.categories), -30, np.float32), 0, language(encoded.codes)
        width = self._width(size)
        begins = windows.starts(size, width, OVERLAP)
        begins = [begins[at] for at in windows.chosen(len(begins), windows.MOST)]
        return self._run(encoded, begins, width)[0].max(0), size, language(encoded.codes)

    def _width(self, size: int) -> int:
        """Tokens per window of a text of SIZE tokens."""
        return self._wide if size <= self._wide else self._narrow

    def _run(self, encoded: Encoded, begins: list[int], width: int) -> tuple[Floats, list[Floats], list[Floats]]:
        """Logits of each window, and of its tokens the tags' logits and the categories' attention.

        Windows that hold the same tokens run once: a text that repeats itself costs no more than what it repeats.
        """
        keys = [(encoded.ids[at : at + width].tobytes(), encoded.types[at : at + width].tobytes()) for at in begins]
        first = {key: at for at, key in reversed(list(enumerate(keys)))}
        unique = sorted(first.values())
        rows: dict[int, tuple[Floats, Floats, Floats]] = {}
        for at in range(0, len(unique), BATCH):
            group = unique[at : at + BATCH]
            rows |= zip(group, self._batch(encoded, [begins[each] for each in group], width), strict=True)
        chosen = [rows[first[key]] for key in keys]
        return np.stack([row[0] for row in chosen]), [row[1] for row in chosen], [row[2] for row in chosen]

    def _batch(self, encoded: Encoded, begins: list[int], width: int) -> list[tuple[Floats, Floats, Floats]]:
        lengths = [min(width, len(encoded.ids) - begin) for begin in begins]
        shape = len(begins), max(lengths) + 2
        ids, types, mask = (np.zeros(shape, np.int64) for _ in range(3))
        for at, (begin, length) in enumerate(zip(begins, lengths, strict=True)):
            ids[at, 0], ids[at, length + 1] = self._ends
            ids[at, 1 : length + 1] = encoded.ids[begin : begin + length]
            types[at, 1 : length + 1] = encoded.types[begin : begin + length]
            mask[at, : length + 2] = 1
        logits, tags, attention = self._session.run(None, {"ids": ids, "types": types, "mask": mask})
        return [
            (logits[at], tags[at, 1 : length + 1], attention[at, 1 : length + 1]) for at, length in enumerate(lengths)
        ]

    def _names(
        self,
        tags: list[Floats],
        begins: list[int],
        owned: list[tuple[int, int]],
        encoded: Encoded,
        text: str,
        thresholds: Mapping[str, float],
    ) -> list[Finding]:
        every = np.full((len(encoded.ids), len(self._tags.categories) * 2 + 1), -20, np.float32)
        every[:, 0] = 0
        for logits, begin, (first, last) in zip(tags, begins, owned, strict=True):
            every[first:last] = logits[first - begin : last - begin]
        powers = np.exp(every - every.max(1, keepdims=True)).astype(np.float64)
        limits = {name: thresholds.get(name, limit) for name, limit in self._calibration.names.items()}
        return decode(powers / powers.sum(1, keepdims=True), encoded, text, self._tags, limits)

    def _regions(
        self,
        scores: npt.NDArray[np.float64],
        attention: list[Floats],
        begins: list[int],
        encoded: Encoded,
        text: str,
        limits: Mapping[str, float],
    ) -> list[Finding]:
        """What reached its threshold, as the sentences that its category attended to; regions that touch are one."""
        found: list[Finding] = []
        for number, category in enumerate(self.categories):
            regions: list[Finding] = []
            for at in np.flatnonzero(scores[:, number] >= limits[category]):
                first, last = _mass(attention[at][:, number])
                begin = begins[at]
                start, end = _sentences(text, int(encoded.starts[begin + first]), int(encoded.ends[begin + last]))
                score = round(float(scores[at, number]), 4)
                if regions and start <= regions[-1].end:
                    start, score = regions[-1].start, max(score, regions[-1].score)
                    end = max(end, regions.pop().end)
                regions.append(Finding(start, end, category, score, "classifier"))
            found += regions
        return found


def _mass(weights: Floats) -> tuple[int, int]:
    """First and last token of those that hold most of the attention."""
    order = np.argsort(-weights)
    count = int(np.searchsorted(np.cumsum(weights[order]), _MASS * float(weights.sum()))) + 1
    top = order[:count]
    return int(top.min()), int(top.max())


def _sentences(text: str, start: int, end: int) -> tuple[int, int]:
    """The span widened to whole sentences, at most 200 characters on either side."""
    floor, ceiling = max(0, start - 200), min(len(text), end + 200)
    first = max(text.rfind(stop, floor, start) for stop in (*_STOPS, ". ")) + 1
    stops = [at for stop in (*_STOPS, ". ") if (at := text.find(stop, max(start, end - 1), ceiling)) >= 0]
    first, last = first or floor, min(stops) + 1 if stops else ceiling
    while first < start and text[first].isspace():
        first += 1
    return first, max(last, end)
