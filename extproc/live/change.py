"""A reload as a transaction: every live part makes ready what a configuration needs, then all go over or none does."""

from __future__ import annotations

import logging
from typing import Protocol, TypeVar

log = logging.getLogger("sluice")


class Change(Protocol):
    """What one live part has made ready for a configuration. The part works as before until one of the two is called;
    exactly one is, once."""

    def commit(self) -> None:
        """From here on the part works by the new configuration. Neither waits nor fails."""
        ...

    async def undo(self) -> None:
        """Gives back what was made ready."""
        ...


Kind = TypeVar("Kind", bound=Change)


class Changes:
    """The changes of one reload. `async with` undoes them, the last first, unless `commit` was called inside."""

    def __init__(self) -> None:
        self._made: list[Change] = []

    def __repr__(self) -> str:
        return f"<Changes {self._made!r}>"

    def add(self, change: Kind) -> Kind:
        self._made.append(change)
        return change

    def commit(self) -> None:
        """All at once: no other task runs in between."""
        made, self._made = self._made, []
        for change in made:
            change.commit()

    async def __aenter__(self) -> Changes:
        return self

    async def __aexit__(self, *_error: object) -> None:
        while self._made:
            change = self._made.pop()
            try:
                await change.undo()
            except Exception:  # the others have to be undone all the same
                log.exception("fault while undoing %r", change)
