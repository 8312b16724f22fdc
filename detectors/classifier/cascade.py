"""The graphs of the model: a first look at every window, and the rest for those that may hold something.

`first.onnx` reads tokens and gives hidden states and a logit for each part; `middle.onnx` takes the states further;
`statements.onnx` and `names.onnx` are the parts, which read what the middle gives. A window that no part wants to see
ends after the first graph.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

GRAPHS = ("first", "middle", "statements", "names")
PARTS = ("BUSINESS", "INJECTION", "NAMES")
"""The logits of the first graph, in order. `statements` is for the first two."""

BATCH = 4
"""Windows that run together."""

NOTHING = -30.0
"""The logit of what was not looked at further."""

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


class Seen(msgspec.Struct, frozen=True):
    """What the model says of one window."""

    logits: Floats
    """By category."""
    where: Floats | None = None
    """Tokens x 2: how much each token speaks for business, and for an attack. None: neither was looked for."""
    tags: Floats | None = None
    """Tokens x tags, logits. None: there is no name."""


class Cascade:
    """Runs windows through the graphs. Safe to use from several threads at once."""

    def __init__(self, sessions: Mapping[str, Any], onward: Mapping[str, float], categories: int) -> None:
        """`sessions` by the names of GRAPHS; `onward` by PARTS: the first stage's logit that asks for more."""
        self._sessions = sessions
        self._onward = np.asarray([onward[part] for part in PARTS], np.float32)
        self._nothing = np.full(categories, NOTHING, np.float32)

    def run(self, rows: Sequence[Ints]) -> list[Seen]:
        """One outcome for each of ROWS, the ids of a window with its marks; arrays are without the marks."""
        found: list[Seen] = []
        for at in range(0, len(rows), BATCH):
            found += self._batch(rows[at : at + BATCH])
        return found

    def look(self, rows: Sequence[Ints]) -> Floats:
        """The first graph's logits of each row, by PARTS."""
        return np.concatenate([self._first(rows[at : at + BATCH])[1] for at in range(0, len(rows), BATCH)])

    def _first(self, rows: Sequence[Ints]) -> tuple[Floats, Floats, Ints]:
        """Hidden states and logits of the first graph, and which tokens are there."""
        shape = len(rows), max(map(len, rows))
        ids, mask = np.ones(shape, np.int64), np.zeros(shape, np.int64)
        for at, row in enumerate(rows):
            ids[at, : len(row)] = row
            mask[at, : len(row)] = 1
        hidden, scores = self._sessions["first"].run(["hidden", "scores"], {"ids": ids, "mask": mask})
        return hidden, scores, mask

    def _batch(self, rows: Sequence[Ints]) -> list[Seen]:
        hidden, scores, mask = self._first(rows)
        wanted = scores >= self._onward
        found = [Seen(self._nothing)] * len(rows)
        onward = np.flatnonzero(wanted.any(1))
        if not len(onward):
            return found
        (deep,) = self._sessions["middle"].run(["deep"], _part(hidden, mask, onward))
        deep_mask, deep_wanted = mask[onward], wanted[onward]
        statements, names = np.flatnonzero(deep_wanted[:, :2].any(1)), np.flatnonzero(deep_wanted[:, 2])
        if len(statements):
            outputs = self._sessions["statements"].run(["logits", "where"], _part(deep, deep_mask, statements))
            for number, logits, where in zip(onward[statements], *outputs, strict=True):
                found[number] = Seen(logits, where[1 : len(rows[number]) - 1])
        if len(names):
            (every,) = self._sessions["names"].run(["tags"], _part(deep, deep_mask, names))
            for number, tags in zip(onward[names], every, strict=True):
                before = found[number]
                found[number] = Seen(before.logits, before.where, tags[1 : len(rows[number]) - 1])
        return found


def _part(hidden: Floats, mask: Ints, rows: Ints) -> dict[str, npt.NDArray[Any]]:
    """The inputs of a later graph for some of the rows."""
    if len(rows) == len(hidden):
        return {"hidden": hidden, "mask": mask}
    return {"hidden": hidden[rows], "mask": mask[rows]}
