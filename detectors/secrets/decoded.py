"""Secrets one level under base64 or percent signs."""

from __future__ import annotations

import base64
import binascii
import re
from urllib.parse import unquote

import re2

LONGEST_RUN = 16_384
"""Characters of one encoded run that are decoded. A longer one is looked at up to here."""
MOST_DECODED = 65_536
"""Characters of one text that are decoded at most, over all runs."""

_GATE = re2.compile(r"[A-Za-z0-9+/]{40}|(?:%[0-9A-Fa-f]{2}[!-$&-~]{0,24}){3}")
_BASE64 = re.compile(r"(?<![A-Za-z0-9+/])[A-Za-z0-9+/]{40,16384}={0,2}")


def may_hide(data: bytes) -> bool:
    """Holds a run that is long enough to be worth decoding."""
    return _GATE.search(data) is not None


def base64_runs(text: str) -> list[tuple[int, int, str]]:
    """Runs that decode to printable ASCII: where they stand, and what they say."""
    found = []
    left = MOST_DECODED
    for match in _BASE64.finditer(text):
        run = match[0].rstrip("=")
        run = run[: len(run) - (len(run) % 4 == 1)]
        if (left := left - len(run)) < 0:
            break
        raw = _decode(run)
        if raw is not None and raw.isascii() and all(32 <= byte < 127 or byte in (9, 10, 13) for byte in raw):
            found.append((match.start(), match.end(), raw.decode("ascii")))
    return found


def percent_runs(text: str) -> list[tuple[int, int, str]]:
    """Runs of printable characters with percent escapes: where they stand, and what they say."""
    found = []
    left = MOST_DECODED
    at = 0
    while (mark := text.find("%", at)) >= 0:
        start = mark
        while start > max(at, mark - 512) and "!" <= text[start - 1] <= "~":
            start -= 1
        end = mark
        while end < min(len(text), mark + LONGEST_RUN) and "!" <= text[end] <= "~":
            end += 1
        if (left := left - (end - start)) < 0:
            break
        said = unquote(text[start:end])
        if said != text[start:end]:
            found.append((start, end, said))
        at = max(end, mark + 1)
    return found


def is_login(value: str) -> bool:
    """The value of `Authorization: Basic`: base64 of `user:password`."""
    raw = _decode(value.rstrip("="))
    if raw is None or b":" not in raw:
        return False
    try:
        said = raw.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return said.isprintable() and len(said.partition(":")[2]) >= 1


def _decode(run: str) -> bytes | None:
    try:
        return base64.b64decode(run + "=" * (-len(run) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None
