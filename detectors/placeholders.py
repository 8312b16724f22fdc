"""How a placeholder may be written: `<PHONE_1>` as it goes out, and what models make of it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import quote

import regex  # type: ignore[import-untyped]

LONGEST = 160
"""Characters of the longest writing, and the most that a restorer holds back."""

_SEPARATOR = r"(?:[ ]?\\{0,2}[_＿][ ]?|[ ]|-|%20|%5[fF])"
_DIGITS = "[0-9０-９]{1,6}"
_ANGLES = ("[<＜〈《]", "[>＞〉》]")
_SQUARES = r"[\[［【〔「]", r"[\]］】〕」](?!\()"
"""A link's text in Markdown keeps its brackets."""
_PAIRS = (
    (rf"(?:{_ANGLES[0]}|&lt;|\\u003[cC]|%3[cC])", rf"(?:{_ANGLES[1]}|&gt;|\\u003[eE]|%3[eE])"),
    (rf"\\{{1,2}}{_ANGLES[0]}", rf"\\{{1,2}}{_ANGLES[1]}"),
    (rf"(?:{_SQUARES[0]}|%5[bB])", rf"(?:{_SQUARES[1]}|%5[dD])"),
    (rf"\\{{1,2}}{_SQUARES[0]}", rf"\\{{1,2}}{_SQUARES[1]}"),
)
_ANY = r"[a-zA-Z]{1,24}(?:" + _SEPARATOR + r"[a-zA-Z]{1,24}){0,3}?"
_ANY_BARE = r"[A-Z]{1,24}(?:\\{0,2}_[A-Z]{1,24}){0,3}?"
_BEGINS = re.compile(r"[<＜〈《\[［【〔「&\\%]")
_BARE_HINT = re.compile(r"[A-Z]\\{0,2}_[0-9０-９]")
_NOISE = re.compile(r"%20|%5[fF]|[\\_＿ -]+")
_URL_UNSAFE = re.compile(r"[\s%&#?+\"<>\\^`{|}]")


class Written(NamedTuple):
    """One placeholder in a text."""

    start: int
    end: int
    word: str
    """Its category in one word, in capitals."""
    number: int
    in_url: bool
    """Whether it stands under percent signs, as its value then has to."""
    json_escape: bool
    """Whether it begins with the escape `\\u003c`."""


def word_of(category: str) -> str:
    """A category in one word: `IDCARD` for `ID_CARD`."""
    return _NOISE.sub("", category).upper()


def in_url(value: str) -> str:
    """A value as it stands in an address."""
    return _URL_UNSAFE.sub(lambda found: quote(found[0], safe=""), value)


def any_written(text: str) -> Iterator[Written]:
    """Whatever reads as a placeholder of any category."""
    if _BEGINS.search(text) is not None:
        yield from map(_written, _bracketed_any().finditer(text))
    if _BARE_HINT.search(text) is not None:
        yield from map(_written, _bare_any().finditer(text))


class Forms:
    """The writings of placeholders of some categories, given by their names."""

    def __init__(self, names: Collection[str]) -> None:
        bracketed, bare = _patterns(frozenset(names))
        self._pattern = re.compile(f"{bracketed}|{bare}")
        self._partial: Any = regex.compile(f"{bracketed}|{bare}")
        initials = "".join(sorted({name[0] for name in names}))
        self._begins = re.compile(rf"{_BEGINS.pattern}|(?<![A-Za-z0-9_])[{initials}]|(?<=\\[nrt])[{initials}]")

    def written(self, text: str, start: int = 0) -> Iterator[Written]:
        """In order; what stands before `start` is looked at for borders only."""
        if _BEGINS.search(text, start) is None and _BARE_HINT.search(text) is None:
            return iter(())
        return map(_written, self._pattern.finditer(text, start))

    def open_from(self, text: str, start: int = 0) -> int:
        """The offset from which the end of `text` may become a placeholder, or a longer one; its length if none."""
        for found in self._begins.finditer(text, max(start, len(text) - LONGEST)):
            match = self._partial.fullmatch(text, found.start(), partial=True)
            if match is not None and (match.partial or not _closed(match)):
                return found.start()
        return len(text)


@lru_cache(64)
def forms(names: frozenset[str]) -> Forms:
    """Shared by all requests that use the same categories."""
    return Forms(names)


def _closed(match: Any) -> bool:
    """Whether what follows a whole placeholder cannot matter any more."""
    return match["bare"] is None and match[0][-1] not in "]］】〕」"


def _patterns(names: Collection[str]) -> tuple[str, str]:
    ordered = sorted(names, key=lambda name: (-len(name), name))
    inside = "|".join(_SEPARATOR.join(name.split("_")) for name in ordered)
    bare = "|".join(r"\\{0,2}_".join(name.split("_")) for name in ordered)
    return _bracketed(f"(?i:{inside})"), _bare(bare)


def _bracketed(category: str) -> str:
    body = rf"[ ]?{category}{_SEPARATOR}?{_DIGITS}[ ]?"
    return "(?P<bracketed>" + "|".join(f"{opening}{body}{closing}" for opening, closing in _PAIRS) + ")"


def _bare(category: str) -> str:
    edge = r"(?:(?<![A-Za-z0-9_])|(?<=\\[nrt]))"
    return rf"(?P<bare>{edge}(?:{category})\\{{0,2}}_{_DIGITS}(?![A-Za-z0-9_０-９]))"


@lru_cache(1)
def _bracketed_any() -> re.Pattern[str]:
    return re.compile(f"{_bracketed(_ANY)}|(?P<bare>(?!))")


@lru_cache(1)
def _bare_any() -> re.Pattern[str]:
    return re.compile(f"{_bare(_ANY_BARE)}")


_BODY = re.compile(rf"([A-Za-z](?:[A-Za-z]|{_SEPARATOR}(?=[A-Za-z]))*){_SEPARATOR}?({_DIGITS})(?![0-9０-９])")
_OPENING = re.compile(r"&lt;|\\u003[cC]|%3[cC]|%5[bB]")


def _written(match: re.Match[str]) -> Written:
    opening = _OPENING.match(match[0])
    body = _BODY.search(match[0], opening.end() if opening else 0)
    if body is None:
        raise AssertionError("every writing has a category and a number")
    percent = opening is not None and opening[0][0] == "%"
    escape = opening is not None and opening[0][0] == "\\"
    return Written(*match.span(), word_of(body[1]), int(body[2]), percent, escape)
