"""What a stream holds back: values that the end of the text has begun and not finished."""

from __future__ import annotations

import re
from collections.abc import Sequence

import regex  # type: ignore[import-untyped] # it ships no type information

from detectors.secrets import blocks, generic
from detectors.secrets.gate import Gate, lowered, positions
from detectors.secrets.rules import GAP, LEFT, LONGEST_TOKEN, SecretRule

_PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))
_WINDOW = 1400
"""Characters that a keyword, what stands before its value, and the value take at most."""
_LEAD = re.compile(r"[\w.\-]{0,40}[ ]?[\w.\-]{0,40}\Z", re.ASCII)


class OpenValues:
    """Finds the first value that is still open, in a text that may go on."""

    def __init__(self, rules: Sequence[SecretRule]) -> None:
        spaced = [rule for rule in rules if rule.keyed or rule.reach]
        self._gate = Gate([_without_tail(rule) for rule in spaced], (*generic.KEYWORDS, *generic.CHINESE))
        self._patterns = {rule.name + rule.pattern: regex.compile(_source(rule), regex.ASCII) for rule in spaced}
        words = {word for rule in rules for word in rule.keywords if not word.isascii()} | set(generic.CHINESE)
        self._begun = frozenset(word[:size] for word in words for size in range(1, len(word)))
        self._longest_begun = max(map(len, self._begun))

    def start(self, plain: str) -> int:
        """The smallest offset from which the end of `plain` may become part of a secret; its length if none."""
        tail = plain[-LONGEST_TOKEN:]
        held = len(plain) - len(tail) + len(tail.rstrip(_PRINTABLE))
        for size in range(1, self._longest_begun + 1):
            if plain[-size:] in self._begun:
                held = min(held, len(plain) - size)
        block = blocks.open_block(plain)
        if block is not None:
            held = min(held, block)
        return min(held, self._named(plain, held))

    def _named(self, plain: str, held: int) -> int:
        """The first keyword whose value the text may still be in."""
        since = max(0, len(plain) - _WINDOW)
        window = plain[since:]
        opened = self._gate.open(window.encode("utf-8", "replace"))
        low = lowered(window) if opened else ""
        for word, rules in opened:
            for at in positions(low, word, 0, len(low)):
                if since + at >= held:
                    break
                if self._is_open(window, at, word, rules):
                    lead = _LEAD.search(window, max(0, at - 64), at)
                    held = since + (lead.start() if lead is not None else at)
                    break
        return held

    def _is_open(self, window: str, at: int, word: str, rules: Sequence[SecretRule]) -> bool:
        if word in generic.KEYWORDS and _GENERIC.fullmatch(window, at + len(word), partial=True):
            return True
        if word in generic.CHINESE and _CHINESE.fullmatch(window, at + len(word), partial=True):
            return True
        return any(self._patterns[rule.name + rule.pattern].fullmatch(window, at, partial=True) for rule in rules)


def _without_tail(rule: SecretRule) -> SecretRule:
    return SecretRule(rule.name, rule.keywords, rule.pattern, rule.keyed, rule.before, 0, rule.reach)


def _source(rule: SecretRule) -> str:
    if not rule.keyed:
        return rf"{LEFT}(?:{rule.pattern})"
    words = "|".join(re.escape(word) for word in sorted(rule.keywords, key=len, reverse=True))
    return rf"(?i:{words}){GAP}(?:{rule.pattern})"


_GENERIC = regex.compile(generic.NAMED, regex.ASCII)
_CHINESE = regex.compile(generic.NAMED_IN_CHINESE, regex.ASCII)
