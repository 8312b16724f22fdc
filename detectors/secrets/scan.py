"""`Secrets`: the detector, and what a stream has to hold back for it."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import msgspec

from detectors.findings import Finding
from detectors.secrets import blocks, decoded, generic
from detectors.secrets.entropy import entropy, is_reference, is_word
from detectors.secrets.families import ALL
from detectors.secrets.gate import Gate, lowered, positions
from detectors.secrets.rules import GAP, LEFT, LONGEST_VALUE, RIGHT, SecretRule
from detectors.secrets.standins import is_known_default, is_placeholder
from detectors.secrets.streams import OpenValues
from detectors.text import Text

_RUN = re.compile(r"[A-Za-z0-9_\-.~/+=|:*!]{14,}", re.ASCII)
"""Random values have at least this: where there is no such run, no named rule of a vendor can match."""
_REACH = 240
"""Characters from a keyword to the end of whatever may stand before its value."""


class _Span(NamedTuple):
    start: int
    end: int
    rule: str
    score: float

    def meets(self, other: _Span) -> bool:
        return self.start < other.end and other.start < self.end


class _Compiled(msgspec.Struct, frozen=True):
    rule: SecretRule
    pattern: re.Pattern[str]


class Secrets:
    """Keys, tokens, passwords, private keys and connection strings.

    `extra` are further rules; `allow` are patterns (`re`) of values that are never reported, matched in full.
    A text without any keyword costs one pass over it; every pass is linear, as no rule repeats without bound.
    """

    name = "secrets"

    def __init__(self, extra: Sequence[SecretRule] = (), allow: Sequence[str] = ()) -> None:
        self._allow = re.compile("|".join(f"(?:{pattern})" for pattern in allow)) if allow else None
        rules = (*ALL, *extra)
        named = (*generic.KEYWORDS, *generic.CHINESE)
        self._gate = Gate(rules, (*named, *blocks.KEYWORDS))
        self._named = frozenset(named)
        self._compiled = {id(rule): _Compiled(rule, compile_rule(rule)) for rule in rules}
        self._open = OpenValues(rules)

    def find(self, text: Text) -> list[Finding]:
        """Findings in order of position, none inside another."""
        spans = self._find(text.plain, nested=False)
        return [
            Finding(*text.span(span.start, span.end), "SECRET", span.score, f"{self.name}/{span.rule}")
            for span in spans
        ]

    def open_from(self, plain: str, since: int = 0) -> int:
        """Where a secret may start that the end of `plain` has not finished: what stands before can be released.

        Sound for values up to `LONGEST_TOKEN` characters by shape, `LONGEST_VALUE` by name and
        `blocks.LONGEST_BLOCK` for blocks, as long as `plain` holds the text from its start, or 256 characters of
        context before what is still held. `since` is the answer for a shorter `plain`.
        """
        return max(since, self._open.start(plain))

    def _find(self, plain: str, *, nested: bool) -> list[_Span]:
        data = plain.encode("utf-8", "replace")
        opened = self._gate.open(data)
        spans = _outermost(self._from_keywords(plain, opened)) if opened else []
        if not nested and decoded.may_hide(data):
            hidden = [span for span in self._from_hidden(plain) if not any(map(span.meets, spans))]
            spans = _outermost((*spans, *hidden)) if hidden else spans
        return [span for span in spans if not self._is_allowed(plain[span.start : span.end])]

    def _is_allowed(self, value: str) -> bool:
        return self._allow is not None and self._allow.fullmatch(value) is not None

    def _from_keywords(self, plain: str, opened: list[tuple[str, tuple[SecretRule, ...]]]) -> Iterator[_Span]:
        low = lowered(plain)
        runs: list[tuple[int, int]] | None = None
        for word, rules in opened:
            places = positions(low, word, 0, len(low))
            if word in self._named:
                for at in places:
                    if (value := generic.find_named(plain, at, word)) is not None:
                        yield _Span(
                            value[0], value[1], "password" if word in generic.PASSWORDS else "generic", value[2]
                        )
            if word in blocks.KEYWORDS:
                yield from (_Span(start, end, "private-key", 1.0) for start, end in blocks.find_blocks(plain))
            for rule in rules:
                if rule.keyed:
                    if runs is None:
                        runs = [match.span() for match in _RUN.finditer(plain)]
                    near = [at for at in places if _has_run_near(runs, at)]
                else:
                    near = places
                yield from self._apply(rule, plain, near)

    def _apply(self, rule: SecretRule, plain: str, places: list[int]) -> Iterator[_Span]:
        pattern = self._compiled[id(rule)].pattern
        done = 0
        for at in places:
            match = pattern.match(plain, max(done, at - rule.before))
            if match is None:
                continue
            done = match.end()
            span = match.span("value") if "value" in pattern.groupindex and match["value"] else match.span("whole")
            if _is_secret(rule, plain[slice(*span)]):
                yield _Span(*span, rule.name, rule.score)

    def _from_hidden(self, plain: str) -> Iterator[_Span]:
        for start, end, said in (*decoded.base64_runs(plain), *decoded.percent_runs(plain)):
            inner = self._find(said, nested=True)
            if inner:
                best = max(inner, key=lambda span: span.score)
                yield _Span(start, end, best.rule, best.score)


def compile_rule(rule: SecretRule) -> re.Pattern[str]:
    """The pattern as it is tried: at the keyword, or around it."""
    return re.compile(source(rule), re.ASCII)


def source(rule: SecretRule) -> str:
    """The pattern of a rule with what stands around a value."""
    if rule.keyed:
        words = "|".join(re.escape(word) for word in sorted(rule.keywords, key=len, reverse=True))
        return rf"(?i:{words}){GAP}(?P<whole>(?<![A-Za-z0-9])(?:{rule.pattern})){RIGHT}"
    before = rf"(?s:.{{0,{rule.before}}}?)" if rule.before else ""
    return rf"{before}(?P<whole>{LEFT}(?:{rule.pattern})){RIGHT}"


def _is_secret(rule: SecretRule, value: str) -> bool:
    if rule.name == "basic-authorization":
        return decoded.is_login(value)
    if rule.chosen and (is_reference(value) or is_word(value) or is_known_default(value)):
        return False
    if entropy(value[:LONGEST_VALUE]) < rule.entropy:
        return False
    return len(value) > 100 or not is_placeholder(value)


def _has_run_near(runs: list[tuple[int, int]], at: int) -> bool:
    """A run ends after the keyword and starts within reach of it."""
    index = bisect_right(runs, (at, 1 << 60)) - 1
    if index >= 0 and runs[index][1] > at:
        return True
    return index + 1 < len(runs) and runs[index + 1][0] - at <= _REACH


def _outermost(spans: Iterable[_Span]) -> list[_Span]:
    """In order of position, without those that another holds or overlaps: the longer stays, then the likelier."""
    chosen: list[_Span] = []
    for span in sorted(spans, key=lambda each: (each.start, -each.end, -each.score)):
        if chosen and span.start < chosen[-1].end:
            last = chosen[-1]
            if (span.end - span.start, span.score) > (last.end - last.start, last.score):
                chosen[-1] = span
            continue
        chosen.append(span)
    return chosen
