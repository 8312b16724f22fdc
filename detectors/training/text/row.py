"""One row of training text."""

from __future__ import annotations

import msgspec


class Row(msgspec.Struct, frozen=True):
    """A text with the labels of its sequence head and the spans of its token head.

    `labels` names sequence categories (`BUSINESS_...`, `INJECTION`); empty means none. `spans` are
    `(start, end, category)` character offsets into `text`, in order and without overlap. `group` is shared by rows of
    one minimal pair or seed, so that such rows never land on both sides of a split; `source` names where the text comes
    from.
    """

    text: str
    labels: frozenset[str] = frozenset()
    spans: tuple[tuple[int, int, str], ...] = ()
    source: str = ""
    group: str = ""
