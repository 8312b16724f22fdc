r"""JSON source as text: what its escapes say, and where in it a value may be put without breaking it.

JSON may stand in strings of JSON, as the arguments of a tool call do: there a quote is written `\"`, and one level
deeper `\\\"`. `Quoting` follows a text piece by piece and knows in how many strings it stands.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import NamedTuple

_QUOTE = re.compile(r'(\\+)?"|\\+')
"""A quote with the backslashes before it; or backslashes alone, so that a run of them is looked at once."""
_FIRST = re.compile(r"[^\s\\]")
_BARE = re.compile(r'[^\s"\\,:\[\]{}]+')
_TOKEN = re.compile(rf"(?P<bare>{_BARE.pattern})|{_QUOTE.pattern}")
_LAST = re.compile(r"\S\s*\Z")
_OPENINGS = "{["
_WORDS = ("true", "false", "null")
UNFINISHED = re.compile(
    r"(?<!\\)(?:\\+u[dD][89abAB][0-9a-fA-F]{2}(?:\\+(?:u[0-9a-fA-F]{0,3})?)?|\\+(?:u[0-9a-fA-F]{0,3})?)\Z"
)
"""An escape at the end of a text that more text may complete."""


class Quoting:
    """Where a text that comes in pieces stands. A text that does not begin as an object or an array holds no strings
    but where `source` says that it is JSON all the same."""

    __slots__ = ("_levels", "_slashes", "last")

    def __init__(self, source: bool | None = None) -> None:
        # for the text itself and each string that is open: whether it holds JSON; None while its first character is
        # not known
        self._levels: list[bool | None] = [source]
        self._slashes = ""
        self.last = ""
        """The last character that is no space."""

    def __repr__(self) -> str:
        return f"<Quoting {self._levels!r}>"

    @property
    def depth(self) -> int:
        """In how many strings the text stands."""
        return len(self._levels) - 1

    @property
    def at_structure(self) -> bool:
        """Whether the innermost text is JSON, and no string of it is open."""
        return self._levels[-1] is True

    def feed(self, text: str) -> None:
        """Go on behind `text`."""
        if self._levels[0] is False or not text:
            return
        if (last := _LAST.search(text)) is not None:
            self.last = last[0][0]
        if self._slashes:
            text, self._slashes = self._slashes + text, ""
        at = 0
        for found in _QUOTE.finditer(text):
            if text[found.end() - 1] == '"':
                self.begin(text, at, found.start())
                self._at_quote(len(found[1] or ""))
                at = found.end()
        end = len(text.rstrip("\\"))
        self.begin(text, at, end)
        self._slashes = text[max(at, end) :]

    def begin(self, text: str, start: int, end: int) -> None:
        """Tell by its first character whether the innermost text is JSON."""
        if self._levels[-1] is None and (first := _FIRST.search(text, start, end)) is not None:
            self._levels[-1] = first[0] in _OPENINGS

    def _at_quote(self, slashes: int) -> None:
        for level, holds_json in enumerate(self._levels):
            if level and slashes % 2 == 0:
                del self._levels[level:]
                return
            if level:
                slashes //= 2
            if not holds_json:
                if holds_json is None:  # it begins with a quote, so it is text
                    self._levels[level] = False
                return
        if slashes == 0:
            self._levels.append(None)


class Value(NamedTuple):
    """A value in source, or a part of one: `text[start:end]`, in so many strings; `bare`: in none of its own."""

    start: int
    end: int
    depth: int
    bare: bool


def values_in(text: str, start: int, end: int, quoting: Quoting) -> Iterator[Value]:
    """The values in `text[start:end]`, with no quotes, brackets or commas between them.

    `quoting` stands at `start`, and at the end stands behind the last value: one that is bare is given as a whole, even
    where only a part of it was asked for. Words of JSON, such as `null`, are no values.
    """
    at = part = start
    while at < end:
        quoting.begin(text, at, end)
        found = _next(_TOKEN if quoting.at_structure else _QUOTE, text, at, end)
        depth = quoting.depth
        if quoting.at_structure:
            part = end
            if found is not None and found.lastgroup == "bare":
                value = _bare(text, found.start(), found.end(), end, quoting)
                if text[value.start : value.end] not in _WORDS:
                    yield value
                quoting.feed(text[at : value.end])
                at = value.end
                continue
        if found is None:
            if part < end:
                yield Value(part, end, depth, bare=False)
            quoting.feed(text[at:end])
            return
        quoting.feed(text[at : found.end()])
        at = found.end()
        if part == end:
            part = at
        elif quoting.depth != depth:
            if part < found.start():
                yield Value(part, found.start(), depth, bare=False)
            part = at


def _next(pattern: re.Pattern[str], text: str, at: int, end: int) -> re.Match[str] | None:
    """The first quote or bare value."""
    return next((each for each in pattern.finditer(text, at, end) if text[each.end() - 1] != "\\"), None)


def quoted(value: str, depth: int) -> str:
    """A string as it is written inside `depth` others. It needs no escapes of its own."""
    quote = "\\" * ((1 << depth) - 1) + '"'
    return quote + value + quote


def escaped(value: str, depth: int) -> str:
    """A value as it is written inside `depth` strings."""
    for _ in range(depth):
        value = json.dumps(value, ensure_ascii=False)[1:-1]
    return value


def unescaped(source: str, depth: int) -> str:
    """What is written inside `depth` strings; as it is where it cuts an escape in two."""
    for _ in range(depth):
        if "\\" not in source:
            break
        try:
            source = str(json.loads(f'"{source}"', strict=False))
        except ValueError:
            break
    return source


def _bare(text: str, start: int, end: int, limit: int, quoting: Quoting) -> Value:
    """The whole bare value of which `text[start:end]` is a part. What no colon, comma or bracket stands before is none:
    the text only begins like JSON, and goes on as prose to the next quote."""
    begins = start
    while begins > 0 and _BARE.match(text[begins - 1]):
        begins -= 1
    before = _before(text, begins) or quoting.last
    if before in ("", "[", ",", ":"):
        found = _BARE.match(text, end)
        return Value(begins, end if found is None else found.end(), quoting.depth, bare=True)
    quote = _next(_QUOTE, text, start, limit)
    return Value(start, limit if quote is None else quote.start(), quoting.depth, bare=False)


def _before(text: str, at: int) -> str:
    """The last character before `at` that is no space."""
    while at > 0 and text[at - 1].isspace():
        at -= 1
    return text[at - 1 : at]
