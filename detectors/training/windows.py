"""Rows as windows of tokens."""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from detectors.classifier import windows
from detectors.classifier.encode import encode
from detectors.text import Text
from detectors.training.labelled import Labelled
from detectors.training.labels import TAGS, WINDOW
from detectors.training.states import Ids

INNER = WINDOW - 2
BEGIN, END = 0, 2
"""The marks around every window."""

IGNORED = -100
OVERLAP = 24


class Window(msgspec.Struct, frozen=True):
    """Tokens of one window with its marks, and their tags: `IGNORED` where nothing is known."""

    ids: Ids
    tags: npt.NDArray[np.int64]


def cut(tokenizer: Tokenizer, each: Labelled, most: int) -> list[Window]:
    """The windows of a row, at most MOST of them, evenly spread."""
    text = Text(each.row.text)
    encoded = encode(tokenizer.encode, text.plain)
    size = len(encoded.ids)
    tags = np.full(size, 0 if each.tagged else IGNORED, np.int64)
    if each.row.spans and size:
        spans = [
            text.span(int(a), int(b)) if b > a else (0, 0) for a, b in zip(encoded.starts, encoded.ends, strict=True)
        ]
        starts, ends = np.asarray(spans, np.int64).T
        for start, end, kind in each.row.spans:
            inside = np.flatnonzero((starts < end) & (ends > start))
            if len(inside):
                tags[inside] = TAGS.index(f"I-{kind}")
                tags[inside[0]] = TAGS.index(f"B-{kind}")
    every = windows.starts(size, INNER, OVERLAP)
    found = []
    for at in (every[number] for number in windows.chosen(len(every), most)):
        ids = (BEGIN, *map(int, encoded.ids[at : at + INNER]), END)
        found.append(Window(ids, np.concatenate([[IGNORED], tags[at : at + INNER], [IGNORED]])))
    return found
