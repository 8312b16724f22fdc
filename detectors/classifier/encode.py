"""From text to the numbers that the encoder reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

PIECE = 8192
"""Characters that are tokenised at a time, so that no run without spaces costs more than its length."""

Ints = npt.NDArray[np.int64]
Codes = npt.NDArray[np.uint32]


class Encoded(msgspec.Struct, frozen=True):
    """The tokens of a text, without marks of beginning and end; arrays of equal length."""

    ids: Ints
    starts: Ints
    ends: Ints
    codes: Codes
    """The text's characters."""


def code_points(text: str) -> Codes:
    """The characters of TEXT as numbers."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def encode(tokenise: Callable[..., Any], text: str) -> Encoded:
    """The tokens of TEXT, a plain one; `tokenise` is the `encode` of a tokenizer."""
    codes = code_points(text)
    ids: list[int] = []
    offsets: list[Sequence[tuple[int, int]]] = []
    begins: list[int] = []
    start = 0
    while start < len(text):
        end = _cut(text, start)
        piece = tokenise(text[start:end], add_special_tokens=False)
        ids += piece.ids
        offsets.append(piece.offsets)
        begins.append(start)
        start = end
    pairs = [np.asarray(part, np.int64).reshape(-1, 2) + begin for part, begin in zip(offsets, begins, strict=True)]
    both = np.concatenate(pairs) if pairs else np.zeros((0, 2), np.int64)
    return Encoded(np.asarray(ids, np.int64), both[:, 0], both[:, 1], codes)


def _cut(text: str, start: int) -> int:
    """Where the piece that starts at START ends: behind a space, if one is near."""
    end = start + PIECE
    if end >= len(text):
        return len(text)
    space = max(text.rfind(" ", end - 256, end), text.rfind("\n", end - 256, end))
    return space if space > start else end
