"""A token bucket: continuous fill up to a capacity; settlement may leave it in debt."""

from __future__ import annotations

import math

SLACK = 1e-6
"""Tokens by which rounding may fall short; without it a request could miss the very moment it was told to come back."""


class TokenBucket:
    """`rate` tokens a second, at most `capacity`. `level` is what was left at time `at`; below zero it is a debt.

    A clock that steps back adds nothing: the bucket stands still until the clock has caught up, so no sequence of
    times creates a token twice. A step forward adds at most what is missing to the capacity.
    """

    __slots__ = ("at", "capacity", "level", "rate")

    def __init__(self, capacity: float, rate: float, now: float, level: float | None = None) -> None:
        self.capacity = capacity
        self.rate = rate
        self.at = now
        self.level = capacity if level is None else level

    def __repr__(self) -> str:
        return f"<TokenBucket {self.level:g} of {self.capacity:g} at {self.at:g}, {self.rate:g}/s>"

    def fill(self, now: float) -> float:
        """The level at `now`."""
        if now > self.at:
            self.level = min(self.capacity, self.level + self.rate * (now - self.at))
            self.at = now
        return self.level

    def holds(self, amount: float, now: float) -> bool:
        """Whether `take` would succeed."""
        return self.fill(now) + SLACK >= amount

    def take(self, amount: float, now: float) -> bool:
        """Reserve `amount` if it is there: a full bucket of 10 serves ten requests of 1, the eleventh waits."""
        if self.fill(now) + SLACK < amount:
            return False
        self.level -= amount
        return True

    def give(self, amount: float, now: float) -> None:
        """Settle: what was reserved too much comes back, up to the capacity; below zero takes more, into debt."""
        self.level = min(self.capacity, self.fill(now) + amount)

    def available_at(self, amount: float, now: float) -> float:
        """The first time at which `take` succeeds if nobody else takes; infinity where it never does."""
        missing = amount - self.fill(now)
        if missing <= SLACK:
            return now
        if amount > self.capacity + SLACK or self.rate <= 0:
            return math.inf
        return self.at + missing / self.rate

    def resize(self, capacity: float, rate: float, now: float) -> None:
        """New limits from `now` on. What is above the new capacity is gone; a debt stays."""
        self.fill(now)
        self.capacity = capacity
        self.rate = rate
        self.level = min(self.level, capacity)

    def idle(self, now: float) -> bool:
        """Whether nothing would be lost by forgetting the bucket: it is full, as a fresh one is."""
        return self.fill(now) >= self.capacity
