"""Numbers that a program drew: by chance one of many has a valid checksum."""

from __future__ import annotations

import re
from collections.abc import Callable

_REACH = 400
"""Characters of a list that are looked at on either side of a value."""
_ELEMENT = r"\s{0,8}\\?[\"']?([0-9A-Za-z]{6,40})\\?[\"']?\s{0,8}"
_BEFORE = re.compile(rf"[\[,]{_ELEMENT},\s{{0,8}}\\?[\"']?\Z")
_AFTER = re.compile(rf"\\?[\"']?\s{{0,8}},{_ELEMENT}(?=[,\]])")
_OPENS = re.compile(r"[\[,]\s{0,8}\\?[\"']?\Z")
_KEY = re.compile(r"([A-Za-z_\-]{1,40})\\?[\"']?\s{0,4}:\s{0,4}\\?[\"']?\Z")
_OF_AN_ID = re.compile(
    r"(?:\A|[_\-])(?i:ids?|uid|uuid|guid|seq|trace|span|cursor|offset|nonce|hash|timestamp|ts|time|version|revision)\Z"
    r"|[a-z](?:Ids?|IDs?|Uid|Uuid|Seq|Hash|Timestamp|Nonce|Cursor)\Z"
    r"|(?i:trace|span|order|user|request|session|item|customer|product|message|msg|group|tenant|device|event)ids?\Z"
    r"|(?i:order|request|batch|serial|trade|trans(?:action)?|flow|track(?:ing)?|ticket|sequence)_?(?i:no|num|number|code|sn)\Z"
)
_OF_A_CARD = re.compile(r"(?i)card|(?<![a-z])pan|account|acct|iban|bank|credit|uscc|tax|licen[cs]e|社会|卡|账|帐")


def drawn(text: str, start: int, end: int, valid: Callable[[str], bool]) -> bool:
    """Whether `text[start:end]` is one of a list's ids, of which others have no valid checksum, or the value of a key
    such as `trace_id`. A key that names a card or an account says that it is none."""
    key = _KEY.search(text, max(0, start - 64), start)
    if key is not None:
        return _OF_AN_ID.search(key[1]) is not None and _OF_A_CARD.search(key[1]) is None
    if _OPENS.search(text, max(0, start - 12), start) is None:
        return False
    size = end - start
    others: list[str] = []
    at = start
    while at > max(0, start - _REACH) and (before := _BEFORE.search(text, max(0, at - 64), at)) is not None:
        others.append(before[1])
        at = before.start(1)
    lead = text[max(0, at - 64) : at]
    named = _OF_A_CARD.search(lead[max(0, lead.rfind("\n")) :]) is not None
    at = end
    while at < start + _REACH and (after := _AFTER.match(text, at)) is not None:
        others.append(after[1])
        at = after.end(1)
    alike = [each for each in others if abs(len(each) - size) <= 2]
    return not named and any(not valid(each) for each in alike)
