"""How much of a text's end may still become a finding when more text follows.

A stream is released up to there. A tail is an exact question to a pattern: is this end the beginning of something that
it matches? `regex` answers it with partial matches.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import msgspec
import regex  # type: ignore[import-untyped]


class Tail(msgspec.Struct, frozen=True):
    """A pattern that matches whole values, without a condition on what follows them."""

    pattern: str
    longest: int
    """Characters of the longest value."""
    first: str = r"[\s\S]"
    """A pattern for the first character of a value, which saves asking everywhere."""
    inside: bool = True
    """Whether a value may begin behind an ASCII letter or digit that is not the end of an escape."""


class Tails:
    """The tails of any number of patterns. Safe to use from several threads."""

    def __init__(self, tails: Iterable[Tail], flags: int = 0) -> None:
        self._tails = tuple(tails)
        self._flags = flags
        self._firsts = tuple(re.compile(each.first, flags) for each in self._tails)
        self.longest = max((each.longest for each in self._tails), default=0)
        self._patterns: dict[tuple[int, ...], tuple[Any, int]] = {}
        self._at = lru_cache(4096)(self._beginning_with)

    def __repr__(self) -> str:
        return f"<Tails of {len(self._tails)} patterns>"

    def open_from(self, plain: str, since: int = 0) -> int:
        """The smallest offset from which `plain` to its end may be a value or its beginning; its length if none.

        A value that ends exactly where the text ends is open as well: it may be longer. `since` is what an earlier
        call said for a shorter `plain`: what was decided then stays decided. Text cut off in front must leave two
        characters before `since`, because borders look at them.
        """
        end = len(plain)
        for start in range(max(since, end - self.longest, 0), end):
            pattern, longest = self._at(plain[start], _inside(plain, start))
            if pattern is not None and end - start <= longest and pattern.fullmatch(plain, start, partial=True):
                return start
        return end

    def _beginning_with(self, character: str, inside: bool) -> tuple[Any, int]:
        """The patterns of values that may begin so, as one, and the length of the longest of them."""
        chosen = tuple(
            index
            for index, (tail, first) in enumerate(zip(self._tails, self._firsts, strict=True))
            if (tail.inside or not inside) and first.match(character)
        )
        if chosen not in self._patterns:
            together = "|".join(f"(?:{self._tails[index].pattern})" for index in chosen)
            longest = max((self._tails[index].longest for index in chosen), default=0)
            self._patterns[chosen] = (regex.compile(_anonymous(together), self._flags) if chosen else None, longest)
        return self._patterns[chosen]


def _inside(text: str, start: int) -> bool:
    """Whether the character before `start` belongs to a word; the escapes are those of JSON and of URLs."""
    before = text[max(0, start - 3) : start]
    return before[-1:].isalnum() and before.isascii() and before[-2:-1] != "\\" and "%" not in before


def _anonymous(pattern: str) -> str:
    """Without names of groups, which may occur once only."""
    return re.sub(r"\(\?P<\w+>", "(?:", pattern)
