"""Placeholders for values, and the way back: `<PERSON_1>` goes out, the name comes home in the answer."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping

import re2

from detectors.findings import Finding

MAX_ENTRIES = 10_000
MAX_CHARACTERS = 1 << 20

_SEPARATOR = r"(?:[ ]?\\{0,2}_[ ]?|[ ]|-)"
_PLACEHOLDER = re.compile(
    r"(?P<open><|＜|&lt;|\\u003c)[ ]?(?P<category>[a-z]{1,24}(?:"
    + _SEPARATOR
    + r"[a-z]{1,24}){0,3}?)"
    + _SEPARATOR
    + r"(?P<number>[0-9]{1,6})[ ]?(?:>|＞|&gt;|\\u003e)",
    re.ASCII | re.IGNORECASE,
)
"""What a model may make of a placeholder: another case, other brackets, their escapes for HTML and JSON, an escaped
underscore, a space or a dash in its place, spaces at the edges."""
LONGEST = 160
"""Characters of the longest text that the pattern matches, and the most that a restorer holds back."""

_OPENINGS = ("<", "＜", "&lt;", "\\u003c")
_CLOSINGS = (">", "＞", "&gt;", "\\u003e")
_OPENING_STARTS = re.compile(r"[<＜&\\]")
_LOOSE = re.compile(_SEPARATOR, re.ASCII)
_BODY = re.compile(r"[ ]?(?P<words>[a-z][a-z\\_ -]*?)?(?P<number>[0-9]{0,6})[ ]?", re.ASCII | re.IGNORECASE)
_NOISE = re.compile(r"[\\_ -]+")
_NAME = re.compile(r"[a-z]{1,24}(?:_[a-z]{1,24}){0,3}", re.ASCII | re.IGNORECASE)


_MEMORY = 64 << 20
"""Bytes that RE2 may use for the values of one request."""
_UNSPACED = re.compile("[\u2e80-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff\u0e00-\u0eff]")
"""Letters of scripts in which words stand side by side without spaces."""
_SURROGATE = re.compile("[\ud800-\udfff]")


class VaultFull(ValueError):
    """No room for another value: the request must not go out half masked."""


class Vault:
    """Values and their placeholders, for one exchange or one conversation. The mapping lives in this object alone.

    One value of one category has the same placeholder throughout. Numbers count up per category in the order of first
    appearance, leaving out those that somebody wrote literally (`reserve`). A literal that looks like a placeholder
    which is in use already is masked itself, so it comes back as it was written. A category that is not up to four
    words of ASCII letters is named `VALUE`.

    At most `max_entries` values of together `max_characters` are kept; over it `VaultFull` is raised and nothing is
    added. Not safe for several threads at once.
    """

    __slots__ = (
        "_categories",
        "_characters",
        "_max_characters",
        "_max_entries",
        "_next",
        "_placeholders",
        "_reserved",
        "_values",
    )

    def __init__(self, max_entries: int = MAX_ENTRIES, max_characters: int = MAX_CHARACTERS) -> None:
        self._max_entries = max_entries
        self._max_characters = max_characters
        self._characters = 0
        self._placeholders: dict[tuple[str, str], str] = {}
        self._values: dict[tuple[str, int], str] = {}
        self._next: dict[str, int] = {}
        self._reserved: set[tuple[str, int]] = set()
        self._categories: frozenset[str] = frozenset()

    def __repr__(self) -> str:
        return f"<Vault of {len(self._values)} values>"

    def __len__(self) -> int:
        return len(self._values)

    @property
    def categories(self) -> frozenset[str]:
        """Categories that have a placeholder, in one word: `IDCARD` for `ID_CARD`."""
        return self._categories

    def placeholder(self, category: str, value: str) -> str:
        """The placeholder of a value. Raises VaultFull."""
        known = self._placeholders.get((category, value))
        if known is not None:
            return known
        if len(self._values) >= self._max_entries or self._characters + len(value) > self._max_characters:
            raise VaultFull("too many values to mask in one conversation")
        name = category.upper() if _NAME.fullmatch(category) else "VALUE"
        word = _NOISE.sub("", name)
        number = self._next.get(word, 1)
        while (word, number) in self._reserved:
            number += 1
        self._next[word] = number + 1
        self._characters += len(value)
        self._values[word, number] = value
        self._categories |= {word}
        placeholder = self._placeholders[category, value] = f"<{name}_{number}>"
        return placeholder

    def reserve(self, text: str) -> None:
        """Leave out the numbers that this text uses literally. Call it for all messages before the first `mask`."""
        if _OPENING_STARTS.search(text) is None:
            return
        for found in _PLACEHOLDER.finditer(text):
            key = _key(found)
            if key not in self._values and len(self._reserved) < self._max_entries:
                self._reserved.add(key)

    def mask(self, text: str, findings: Iterable[Finding], *, in_json: bool = False) -> str:
        """The text with a placeholder for each finding; findings that overlap become one, so nothing of them stays.

        `in_json`: the text is JSON source, so what is remembered is the value without its escapes. Raises VaultFull.
        """
        self.reserve(text)
        literals = [] if _OPENING_STARTS.search(text) is None else self._literals(text)
        pieces: list[str] = []
        at = 0
        for span in cover([*findings, *literals]):
            value = text[span.start : span.end]
            pieces += (text[at : span.start], self.placeholder(span.category, _unescaped(value) if in_json else value))
            at = span.end
        return text if not pieces else "".join((*pieces, text[at:]))

    def restore(self, text: str, *, in_json: bool = False) -> str:
        """The text with every placeholder replaced by its value; unknown ones stay. `in_json` as for `Restorer`."""
        return Restorer(self, in_json=in_json).feed(text, end=True)

    def value_of(self, found: re.Match[str]) -> str | None:
        return self._values.get(_key(found))

    def _literals(self, text: str) -> list[Finding]:
        """Placeholders in use, or numbers that could not be reserved, written by somebody."""
        return [
            Finding(found.start(), found.end(), "LITERAL")
            for found in _PLACEHOLDER.finditer(text)
            if _key(found) in self._values or _key(found) not in self._reserved
        ]


class Restorer:
    """Puts values back into a text that comes in pieces; the joined output does not depend on the cuts.

    Held back is only a tail that may still become a placeholder of a category in use. With `in_json` the text is JSON
    source, such as the arguments of a tool call: values are escaped to stand inside a string.
    """

    __slots__ = ("_backslash", "_in_json", "_tail", "_vault")

    def __init__(self, vault: Vault, *, in_json: bool = False) -> None:
        self._vault = vault
        self._in_json = in_json
        self._tail = ""
        self._backslash = False  # whether the text before the tail ends within an escape

    def __repr__(self) -> str:
        return f"<Restorer holding {len(self._tail)} characters>"

    @property
    def held(self) -> int:
        """Characters held back."""
        return len(self._tail)

    def feed(self, text: str, *, end: bool = False) -> str:
        """What may go out by now; with `end` all that is left."""
        if self._tail:
            text = self._tail + text
            self._tail = ""
        if not self._vault.categories or not text:
            return text
        cut = len(text) if end else self._open_from(text)
        self._tail = text[cut:]
        return self._restored(text[:cut]) if cut else ""

    def _restored(self, text: str) -> str:
        pieces: list[str] = []
        at = 0
        for found in _PLACEHOLDER.finditer(text) if _OPENING_STARTS.search(text) else ():
            value = self._vault.value_of(found)
            # An escaped backslash before `u003c` is no escape of a bracket.
            if value is None or (found["open"][0] == "\\" and self._escaped(text, found.start())):
                continue
            pieces += (
                text[at : found.start()],
                json.dumps(value, ensure_ascii=False)[1:-1] if self._in_json else value,
            )
            at = found.end()
        self._backslash = self._escaped(text, len(text)) if at < len(text) else False
        return text if not pieces else "".join((*pieces, text[at:]))

    def _escaped(self, text: str, at: int) -> bool:
        run = at - len(text[:at].rstrip("\\")) if text[at - 1 : at] == "\\" else 0
        return bool(run % 2) != (run == at and self._backslash)

    def _open_from(self, text: str) -> int:
        start = max(0, len(text) - LONGEST)
        for found in _OPENING_STARTS.finditer(text, start):
            if self._may_become(text[found.start() :]):
                return found.start()
        return len(text)

    def _may_become(self, tail: str) -> bool:
        """Whether more text can make a placeholder of it. Never False where it can; seldom True where it cannot."""
        tail = tail.lower()
        for opening in _OPENINGS:
            if opening.startswith(tail):
                return True
            if not tail.startswith(opening):
                continue
            body = tail[len(opening) :]
            for closing in _CLOSINGS:
                for size in range(len(closing) - 1, 0, -1):
                    if body.endswith(closing[:size]) and self._fits(body[:-size]):
                        return True
            return self._fits(body)
        return False

    def _fits(self, body: str) -> bool:
        found = _BODY.fullmatch(body)
        if found is None:
            return False
        word = _NOISE.sub("", found["words"] or "").upper()
        if found["number"]:
            return word in self._vault.categories
        return any(category.startswith(word) for category in self._vault.categories)


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


def joined(text: str, at: int) -> bool:
    """Whether a word or number of an alphabet that is written with spaces goes on across this place."""
    return 0 < at < len(text) and _is_part(text[at - 1]) and _is_part(text[at])


def _is_part(character: str) -> bool:
    return character.isalnum() and (character.isascii() or _UNSPACED.match(character) is None)


def _encodable(text: str) -> bool:
    return text.isascii() or _SURROGATE.search(text) is None


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


def _key(found: re.Match[str]) -> tuple[str, int]:
    return _NOISE.sub("", found["category"]).upper(), int(found["number"])


def _unescaped(source: str) -> str:
    """JSON string source as the text it stands for; as it is where a finding cuts an escape in two."""
    if "\\" not in source:
        return source
    try:
        value = json.loads(f'"{source}"', strict=False)
    except ValueError:
        return source
    return value if isinstance(value, str) else source
