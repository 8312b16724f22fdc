"""A table by label value that stays small however many values a label takes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeVar

OVERFLOW = "(other)"
"""Shared by every label value beyond the bound. No value of a label looks like it unless a client writes it so, and
then that client shares the worst place."""
_PROBES = 8


class Forgettable(Protocol):
    def idle(self, now: float) -> bool:
        """Whether a fresh one would behave the same."""
        ...


Kept = TypeVar("Kept", bound=Forgettable)


class BoundedTable(Generic[Kept]):
    """At most `most` values, and one more under `OVERFLOW`.

    A new value needs room: of those used least recently, one that is idle is forgotten, which loses nothing. Where the
    few looked at (a constant number, so that the cost of a request is bounded) are all in use, the newcomer shares the
    overflow value: together those newcomers get what one value gets. Nobody is served beyond a limit by inventing
    label values, and the values that were there before are not touched.
    """

    __slots__ = ("_values", "most")

    def __init__(self, most: int) -> None:
        self.most = most
        self._values: OrderedDict[str, Kept] = OrderedDict()

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"<BoundedTable {len(self)} of {self.most}>"

    def __iter__(self) -> Iterator[tuple[str, Kept]]:
        return iter(self._values.items())

    def find(self, key: str) -> Kept | None:
        """What is kept under exactly this key."""
        return self._values.get(key)

    def look(self, key: str, now: float) -> Kept | None:
        """What `get` would give, without changing anything; None where it would make a fresh one."""
        if (kept := self._values.get(key)) is not None or len(self._values) < self.most:
            return kept
        if any(value.idle(now) for _, value in zip(range(_PROBES), self._values.values(), strict=False)):
            return None
        return self._values.get(OVERFLOW)

    def get(self, key: str, make: Callable[[], Kept], now: float) -> tuple[str, Kept]:
        """The value for `key` and the key under which it is kept."""
        values = self._values
        kept = values.get(key)
        if kept is not None:
            values.move_to_end(key)
            return key, kept
        if len(values) >= self.most and not self._make_room(now):
            key = OVERFLOW
            if (kept := values.get(key)) is not None:
                return key, kept
        kept = values[key] = make()
        return key, kept

    def _make_room(self, now: float) -> bool:
        values = self._values
        for _ in range(min(_PROBES, len(values))):
            key = next(iter(values))
            if values[key].idle(now):
                del values[key]
                return True
            values.move_to_end(key)
        return False
