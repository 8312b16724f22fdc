"""Placeholders for values, and the way back: `<PERSON_1>` goes out, the name comes home in the answer."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext

from detectors.findings import Finding
from detectors.placeholders import Forms, Written, any_written, forms, in_url, word_of
from detectors.source import Quoting, escaped, quoted, unescaped, values_in

MAX_ENTRIES = 10_000
MAX_CHARACTERS = 1 << 20

_NAME = re.compile(r"[a-z]{1,24}(?:_[a-z]{1,24}){0,3}", re.ASCII | re.IGNORECASE)


class VaultFull(ValueError):
    """No room for another value: the request must not go out half masked."""


class Vault:
    """Values and their placeholders, for one exchange or one conversation. The mapping lives in this object alone.

    One value of one category has the same placeholder throughout. Numbers count up per category in the order of first
    appearance, leaving out those that somebody wrote literally (`reserve`). A literal that looks like a placeholder
    which is in use already is masked itself, so it comes back as it was written. A category that is not up to four
    words of ASCII letters is named `VALUE`.

    At most `max_entries` values of together `max_characters` are kept; over it `VaultFull` is raised and nothing is
    added. Not safe for several threads at once: who shares a vault holds its `lock` while masking.
    """

    __slots__ = (
        "_characters",
        "_max_characters",
        "_max_entries",
        "_names",
        "_next",
        "_placeholders",
        "_reserved",
        "_values",
        "lock",
    )

    def __init__(self, max_entries: int = MAX_ENTRIES, max_characters: int = MAX_CHARACTERS) -> None:
        self.lock: AbstractContextManager[object] = nullcontext()
        """Held by whoever masks with a vault that several requests share."""
        self._max_entries = max_entries
        self._max_characters = max_characters
        self._characters = 0
        self._placeholders: dict[tuple[str, str], str] = {}
        self._values: dict[tuple[str, int], str] = {}
        self._next: dict[str, int] = {}
        self._reserved: set[tuple[str, int]] = set()
        self._names: frozenset[str] = frozenset()

    def __repr__(self) -> str:
        return f"<Vault of {len(self._values)} values>"

    def __len__(self) -> int:
        return len(self._values)

    @property
    def forms(self) -> Forms | None:
        """How the placeholders in use may be written; None where there is none."""
        return forms(self._names) if self._names else None

    def placeholder(self, category: str, value: str) -> str:
        """The placeholder of a value. Raises VaultFull."""
        known = self._placeholders.get((category, value))
        if known is not None:
            return known
        if len(self._values) >= self._max_entries or self._characters + len(value) > self._max_characters:
            raise VaultFull("too many values to mask in one conversation")
        name = category.upper() if _NAME.fullmatch(category) else "VALUE"
        word = word_of(name)
        number = self._next.get(word, 1)
        while (word, number) in self._reserved:
            number += 1
        self._next[word] = number + 1
        self._characters += len(value)
        self._values[word, number] = value
        if name not in self._names:
            self._names |= {name}
        placeholder = self._placeholders[category, value] = f"<{name}_{number}>"
        return placeholder

    def reserve(self, text: str) -> None:
        """Leave out the numbers that this text uses literally. Call it for all messages before the first `mask`."""
        for found in any_written(text):
            key = found.word, found.number
            if key not in self._values and len(self._reserved) < self._max_entries:
                self._reserved.add(key)

    def mask(self, text: str, findings: Iterable[Finding], *, in_json: bool = False) -> str:
        """The text with a placeholder for each finding; findings that overlap become one, so nothing of them stays.

        `in_json`: the text is JSON source. What is remembered is the value without its escapes, the quotes between two
        values stay, and a number becomes a string. Raises VaultFull.
        """
        self.reserve(text)
        spans = cover([*findings, *self._literals(text)])
        if not spans:
            return text
        quoting = Quoting(source=in_json)
        pieces: list[str] = []
        done = at = 0
        for span in spans:
            if span.end <= at:
                continue
            quoting.feed(text[at : span.start])
            for value in values_in(text, max(at, span.start), span.end, quoting):
                placeholder = self.placeholder(span.category, unescaped(text[value.start : value.end], value.depth))
                pieces += (text[done : value.start], quoted(placeholder, value.depth) if value.bare else placeholder)
                done = value.end
            at = max(span.end, done)
        return "".join((*pieces, text[done:]))

    def restore(self, text: str, *, in_json: bool = False) -> str:
        """The text with every placeholder replaced by its value; unknown ones stay. `in_json` as for `Restorer`."""
        return Restorer(self, in_json=in_json).feed(text, end=True)

    def value_of(self, found: Written) -> str | None:
        return self._values.get((found.word, found.number))

    def _literals(self, text: str) -> list[Finding]:
        """Placeholders in use, or numbers that could not be reserved, written by somebody."""
        return [
            Finding(found.start, found.end, "LITERAL")
            for found in any_written(text)
            if (key := (found.word, found.number)) in self._values or key not in self._reserved
        ]


class Restorer:
    """Puts values back into a text that comes in pieces; the joined output does not depend on the cuts.

    Held back is only a tail that may still become a placeholder of a category in use. Where the text is JSON, values
    are escaped as the strings ask for in which they stand; `in_json`: it is, even if it does not begin like that.
    """

    __slots__ = ("_before", "_quoting", "_tail", "_vault")

    def __init__(self, vault: Vault, *, in_json: bool = False) -> None:
        self._vault = vault
        self._quoting = Quoting(source=in_json or None)
        self._tail = ""
        self._before = ""  # the last of what went out, as it came: borders look at it

    def __repr__(self) -> str:
        return f"<Restorer holding {len(self._tail)} characters>"

    @property
    def held(self) -> int:
        """Characters held back."""
        return len(self._tail)

    def feed(self, text: str, *, end: bool = False) -> str:
        """What may go out by now; with `end` all that is left."""
        written = self._vault.forms
        if written is None or not (text or self._tail):
            return text
        start = len(self._before)
        text = self._before + self._tail + text
        cut = len(text) if end else written.open_from(text, start)
        self._tail = text[cut:]
        restored = self._restored(text[:cut], start, written)
        self._before = _context(text[:cut])
        return restored

    def _restored(self, text: str, start: int, written: Forms) -> str:
        pieces: list[str] = []
        at = start
        for found in written.written(text, start):
            value = self._vault.value_of(found)
            # An escaped backslash before `u003c` is no escape of a bracket.
            if value is None or (found.json_escape and _escaped(text, found.start)):
                continue
            self._quoting.feed(text[at : found.start])
            value = in_url(value) if found.in_url else value
            pieces += (text[at : found.start], escaped(value, self._quoting.depth))
            at = found.end
        self._quoting.feed(text[at:])
        return text[start:] if not pieces else "".join((*pieces, text[at:]))


def _context(text: str) -> str:
    """The end of a text that borders look at: two characters, and whether a backslash in it is escaped itself."""
    run = len(text) - len(text.rstrip("\\"))
    return text[-2:] if not run else "\\" * (2 - run % 2) if run > 1 else text[-2:]


def _escaped(text: str, at: int) -> bool:
    """Whether an odd run of backslashes ends before this place."""
    return bool((at - len(text[:at].rstrip("\\"))) % 2)


def cover(findings: Iterable[Finding]) -> list[Finding]:
    """Spans without overlap, in order, that cover every finding; each carries the longest (then surest) one's name."""
    spans: list[Finding] = []
    best = 0, 0.0
    for finding in sorted(findings):
        size = finding.end - finding.start, finding.score
        if not spans or finding.start >= spans[-1].end:
            spans.append(finding)
            best = size
            continue
        last = spans[-1]
        name = finding if size > best else last
        best = max(best, size)
        spans[-1] = Finding(last.start, max(last.end, finding.end), name.category, name.score, name.detector)
    return spans
