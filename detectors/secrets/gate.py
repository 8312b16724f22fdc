"""One linear pass over a text that says which rules can have a match at all."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import re2

from detectors.secrets.rules import SecretRule

_MEMORY = 64 << 20
"""Bytes that the automaton may take. It is built as texts need it."""


class Gate:
    """Keywords, found in any case. `open(plain)` gives those that stand in the text, each with its rules."""

    def __init__(self, rules: Sequence[SecretRule], also: Sequence[str]) -> None:
        wanted: dict[str, list[SecretRule]] = {word.lower(): [] for word in also}
        tails: dict[str, int] = dict.fromkeys(wanted, 0)
        for rule in rules:
            for word in map(str.lower, rule.keywords):
                wanted.setdefault(word, []).append(rule)
                tails[word] = min(tails.get(word, rule.tail), rule.tail)
        self._entries = tuple((word, tuple(named)) for word, named in wanted.items())
        options = re2.Options()
        options.case_sensitive = False
        options.max_mem = _MEMORY
        self._set: Any = re2.Set.SearchSet(options)
        for word, _ in self._entries:
            tail = tails[word]
            left = r"(?:^|[^A-Za-z0-9]|\\[nrtbf]|%..|\\u....)" if tail and word[0].isalnum() else ""
            self._set.Add(f"{left}{re.escape(word)}[!-~]{{{tail}}}")
        self._set.Compile()

    def open(self, data: bytes) -> list[tuple[str, tuple[SecretRule, ...]]]:
        """The keywords in a text, given in UTF-8, with the rules that they open."""
        return [self._entries[index] for index in self._set.Match(data) or ()]


def positions(lowered: str, word: str, start: int, end: int) -> list[int]:
    """Where `word` stands in `lowered[start:end]`."""
    found = []
    at = lowered.find(word, start, end)
    while at >= 0:
        found.append(at)
        at = lowered.find(word, at + 1, end)
    return found


def lowered(plain: str) -> str:
    """The text in lower case, character for character: whatever is not ASCII stays as it is."""
    if plain.isascii():
        return plain.lower()
    return plain.translate(_LOWER)


_LOWER = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}
