"""From text to the numbers that the encoder reads."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

SHAPES = 6
"""How many token types there are: three of case, twice for whether a token continues the word before it."""

Ints = npt.NDArray[np.int64]


def classes(text: str) -> npt.NDArray[np.uint8]:
    """Per character: bit 1 for a cased capital letter, bit 2 for a space."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    kinds = ((codes >= 65) & (codes <= 90)).astype(np.uint8)
    kinds[(codes == 32) | ((codes >= 9) & (codes <= 13))] |= 2
    high = codes > 127
    if high.any():
        for code in np.unique(codes[high]):
            letter = chr(int(code))
            if letter.isupper():
                kinds[codes == code] |= 1
            elif letter.isspace():
                kinds[codes == code] |= 2
    return kinds


def shapes(kinds: npt.NDArray[np.uint8], starts: Ints, ends: Ints) -> Ints:
    """Token types of the tokens at `starts` to `ends` of a text whose characters have these `kinds`.

    0 no capital, 1 a capital first, 2 more capitals than one; plus 3 where no space stands before the token. The
    vocabulary itself is in lower case, so that a word and its shouted form share one vector.
    """
    capitals = np.concatenate(([0], np.cumsum(kinds & 1)))
    count = capitals[ends] - capitals[starts]
    first = (kinds[np.minimum(starts, len(kinds) - 1)] & 1) if len(kinds) else np.zeros_like(starts)
    case = np.where(count > 1, 2, np.where(first == 1, 1, np.where(count == 1, 2, 0)))
    before = np.maximum(starts - 1, 0)
    glued = (starts > 0) & ((kinds[before] & 2) == 0) if len(kinds) else np.zeros_like(starts, dtype=bool)
    return (case + 3 * glued).astype(np.int64)
