"""Labelled rows as windows of tokens, with augmentation while they are drawn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from tokenizers import Tokenizer
from torch import Tensor

from detectors.classifier.encode import classes, code_points, shapes
from detectors.text import Text
from detectors.training.encoded import Short
from detectors.training.labelled import Labelled
from detectors.training.network import SEQUENCE, TAGS, WINDOW

INNER = WINDOW - 2
IGNORED = -100
LOWER, SHOUT = 0.06, 0.03
"""Share of rows whose case is taken away, or made all capitals."""

AMONG = 0.35
"""Share of short rows that stand among other, harmless text."""

MOST_WINDOWS = 4
"""Windows of a long positive row that are looked at in one step; the highest one counts."""


class Example(msgspec.Struct, frozen=True):
    """One row as tokens: arrays of equal length, and two masks over the sequence labels."""

    ids: Short
    types: Short
    tags: Short
    wanted: npt.NDArray[np.float32]
    known: npt.NDArray[np.float32]
    family: str


def example(tokenizer: Tokenizer, each: Labelled) -> Example:
    """EACH as tokens of its plain text, without the marks of its ends."""
    text = Text(each.row.text)
    encoding = tokenizer.encode(text.plain, add_special_tokens=False)
    offsets = np.asarray(encoding.offsets, np.int64).reshape(-1, 2)
    types = shapes(classes(code_points(text.plain)), offsets[:, 0], offsets[:, 1])
    tags = np.full(len(offsets), 0 if each.tagged else IGNORED, np.int16)
    if each.tagged and each.row.spans and len(offsets):
        originals = [text.span(int(a), int(b)) if b > a else (0, 0) for a, b in offsets]
        starts = np.asarray([a for a, _ in originals])
        ends = np.asarray([b for _, b in originals])
        for start, end, kind in each.row.spans:
            inside = np.flatnonzero((starts < end) & (ends > start))
            if len(inside):
                tags[inside] = TAGS.index(f"I-{kind}")
                tags[inside[0]] = TAGS.index(f"B-{kind}")
    wanted = np.asarray([label in each.row.labels for label in SEQUENCE], np.float32)
    known = np.asarray([label in each.known for label in SEQUENCE], np.float32)
    return Example(np.asarray(encoding.ids, np.int16), types.astype(np.int16), tags, wanted, known, each.family)


class Batch(msgspec.Struct, frozen=True):
    """Windows, the row that each belongs to, and what is wanted of rows and tokens."""

    ids: Tensor
    types: Tensor
    mask: Tensor
    tags: Tensor
    rows: Tensor
    wanted: Tensor
    known: Tensor


Window = tuple[Short, Short, Short]


def _width(tokens: int) -> int:
    """The width of a batch whose longest window has so many tokens: few different ones, so that kernels are reused."""
    return min(WINDOW, -(-(tokens + 2) // 16) * 16)


class Batches:
    """Draws batches of EXAMPLES of about TOKENS tokens each, rows of similar length together."""

    def __init__(self, examples: Sequence[Example], ends: tuple[int, int], tokens: int, seed: int) -> None:
        self._examples = examples
        self._ends = ends
        self._tokens = tokens
        self._draw = np.random.default_rng(seed)
        self._around = [each for each in examples if each.known.all() and not each.wanted.any() and len(each.ids) > 12]

    def __repr__(self) -> str:
        return f"Batches({len(self._examples)} examples, {self._tokens} tokens)"

    def __iter__(self) -> Iterator[Batch]:
        """One round over all examples."""
        rows = [(at, self._windows(self._examples[at])) for at in self._draw.permutation(len(self._examples))]
        for start in range(0, len(rows), 4096):
            yield from self._pool(rows[start : start + 4096])

    def _pool(self, rows: list[tuple[int, list[Window]]]) -> Iterator[Batch]:
        rows.sort(key=lambda row: max(len(ids) for ids, _, _ in row[1]))
        groups: list[list[tuple[int, list[Window]]]] = [[]]
        count = 0
        for row in rows:
            width = _width(max(len(ids) for ids, _, _ in row[1]))
            if groups[-1] and (count + len(row[1])) * width > self._tokens:
                groups.append([])
                count = 0
            groups[-1].append(row)
            count += len(row[1])
        for at in self._draw.permutation(len(groups)):
            yield self._batch(groups[at])

    def _batch(self, rows: list[tuple[int, list[Window]]]) -> Batch:
        windows = [(number, window) for number, (_, several) in enumerate(rows) for window in several]
        width = _width(max(len(ids) for _, (ids, _, _) in windows))
        ids, types, mask = (np.zeros((len(windows), width), np.int64) for _ in range(3))
        tags = np.full((len(windows), width), IGNORED, np.int64)
        for at, (_, (row_ids, row_types, row_tags)) in enumerate(windows):
            length = len(row_ids)
            ids[at, 0], ids[at, length + 1] = self._ends
            ids[at, 1 : length + 1] = row_ids
            types[at, 1 : length + 1] = row_types
            tags[at, 1 : length + 1] = row_tags
            mask[at, : length + 2] = 1
        wanted = np.stack([self._examples[at].wanted for at, _ in rows])
        known = np.stack([self._examples[at].known for at, _ in rows])
        numbers = np.asarray([number for number, _ in windows])
        return Batch(*map(torch.from_numpy, (ids, types, mask, tags, numbers, wanted, known)))

    def _windows(self, each: Example) -> list[Window]:
        """What is looked at of one example this time."""
        ids, types, tags = each.ids, each.types, each.tags
        if len(ids) < INNER - 16 and each.known.any() and self._draw.random() < AMONG:
            return [self._worn(self._among(ids, types, tags))]
        if len(ids) <= INNER:
            return [self._worn((ids, types, tags))]
        starts = [*range(0, len(ids) - INNER, INNER - 24), len(ids) - INNER]
        if each.wanted.any():
            several = min(MOST_WINDOWS, len(starts))
            chosen = sorted(self._draw.choice(len(starts), several, replace=False))
        else:
            chosen = [int(self._draw.integers(len(starts)))]
        cuts = [slice(starts[at], starts[at] + INNER) for at in chosen]
        return [(ids[cut], types[cut], tags[cut]) for cut in cuts]

    def _among(self, ids: Short, types: Short, tags: Short) -> Window:
        """The row with parts of harmless rows before it, behind it or both, as one window."""
        room = int(self._draw.integers(8, INNER - len(ids) + 1))
        before = int(self._draw.choice([0, room, int(self._draw.integers(0, room + 1))]))
        left, right = self._part(before, tail=True), self._part(room - before, tail=False)
        parts = (left, (ids, types, tags), right)
        first, second, third = (np.concatenate([part[k] for part in parts]) for k in range(3))
        return first, second, third

    def _part(self, length: int, *, tail: bool) -> Window:
        other = self._around[int(self._draw.integers(len(self._around)))]
        cut = slice(max(0, len(other.ids) - length), None) if tail else slice(0, length)
        if not length:
            cut = slice(0, 0)
        return other.ids[cut], other.types[cut], other.tags[cut]

    def _worn(self, window: Window) -> Window:
        ids, types, tags = window
        chance = self._draw.random()
        if chance < LOWER:
            types = (types - types % 3).astype(np.int16)
        elif chance < LOWER + SHOUT:
            types = (types - types % 3 + 2).astype(np.int16)
        return ids, types, tags
