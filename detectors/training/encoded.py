"""Texts as arrays of token numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from detectors.classifier.encode import classes, code_points, shapes
from detectors.text import Text

Short = npt.NDArray[np.int16]


def typed(tokenizer: Tokenizer, texts: Sequence[str]) -> list[tuple[Short, Short]]:
    """Ids and types of every text, without the marks of its ends; TEXTS are plain already."""
    found = []
    for text, encoding in zip(texts, tokenizer.encode_batch(texts, add_special_tokens=False), strict=True):
        offsets = np.asarray(encoding.offsets, np.int64).reshape(-1, 2)
        kinds = shapes(classes(code_points(text)), offsets[:, 0], offsets[:, 1])
        found.append((np.asarray(encoding.ids, np.int16), kinds.astype(np.int16)))
    return found


def plain(texts: Iterable[str]) -> list[str]:
    """The texts as detectors see them."""
    return [Text(text).plain for text in texts]


def blocks(rows: Iterable[tuple[Short, Short]], width: int, first: int, last: int) -> tuple[Short, Short]:
    """All texts one after the other, each closed by LAST, cut into rows of WIDTH that open with FIRST."""
    ids: list[Short] = []
    types: list[Short] = []
    end = np.asarray([last], np.int16)
    zero = np.zeros(1, np.int16)
    for row_ids, row_types in rows:
        ids += [row_ids, end]
        types += [row_types, zero]
    inner = width - 1
    flat = np.concatenate(ids)
    count = len(flat) // inner
    shaped = flat[: count * inner].reshape(count, inner)
    kinds = np.concatenate(types)[: count * inner].reshape(count, inner)
    opening = np.full((count, 1), first, np.int16)
    return np.hstack([opening, shaped]), np.hstack([np.zeros((count, 1), np.int16), kinds])


def mark(tokenizer: Tokenizer, name: str) -> int:
    """The number of a special token. Raises ValueError where the vocabulary lacks it."""
    number = tokenizer.token_to_id(name)
    if number is None:
        raise ValueError(f"{name} is not in the vocabulary")
    return number


def ends(tokenizer: Tokenizer) -> tuple[int, int]:
    """What opens and closes a window."""
    return mark(tokenizer, "[CLS]"), mark(tokenizer, "[SEP]")
