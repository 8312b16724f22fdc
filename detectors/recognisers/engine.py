"""The built-in recognisers and a user's own patterns, run over a text.

A gate goes first: one pass of RE2 says which rules can match at all. For most texts that is none.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

import msgspec

from detectors.findings import CATEGORIES, Finding
from detectors.patterns import OneSet, compile_pattern
from detectors.recognisers import address, banking, china, contact, national, network, phone
from detectors.recognisers.rules import BEFORE, Rule
from detectors.tails import Tail, Tails
from detectors.text import Text

RULES: Sequence[Rule] = (
    *contact.RULES,
    *phone.RULES,
    *banking.RULES,
    *network.RULES,
    *china.RULES,
    *national.RULES,
    *address.RULES,
)

LONGEST = max(rule.longest for rule in RULES)
"""Characters of the longest value that a built-in recogniser finds, its label included."""

WINDOW = 8192
"""Characters that are searched at once; longer texts are searched in windows, so that no step takes long."""

THRESHOLD = 0.5
"""Results with a lower score are no findings. Context words can lift one over it."""

_Value = tuple[int, int, str, float]
"""Start, end, category, score."""


class Pattern(msgspec.Struct, frozen=True):
    """A recogniser of the user's own: RE2's syntax, and words that raise the score by 0.35 when they stand before."""

    name: str
    category: str
    pattern: str
    score: float = 0.6
    context: tuple[str, ...] = ()
    longest: int = 64
    """Characters of the longest value. A stream holds back so many."""


class Recognisers:
    """Finds structured values. `categories` limits what is looked for; None means every category.

    `extra` adds a user's own. Raises PatternError. Safe to use from several threads.
    """

    name = "patterns"

    def __init__(self, categories: Collection[str] | None = None, extra: Sequence[Pattern] = ()) -> None:
        unknown = sorted(set(categories or ()) - set(CATEGORIES) - {each.category for each in extra})
        if unknown:
            raise ValueError(f"unknown categories: {', '.join(unknown)}")
        self.rules = [rule for rule in RULES if categories is None or rule.category in categories]
        self._gate = OneSet([rule.gate for rule in self.rules])
        self._extra = [(each, compile_pattern(each.pattern)) for each in extra]
        self._held = max((each.longest for each in extra), default=0)
        self.longest = max([rule.longest for rule in self.rules] + [self._held], default=0)
        self._tails = Tails([_tail(rule) for rule in self.rules], re.DOTALL | re.ASCII)

    def __repr__(self) -> str:
        return f"<Recognisers of {len(self.rules)} rules and {len(self._extra)} more>"

    def find(self, text: Text) -> list[Finding]:
        """Values in `text`; where two rules match the same place, both are reported."""
        found = {
            (start + offset, end + offset, category): score
            for offset, low, high, part in _windows(text.plain, self.longest)
            for start, end, category, score in self._search(part)
            if low <= start < high
        }
        return [
            Finding(*text.span(start, end), category, score, self.name)
            for (start, end, category), score in sorted(found.items())
        ]

    def open_from(self, plain: str, since: int = 0) -> int:
        """The smallest offset from which the end of `plain` may still become a finding; its length if none may.

        `since` is the answer for a shorter `plain`, see Tails.
        """
        return min(self._tails.open_from(plain, since), max(since, len(plain) - self._held))

    def _search(self, text: str) -> Iterator[_Value]:
        found: list[_Value] = []
        for index in self._gate.match(text):
            rule = self.rules[index]
            found += [(start, end, rule.category, score) for start, end, score in rule.find(text)]
        for pattern, compiled in self._extra:
            found += _matches(pattern, compiled, text)
        for start, end, category, score in _outermost(found):
            if score >= THRESHOLD:
                yield start, end, category, round(score, 3)


def _matches(pattern: Pattern, compiled: Any, text: str) -> Iterator[_Value]:
    """Where a user's pattern matches; one of its words before a match raises the score."""
    words = [word.casefold() for word in pattern.context]
    for match in compiled.finditer(text):
        start, end = match.span()
        before = text[max(0, start - BEFORE) : start].casefold() if words else ""
        raised = 0.35 if any(word in before for word in words) else 0.0
        if start < end:
            yield start, end, pattern.category, min(1.0, pattern.score + raised)


def _outermost(found: Iterable[_Value]) -> Iterator[_Value]:
    """Without those that lie in one of their category that is surer, or as sure and longer."""
    around: dict[str, list[_Value]] = {}
    for each in sorted(set(found), key=lambda value: (value[0], -value[1], -value[3])):
        start, end, category, score = each
        near = around[category] = [other for other in around.get(category, ()) if other[1] > start]
        if not any(end <= other[1] and score <= other[3] for other in near):
            near.append(each)
            yield each


def _windows(text: str, longest: int) -> Iterator[tuple[int, int, int, str]]:
    """Offset of a window, the part of it in which values may start, and its text."""
    if len(text) <= WINDOW:
        yield 0, 0, len(text) + 1, text
        return
    for start in range(0, len(text), WINDOW):
        offset = max(0, start - longest - BEFORE)
        yield offset, start - offset, start - offset + WINDOW, text[offset : start + WINDOW + longest + 1]


def _tail(rule: Rule) -> Tail:
    case = "(?i:{})" if rule.flags & re.IGNORECASE else "{}"
    first = "[^\\s]" if rule.tail else rule.first
    return Tail(
        case.format(rule.ending()),
        rule.longest + rule.after,
        case.format(first),
        inside=bool(rule.tail) or not rule.left,
    )
