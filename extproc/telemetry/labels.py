"""Label values from the outside world, made few, short and printable."""

from __future__ import annotations

from collections.abc import Iterable

OTHER = "other"
MAX_LENGTH = 128
"""Characters of a label value."""


def clean(value: str) -> str:
    """At most `MAX_LENGTH` characters, encodable as UTF-8, nothing that a terminal or a parser acts upon."""
    value = value[:MAX_LENGTH]
    if value.isprintable():
        return value
    return "".join(char if char.isprintable() else "\ufffd" for char in value)


class LabelCap:
    """Admits the first `limit` distinct values of one label; further ones become `other`.

    Reserved values, those that the configuration names, are admitted without counting.
    """

    __slots__ = ("_admitted", "_limit", "_reserved")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._admitted: set[str] = set()
        self._reserved: frozenset[str] = frozenset()

    def reserve(self, values: Iterable[str]) -> None:
        """Replace the reserved values."""
        self._reserved = frozenset(clean(value) for value in values)

    def admit(self, value: str, *, new: bool = True) -> str:
        """The value to use as label. With `new` false, a value not seen before becomes `other` and takes no place."""
        value = clean(value)
        if not value or value in self._admitted or value in self._reserved:
            return value
        if not new or len(self._admitted) >= self._limit:
            return OTHER
        self._admitted.add(value)
        return value

    def __len__(self) -> int:
        return len(self._admitted)

    def __repr__(self) -> str:
        return f"<LabelCap {len(self._admitted)} of {self._limit}, {len(self._reserved)} reserved>"
