"""What a rule of a recogniser is."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from detectors.recognisers.checks import Check

BEFORE = 48
"""Characters before a value in which its context words count. Only what precedes a value counts, because in a
stream the value has to be decided before what follows it is known."""

Trim = Callable[[re.Match[str]], Iterable[tuple[int, int]]]

_ESCAPES = r"(?<=\\[nrt].)|(?<=%[2-57][0-9A-Fa-f].)"
"""A value may follow an escape of JSON or of a URL, whose last character is no part of a word."""


LABEL = r"(?:(?<=[^\x00-\x7f])|(?<![0-9A-Za-z].))"
"""Behind the first character of a label: a Latin one begins a word, a Chinese one may stand behind anything."""


def labels(*words: str) -> str:
    """The pattern of any of these words behind its first character, which the rule has matched already."""
    return "|".join(f"(?<={re.escape(word[0])}){re.escape(word[1:])}" for word in words)


def words(name: str) -> frozenset[str]:
    """The words of a file in `data`."""
    return frozenset((Path(__file__).parent / "data" / name).read_text("utf-8").split())


@dataclass(frozen=True, slots=True)
class Rule:
    """One kind of value: `first` is the class of its first character and `rest` the pattern of what follows.

    The split lets the search skip to candidates quickly; the border on the left is checked behind the first
    character. Patterns are bounded in length and without nested unbounded repetition, and hold for `re` and `regex`
    alike. A group `v` is the value where the pattern holds more, such as its label.
    """

    name: str
    category: str
    first: str
    rest: str
    longest: int
    """Characters of the longest match, the label included."""
    score: float = 0.85
    check: Check | None = None
    """Whether the value, as matched, is one; by checksum or the like."""
    context: str = ""
    """Words before the value that raise the score by 0.15."""
    required: bool = False
    """Whether a value without context is none."""
    against: str = ""
    """Words right before the value that make it something else, where no context says otherwise."""
    after: int = 0
    """Characters behind the value in which context counts as well, and for which a stream has to wait."""
    left: str = "0-9A-Za-z"
    """Characters that cannot stand before the value."""
    right: str = r"(?![0-9A-Za-z])"
    gate: str = ""
    """An RE2 pattern that occurs in every text in which the rule finds something; by default the pattern itself,
    which then must not look around."""
    tail: str = ""
    """The pattern of which a text's end may be the beginning; by default the pattern itself."""
    trim: Trim | None = None
    """Spans of the values inside a match, where that takes more than a group."""
    flags: re.RegexFlag = re.NOFLAG
    pattern: re.Pattern[str] = field(init=False)
    near: re.Pattern[str] | None = field(init=False)
    other: re.Pattern[str] | None = field(init=False)

    def __post_init__(self) -> None:
        flags = self.flags | re.DOTALL | re.ASCII
        object.__setattr__(self, "pattern", re.compile(self.border() + self.right, flags))
        if not self.gate:
            case = "(?i)" if self.flags & re.IGNORECASE else ""
            object.__setattr__(self, "gate", f"{case}{self.first}{self.rest}")
        near = re.compile(self.context, re.IGNORECASE) if self.context else None
        object.__setattr__(self, "near", near)
        other = re.compile(rf"(?:{self.against})\Z", re.IGNORECASE) if self.against else None
        object.__setattr__(self, "other", other)

    def border(self) -> str:
        """The pattern without its right border: whether a value ends is known one character later."""
        if not self.left:
            return f"{self.first}{self.rest}"
        return rf"{self.first}(?:(?<![{self.left}].)|{_ESCAPES}){self.rest}"

    def ending(self) -> str:
        """The pattern of which the end of a text may be the beginning while the rule is undecided."""
        waiting = rf"(?:{self.right}[\s\S]{{0,{self.after}}})?" if self.after else ""
        return (self.tail or self.border()) + waiting

    def find(self, text: str) -> list[tuple[int, int, float]]:
        """Start, end and score of each value in `text`."""
        found = []
        for match in self.pattern.finditer(text):
            for start, end in self._spans(match):
                score = self._score(text, start, end)
                if score > 0:
                    found.append((start, end, score))
        return found

    def _spans(self, match: re.Match[str]) -> Iterable[tuple[int, int]]:
        if self.trim is not None:
            return self.trim(match)
        return (match.span("v" if "v" in self.pattern.groupindex else 0),)

    def _score(self, text: str, start: int, end: int) -> float:
        if self.check is not None and not self.check(text[start:end]):
            return 0.0
        if self.near is None:
            return self.score
        if self.near.search(text, max(0, start - BEFORE), start) is not None or (
            self.after and self.near.search(text, end, end + self.after) is not None
        ):
            return min(1.0, self.score + 0.15)
        if self.other is not None and self.other.search(text, max(0, start - BEFORE), start) is not None:
            return 0.0
        return 0.0 if self.required else self.score
