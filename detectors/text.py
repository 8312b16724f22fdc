"""A text in the plain form that detectors look at, with the way back to the original's offsets."""

from __future__ import annotations

import re
import sys
import unicodedata
from array import array

_INVISIBLE = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f"
    "\ufe00-\ufe0f\ufeff\U000e0000-\U000e007f"
)
"""Soft hyphen, zero-width characters, marks of direction, variation selectors, tags: readers do not see them."""

_FEW = 24
"""Up to so many different characters, replacing them one by one is faster than translating the whole text."""


def _narrow() -> dict[int, str]:
    """Characters that look like an ASCII one, each to exactly one character.

    Superscripts, subscripts and circled digits stay: `10²` is not 102, and `①` before a number is a list mark.
    """
    table = {wide: chr(wide - 0xFEE0) for wide in range(0xFF01, 0xFF5F)}
    table |= dict.fromkeys((0xA0, 0x1680, *range(0x2000, 0x200B), 0x202F, 0x205F, 0x3000), " ")
    table |= dict.fromkeys((*range(0x2010, 0x2014), 0x2212, 0xFE58, 0xFE63), "-")
    for code in range(0x80, sys.maxunicode + 1):
        if (digit := unicodedata.decimal(chr(code), None)) is not None:
            table[code] = str(digit)
    for code in range(0x1D400, 0x1D7CC):
        letter = unicodedata.normalize("NFKC", chr(code))
        if len(letter) == 1 and letter.isascii():
            table[code] = letter
    return table | dict.fromkeys(range(0xD800, 0xE000), "\ufffd")


def _ranges(codes: list[int]) -> str:
    """The inside of a character class that holds exactly `codes`."""
    parts: list[str] = []
    start = previous = codes[0]
    for code in [*codes[1:], -1]:
        if code != previous + 1:
            parts.append(f"\\U{start:08x}-\\U{previous:08x}")
            start = code
        previous = code
    return "".join(parts)


_NARROW = _narrow()
_ODD = re.compile(f"[{_INVISIBLE}{_ranges(sorted(_NARROW))}]")
_DROP = re.compile(f"[{_INVISIBLE}]+")
_KEEP = re.compile(f"[^{_INVISIBLE}]+")
_ESCAPE = re.compile(
    r"(?<!\\)\\+(?:u(?:(?P<pair>[dD][89abAB][0-9a-fA-F]{2}\\+u[dD][c-fC-F][0-9a-fA-F]{2})|(?P<code>[0-9a-fA-F]{4}))"
    r'|(?P<sign>["/nrtbf]))'
)
"""An escape of JSON, behind one backslash or, in JSON within strings of JSON, behind several."""
_SIGNS = {"n": "\n", "r": "\r", "t": "\t", "b": " ", "f": " ", '"': '"', "/": "/"}


class Text:
    """`original` as it came, and `plain`, in which a value reads as if typed on an ASCII keyboard.

    Escapes of JSON are read, as JSON stands in many texts, in strings of other JSON too. Full-width characters, digits
    of other scripts and mathematical letters become ASCII, odd spaces and dashes the usual ones, and a lone surrogate
    U+FFFD; what nobody sees is left out. Offsets in `plain` become offsets in `original` by `span`.
    """

    __slots__ = ("_ends", "_starts", "original", "plain")

    def __init__(self, original: str) -> None:
        self.original = original
        self.plain = original
        self._starts: array[int] | None = None
        self._ends: array[int] | None = None
        if "\\" in original and _ESCAPE.search(original) is not None:
            self.plain, self._starts, self._ends = _without_escapes(original)
        said = self.plain
        if said.isascii():
            return
        odd = set(_ODD.findall(said))
        if not odd:
            return
        self.plain = narrow = _replace(said, odd)
        if _DROP.search(narrow) is None:
            return
        starts, ends = array("l"), array("l")
        for run in _KEEP.finditer(narrow):
            if self._starts is None or self._ends is None:
                starts.extend(range(run.start(), run.end()))
                ends.extend(range(run.start() + 1, run.end() + 1))
            else:
                starts.extend(self._starts[run.start() : run.end()])
                ends.extend(self._ends[run.start() : run.end()])
        self._starts, self._ends = starts, ends
        self.plain = _DROP.sub("", narrow)

    def __repr__(self) -> str:
        return f"<Text of {len(self.original)} characters>"

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Where `plain[start:end]` stands in `original`. Needs `start < end`."""
        starts, ends = self._starts, self._ends
        return (start, end) if starts is None or ends is None else (starts[start], ends[end - 1])


def _without_escapes(text: str) -> tuple[str, array[int], array[int]]:
    """What a text says with its escapes read, and where each character begins and ends in it."""
    pieces: list[str] = []
    starts, ends = array("l"), array("l")
    at = 0
    for found in _ESCAPE.finditer(text):
        start, end = found.span()
        pieces += (text[at:start], _character(found))
        starts.extend(range(at, start))
        ends.extend(range(at + 1, start + 1))
        starts.append(start)
        ends.append(end)
        at = end
    pieces.append(text[at:])
    starts.extend(range(at, len(text)))
    ends.extend(range(at + 1, len(text) + 1))
    return "".join(pieces), starts, ends


def _character(found: re.Match[str]) -> str:
    if (sign := found["sign"]) is not None:
        return _SIGNS[sign]
    if (code := found["code"]) is not None:
        return chr(int(code, 16))
    high, low = int(found["pair"][:4], 16), int(found["pair"][-4:], 16)
    return chr(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00))


def _replace(text: str, odd: set[str]) -> str:
    """`text` with those of `odd` narrow that have a narrow form."""
    if len(odd) > _FEW:
        return text.translate(_NARROW)
    for wide in odd:
        narrow = _NARROW.get(ord(wide))
        if narrow is not None:
            text = text.replace(wide, narrow)
    return text
