"""Sums and means over the last seconds, in constant space."""

from __future__ import annotations

_PIECES = 30


class WindowSum:
    """Sum and number of what was added within the last `seconds`, to a thirtieth of the window.

    A clock that steps back adds to the newest piece; one that leaps forward empties the window.
    """

    __slots__ = ("_counts", "_newest", "_span", "_sums", "count", "seconds", "sum")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.sum = 0.0
        self.count = 0
        self._span = seconds / _PIECES
        self._sums = [0.0] * _PIECES
        self._counts = [0] * _PIECES
        self._newest: int | None = None

    def __repr__(self) -> str:
        return f"<WindowSum {self.sum:g} of {self.count} in {self.seconds:g} s>"

    def add(self, value: float, now: float, count: int = 1) -> None:
        at = self._roll(now)
        self._sums[at] += value
        self._counts[at] += count
        self.sum += value
        self.count += count

    def total(self, now: float) -> float:
        self._roll(now)
        return self.sum

    def number(self, now: float) -> int:
        """How many were added within the window."""
        self._roll(now)
        return self.count

    def mean(self, now: float) -> float | None:
        """None where nothing was added within the window."""
        self._roll(now)
        return self.sum / self.count if self.count else None

    def _roll(self, now: float) -> int:
        piece = int(now // self._span)
        newest = self._newest
        if newest is None or piece <= newest:
            if newest is None:
                self._newest = piece
            return (piece if newest is None else newest) % _PIECES
        for gone in range(max(newest + 1, piece - _PIECES + 1), piece + 1):
            self._sums[gone % _PIECES] = 0.0
            self._counts[gone % _PIECES] = 0
        self._newest = piece
        self.sum = sum(self._sums)  # summed afresh, so that rounding cannot pile up
        self.count = sum(self._counts)
        return piece % _PIECES
