"""Which sentences of a text a finding names."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from detectors.classifier.encode import Encoded

_END = re.compile(r"[\n。！？!?；]+|\.\s")
MOST = 400
"""Characters of a sentence; a longer run without a stop is cut."""


def sentences(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """The sentences of `text[start:end]`, without the space before them."""
    at = start
    while at < end:
        stop = _END.search(text, at, min(end, at + MOST))
        last = stop.end() if stop else min(end, at + MOST)
        first = at
        while first < last and text[first].isspace():
            first += 1
        if first < last:
            yield first, last
        at = last


def strongest(weights: npt.NDArray[np.float32], encoded: Encoded, begin: int, text: str) -> tuple[int, int]:
    """The sentence of a window that begins at token BEGIN whose tokens have the highest mean of WEIGHTS."""
    starts = encoded.starts[begin : begin + len(weights)]
    ends = encoded.ends[begin : begin + len(weights)]
    best, found = -np.inf, (int(starts[0]), int(ends[-1]))
    for first, last in sentences(text, *found):
        inside = (starts >= first) & (starts < last)
        # a mark or a single word is no statement, however strongly it speaks
        mean = float(weights[inside].sum()) / max(4, int(inside.sum())) if inside.any() else -np.inf
        if mean > best:
            best, found = mean, (first, last)
    return found
