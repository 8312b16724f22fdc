"""A guard and a restorer as one filter of a text in pieces, and what the guard's waiting costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from detectors.masking import Restorer
from detectors.stream import Released, StreamGuard


class TextFilter(Protocol):
    """Anything that is fed with one text's pieces."""

    def feed(self, text: str, *, end: bool = False) -> Released: ...


class GuardedText:
    """A guard that looks first and a restorer that puts values back behind it, so that they are not found again."""

    __slots__ = ("_guard", "_restorer")

    def __init__(self, guard: TextFilter | None, restorer: Restorer | None) -> None:
        self._guard = guard
        self._restorer = restorer

    def __repr__(self) -> str:
        return f"<GuardedText {self._guard!r} {self._restorer!r}>"

    def feed(self, text: str, *, end: bool = False) -> Released:
        """As `StreamGuard.feed`; findings are in characters of the text before values are put back."""
        released = Released(text) if self._guard is None else self._guard.feed(text, end=end)
        if self._restorer is None:
            return released
        restored = self._restorer.feed(released.text, end=end or released.denied)
        return Released(restored, released.findings, released.denied)


def delays(guard: StreamGuard, pieces: Sequence[str]) -> list[int]:
    """For each piece of a stream: how many further pieces came before the last of its characters was decided.

    0 is a token that went on at once. Their median is the delay in tokens that guarding adds.
    """
    waiting: list[tuple[int, int]] = []  # number of a piece, where it ends
    out = [0] * len(pieces)
    end = 0
    for number, piece in enumerate(pieces):
        end += len(piece)
        waiting.append((number, end))
        guard.feed(piece, end=number == len(pieces) - 1)
        while waiting and (guard.released >= waiting[0][1] or guard.denied):
            first = waiting.pop(0)[0]
            out[first] = number - first
    return out
