"""Private keys and vaults that span lines."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator

LONGEST_BLOCK = 20_000
"""Characters from the first dash of a private key to the last: RSA with 16,384 bits takes some 13,000."""
KEYWORDS = ("-----begin", "$ansible_vault;", "putty-user-key-file", "----begin")

_BEGIN = re.compile(
    r"-{4,5} ?BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)? ?-{4,5}|PuTTY-User-Key-File-\d:|\$ANSIBLE_VAULT;\d"
)
_OPENING = re.compile(r"-{4,5} ?(?:B(?:E(?:G(?:I(?:N[A-Z0-9 ]{0,60}-{0,5})?)?)?)?)?\Z|\$ANSIBLE_VAULT[!-~]{0,40}\Z")
_END = re.compile(r"-{4,5} ?END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)? ?-{4,5}|Private-MAC: ?[a-f0-9]{40,64}")
_BODY = re.compile(
    r"(?:[A-Za-z0-9+/=]{16,}|(?:Proc-Type|DEK-Info|Version|Comment)[ :][!-~ ]{0,80}"
    r"|[\s\\nr\"'`+,.;|#*&@()-]|[A-Za-z0-9+/=]{1,15}(?=[\s\\\"']|\Z))*"
)
_VAULT = re.compile(
    r"\$ANSIBLE_VAULT;\d\.\d;AES\d{0,3}(?:;[\w.\-]{1,40})?(?:\s{1,24}|\\n\s{0,24})"
    r"(?:[0-9a-f]{2,80}(?:\s{1,24}|\\n\s{0,24}|\Z|(?=[^0-9a-f]))){1,250}"
)
_ENOUGH = re.compile(r"[A-Za-z0-9+/=]{40}")


def find_blocks(text: str) -> Iterator[tuple[int, int]]:
    """Spans of whole blocks. A key whose end is missing goes as far as its lines look like one."""
    begins = list(_BEGIN.finditer(text))
    ends = deque(_END.finditer(text)) if begins else deque()
    for index, begin in enumerate(begins):
        limit = min(len(text), begin.start() + LONGEST_BLOCK)
        if index + 1 < len(begins):
            limit = min(limit, begins[index + 1].start())
        while ends and ends[0].start() < begin.end():
            ends.popleft()
        end = ends[0] if ends and ends[0].end() <= limit else None
        stop = _end_of(text, begin, end, limit)
        if stop is not None:
            yield begin.start(), stop


def _end_of(text: str, begin: re.Match[str], end: re.Match[str] | None, limit: int) -> int | None:
    if begin[0].startswith("$"):
        vault = _VAULT.match(text, begin.start(), limit)
        return None if vault is None else begin.start() + len(vault[0].rstrip())
    if end is not None:
        return end.end() if _looks_filled(text[begin.end() : end.start()]) else None
    body = _BODY.match(text, begin.end(), limit)
    if body is None or _ENOUGH.search(body[0]) is None:
        return None
    return begin.end() + len(body[0].rstrip(" \t\r\n\"'`\\+,;"))


def _looks_filled(body: str) -> bool:
    """Holds key material, not `...` or a word in brackets."""
    return re.search(r"[A-Za-z0-9+/=]{24}", body) is not None


def open_block(text: str) -> int | None:
    """Where a block starts that the text has begun and not ended."""
    since = max(0, len(text) - LONGEST_BLOCK)
    at = since
    while (begin := _BEGIN.search(text, at)) is not None:
        if begin[0].startswith("$"):
            vault = _VAULT.match(text, begin.start())
            if vault is None or vault.end() == len(text) or not text[vault.end() :].strip():
                return begin.start()
            at = vault.end()
            continue
        end = _END.search(text, begin.end())
        if end is None or end.end() == len(text):
            return begin.start()
        at = end.end()
    opening = _OPENING.search(text, max(at, len(text) - 80))
    return None if opening is None else opening.start()
