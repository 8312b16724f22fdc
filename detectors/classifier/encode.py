"""From text to the numbers that the encoder reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

SHAPES = 6
"""How many token types there are: three of case, twice for whether a token continues the word before it."""

PIECE = 8192
"""Characters that are tokenised at a time, so that no run without spaces costs more than its length."""

Ints = npt.NDArray[np.int64]
Codes = npt.NDArray[np.uint32]


class Encoded(msgspec.Struct, frozen=True):
    """The tokens of a text, without marks of beginning and end; arrays of equal length."""

    ids: Ints
    types: Ints
    starts: Ints
    ends: Ints
    codes: Codes
    """The text's characters."""


def code_points(text: str) -> Codes:
    """The characters of TEXT as numbers."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def classes(codes: Codes) -> npt.NDArray[np.uint8]:
    """Per character: bit 1 for a capital letter, bit 2 for a space."""
    kinds = ((codes >= 65) & (codes <= 90)).astype(np.uint8)
    kinds[(codes == 32) | ((codes >= 9) & (codes <= 13))] |= 2
    other = (codes > 127) & ((codes < 0x3001) | (codes > 0xD7FF))
    if other.any():
        for code in np.unique(codes[other]):
            letter = chr(int(code))
            if letter.isupper():
                kinds[codes == code] |= 1
            elif letter.isspace():
                kinds[codes == code] |= 2
    return kinds


def shapes(kinds: npt.NDArray[np.uint8], starts: Ints, ends: Ints) -> Ints:
    """Token types of the tokens at `starts` to `ends` of a text whose characters have these `kinds`.

    0 no capital, 1 one capital, at the beginning, 2 other capitals; plus 3 where no space stands before the token. The
    vocabulary itself is in lower case, so that a word and its shouted form share one vector.
    """
    if not len(starts):
        return np.zeros(0, np.int64)
    capitals = np.concatenate(([0], np.cumsum(kinds & 1)))
    count = capitals[ends] - capitals[starts]
    case = np.where(count == 0, 0, np.where((count == 1) & (kinds[starts] & 1 == 1), 1, 2))
    glued = (starts > 0) & (kinds[np.maximum(starts - 1, 0)] & 2 == 0)
    return np.asarray(case + 3 * glued, np.int64)


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
    return Encoded(
        np.asarray(ids, np.int64), shapes(classes(codes), both[:, 0], both[:, 1]), both[:, 0], both[:, 1], codes
    )


def _cut(text: str, start: int) -> int:
    """Where the piece that starts at START ends: behind a space, if one is near."""
    end = start + PIECE
    if end >= len(text):
        return len(text)
    space = max(text.rfind(" ", end - 256, end), text.rfind("\n", end - 256, end))
    return space if space > start else end
