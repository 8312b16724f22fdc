"""From the probabilities of tags to names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from detectors.classifier.encode import Encoded
from detectors.findings import Finding

Floats = npt.NDArray[np.float64]
EDGES = " \t\r\n,.;:!?，。；：！？、\"'“”‘’()（）[]【】《》<>|@#*_`~-/\\"
"""What no name begins or ends with."""


class Tags(msgspec.Struct, frozen=True):
    """The order of the token head's outputs: `O`, then `B-` and `I-` of each category."""

    categories: tuple[str, ...]

    @classmethod
    def parse(cls, labels: Sequence[str]) -> Tags:
        """Raises ValueError for an order that is another one."""
        categories = tuple(label[2:] for label in labels[1::2])
        wanted = ("O", *(f"{border}-{name}" for name in categories for border in "BI"))
        if tuple(labels) != wanted:
            raise ValueError("tags must be O, then B- and I- of each category in turn")
        return cls(categories)


def words(encoded: Encoded, text: str) -> npt.NDArray[np.int64]:
    """Where words begin: pieces of one word of letters are one unit, every Chinese token is its own."""
    first, before = encoded.codes[encoded.starts], encoded.codes[np.maximum(encoded.starts - 1, 0)]
    return np.flatnonzero((encoded.starts == 0) | ~_letters(first) | ~_letters(before))


def _letters(codes: npt.NDArray[np.uint32]) -> npt.NDArray[np.bool_]:
    lower = codes | 32
    return ((lower >= 97) & (lower <= 122)) | ((codes >= 0xC0) & (codes < 0x2000))


def decode(
    probabilities: Floats, encoded: Encoded, text: str, tags: Tags, limits: Mapping[str, float]
) -> list[Finding]:
    """Names in TEXT, offsets in it; `probabilities` are tokens by tags."""
    if not len(probabilities) or float(probabilities[:, 0].min()) > 0.7:
        return []
    units = words(encoded, text)
    counts = np.diff(np.append(units, len(probabilities)))
    mean = np.add.reduceat(probabilities, units, axis=0) / counts[:, None]
    begin, inside = mean[:, 1::2], mean[:, 2::2]
    kinds = np.concatenate((mean[:, :1], begin + inside), axis=1)
    best = kinds.argmax(1)
    found: list[Finding] = []
    at = 0
    while at < len(best):
        kind = int(best[at]) - 1
        last = at + 1
        if kind >= 0:
            while last < len(best) and best[last] == best[at] and inside[last, kind] >= begin[last, kind]:
                last += 1
            score = float(kinds[at:last, kind + 1].mean())
            start, end = int(encoded.starts[units[at]]), int(encoded.ends[units[last - 1] + counts[last - 1] - 1])
            name = tags.categories[kind]
            if score >= limits[name]:
                found += _trimmed(text, start, end, name, score)
        at = last
    return found


def _trimmed(text: str, start: int, end: int, category: str, score: float) -> list[Finding]:
    while start < end and text[start] in EDGES:
        start += 1
    while start < end and text[end - 1] in EDGES:
        end -= 1
    return [Finding(start, end, category, round(score, 4), "classifier")] if start < end else []
