"""A user's allow and deny patterns, matched in linear time by RE2."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import re2

from detectors.findings import Finding
from detectors.text import Text

LIMIT = 1000
"""Findings of one pattern in one text; the last one reaches to the end of the text, so that nothing is left out."""

_SURROGATE = re.compile("[\ud800-\udfff]")

_MEMORY = 64 << 20
"""Bytes that RE2 may use for the states of one compiled pattern or set."""


class PatternError(ValueError):
    """A pattern that does not compile, or that matches nothing in particular."""

    def __init__(self, pattern: str, reason: str, position: int | None = None) -> None:
        self.pattern = pattern
        self.reason = reason
        self.position = position
        where = "" if position is None else f" at character {position}"
        super().__init__(f"pattern {pattern!r}{where}: {reason}")


class UserPattern(msgspec.Struct, frozen=True):
    """One pattern in RE2's syntax; `(?i)` at its start ignores the case."""

    name: str
    pattern: str
    category: str = "DENY_PATTERN"


def compile_pattern(pattern: str) -> Any:
    """The compiled pattern. Raises PatternError."""
    try:
        return re2.compile(_encodable(pattern), _options())
    except re2.error as error:
        raise _explained(pattern, error) from None


class PatternSet:
    """Deny patterns are findings where they match; where allow patterns exist, a text that none matches is one.

    Patterns see the plain form of a text (see Text), and the original as well where the two differ, so that a
    pattern may name a full-width or invisible character. All patterns are looked for in one pass; only those that
    occur are searched again for their positions. Raises PatternError.
    """

    name = "patterns"

    def __init__(self, allow: Sequence[UserPattern] = (), deny: Sequence[UserPattern] = ()) -> None:
        self._deny = [(each, compile_pattern(each.pattern)) for each in deny]
        for each, compiled in self._deny:
            if compiled.search("") is not None:
                raise PatternError(each.pattern, "matches the empty text, so it would deny everything")
        self._allow = [(each, compile_pattern(each.pattern)) for each in allow]
        self._set = OneSet([each.pattern for each in (*deny, *allow)])

    def __repr__(self) -> str:
        return f"<PatternSet of {len(self._allow)} allow and {len(self._deny)} deny patterns>"

    def find(self, text: Text) -> list[Finding]:
        """Where deny patterns match, or one finding over everything when no allow pattern does."""
        plain, original = _encodable(text.plain), _encodable(text.original)
        occur = self._set.match(plain)
        again = occur if original == plain else self._set.match(original)
        findings = [
            Finding(*text.span(start, end), self._deny[index][0].category, 1.0, self._deny[index][0].name)
            for index in self._denied(occur)
            for start, end in _spans(self._deny[index][1], plain)
        ]
        if original != plain:
            findings += [
                Finding(start, end, self._deny[index][0].category, 1.0, self._deny[index][0].name)
                for index in self._denied(again)
                for start, end in _spans(self._deny[index][1], original)
            ]
        if findings:
            return sorted(set(findings))
        if self._allow and all(index < len(self._deny) for index in occur | again):
            return [Finding(0, len(text.original), "ALLOW_PATTERN", 1.0, self.name)]
        return []

    def _denied(self, occur: frozenset[int]) -> list[int]:
        return sorted(index for index in occur if index < len(self._deny))


class OneSet:
    """Which of many patterns occur in a text, in one pass. Safe to use from several threads."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self._patterns = [compile_pattern(each) for each in patterns]
        self._set = re2.Set.SearchSet(_options())
        for each in patterns:
            self._set.Add(_encodable(each))
        # RE2 reports a set that ran out of memory like one that matched nothing. This one matches every text.
        self._sentinel = self._set.Add("(?s:.?)")
        self._set.Compile()

    def match(self, text: str) -> frozenset[int]:
        """Indices of the patterns that occur in `text`, which holds no lone surrogate."""
        if not self._patterns:
            return frozenset()
        found = frozenset(self._set.Match(text) or ())
        if self._sentinel in found:
            return found - {self._sentinel}
        return frozenset(index for index, each in enumerate(self._patterns) if each.search(text) is not None)


def _options() -> Any:
    options = re2.Options()
    options.log_errors = False
    options.max_mem = _MEMORY
    return options


def _encodable(text: str) -> str:
    """`text` with U+FFFD for each lone surrogate, because RE2 reads UTF-8."""
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


def _spans(pattern: Any, text: str) -> Iterator[tuple[int, int]]:
    for count, found in enumerate(pattern.finditer(text), 1):
        start, end = found.span()
        if count == LIMIT:
            yield start, len(text)
            return
        if start < end:
            yield start, end


def _explained(pattern: str, error: Exception) -> PatternError:
    """RE2 says `reason: fragment`, where the fragment is a piece of the pattern."""
    detail = error.args[0] if error.args else str(error)
    message = detail.decode(errors="replace") if isinstance(detail, bytes) else str(detail)
    _, colon, fragment = message.partition(": ")
    position = pattern.find(fragment) if colon and fragment else -1
    for beginning, culprit in (("missing )", "("), ("unexpected )", ")"), ("trailing \\", "\\")):
        if message.startswith(beginning):  # the fragment is missing or the whole pattern
            position = pattern.rfind(culprit)
    return PatternError(pattern, message, None if position < 0 else position)
