"""Values found once, wherever else they stand."""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec
import re2

from detectors.findings import Finding

_MEMORY = 64 << 20
"""Bytes that RE2 may use for the values of one request."""
_UNSPACED = re.compile("[\u2e80-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff\u0e00-\u0eff]")
"""Letters of scripts in which words stand side by side without spaces."""
_SURROGATE = re.compile("[\ud800-\udfff]")


class Occurrences:
    """Every place where values stand that were found somewhere: whole words, the longest where several fit.

    A detector that reads a text by itself knows a name in one message and not in the next; half a name masked says
    nearly all of it. Built for one request; one linear pass a text.
    """

    def __init__(self, values: Mapping[str, str]) -> None:
        """`values`: each with its category. One of a single character is left to its own finding."""
        self._values = {value: category for value, category in values.items() if len(value) > 1 and _encodable(value)}
        options = re2.Options()
        options.longest_match = True
        options.log_errors = False
        options.max_mem = _MEMORY
        words = "|".join(map(re2.escape, self._values))
        self._pattern = re2.compile(words, options) if words else None

    def __repr__(self) -> str:
        return f"<Occurrences of {len(self._values)} values>"

    def find(self, text: str) -> list[Finding]:
        """In order, without overlap."""
        if self._pattern is None or not _encodable(text):
            return []
        found = []
        for match in self._pattern.finditer(text):
            start, end = match.span()
            if not (joined(text, start) or joined(text, end)):
                found.append(Finding(start, end, self._values[match[0]], 1.0, "occurrence"))
        return found


def whole_words(found: Finding, text: str) -> Finding:
    """A name that ends inside a word, to that word's ends: `Jon` of `Jonathan` names the same person."""
    start, end = found.start, found.end
    while joined(text, start):
        start -= 1
    while joined(text, end):
        end += 1
    if (start, end) == (found.start, found.end):
        return found
    return msgspec.structs.replace(found, start=start, end=end)


def joined(text: str, at: int) -> bool:
    """Whether a word or number of an alphabet that is written with spaces goes on across this place."""
    return 0 < at < len(text) and _is_part(text[at - 1]) and _is_part(text[at])


def _is_part(character: str) -> bool:
    return character.isalnum() and (character.isascii() or _UNSPACED.match(character) is None)


def _encodable(text: str) -> bool:
    return text.isascii() or _SURROGATE.search(text) is None
