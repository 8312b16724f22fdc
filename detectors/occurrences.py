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
_HAN = re.compile("[\u4e00-\u9fff]+")
_SURROGATE = re.compile("[\ud800-\udfff]")


_SURNAMES = frozenset(
    "王李张刘陈杨赵黄周吴徐孙胡朱高林何郭马罗梁宋郑谢韩唐冯董萧程曹袁邓许傅沈曾彭吕苏卢蒋蔡贾丁魏薛叶阎余潘杜戴夏钟汪田任姜范方石姚谭廖邹熊金"
    "陆郝孔白崔康毛邱秦江史顾侯邵孟龙万段漕钱汤尹黎易武乔贺赖龚張劉陳楊趙黃吳孫馬羅鄭謝韓馮蕭許鄧傅盧蔣賈葉閻鍾譚鄒陸錢湯賀龔"
)
_DOUBLE_SURNAMES = frozenset(
    ("欧阳", "司马", "上官", "诸葛", "司徒", "皇甫", "慕容", "令狐", "东方", "南宫", "尉迟", "歐陽", "司馬")
)
"""Frequent ones; without those that are common words before a name, such as 于 and 和."""


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
    """A name that ends inside a word, to that word's ends: `Jon` of `Jonathan` names the same person, and so does a
    Chinese given name with the surname before it."""
    start, end = found.start, found.end
    if found.category == "PERSON":
        start = _with_surname(text, start, end)
    while joined(text, start):
        start -= 1
    while joined(text, end):
        end += 1
    if (start, end) == (found.start, found.end):
        return found
    return msgspec.structs.replace(found, start=start, end=end)


def _with_surname(text: str, start: int, end: int) -> int:
    """Where a person's name starts, if only the given name was found."""
    if end - start > 2 or _HAN.fullmatch(text, start, end) is None or text[start] in _SURNAMES:
        return start
    if text[max(0, start - 2) : start] in _DOUBLE_SURNAMES:
        return start - 2
    return start - (text[start - 1 : start] in _SURNAMES)


def joined(text: str, at: int) -> bool:
    """Whether a word or number of an alphabet that is written with spaces goes on across this place."""
    return 0 < at < len(text) and _is_part(text[at - 1]) and _is_part(text[at])


def _is_part(character: str) -> bool:
    return character.isalnum() and (character.isascii() or _UNSPACED.match(character) is None)


def _encodable(text: str) -> bool:
    return text.isascii() or _SURROGATE.search(text) is None
