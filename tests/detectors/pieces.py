"""A finder with an honest `open_from`, and texts in pieces, for the tests of guarded streams."""

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise

from detectors.findings import Finding
from detectors.masking import Restorer
from detectors.stream import Released, StreamGuard

NAMES = ("Alice Liddell", "王小明", "Bob")
EMAIL = "alice.l@example.com"
CARD = "4111 1111 1111 1111"
ID_CARD = "11010519491231002X"
KEY = "sk-" + "aB3dE5fG7hJ9kL1mN2pQ4rS6"
PEM = "-----BEGIN " + "PRIVATE KEY-----\nMIIEvQIBADANBgkq\nhkiG9w0BAQEF\n-----END " + "PRIVATE KEY-----"
VALUES = (EMAIL, CARD, ID_CARD, KEY, PEM, *NAMES)

_RULES = [
    ("EMAIL", re.compile(r"(?<![\w.+-])[A-Za-z0-9._+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+", re.ASCII)),
    ("BANK_CARD", re.compile(r"(?<![0-9A-Za-z])[0-9](?:[ -]?[0-9]){12,18}(?![0-9A-Za-z]|[ -][0-9])")),
    ("ID_CARD", re.compile(r"(?<![0-9A-Za-z])[0-9]{17}[0-9X](?![0-9A-Za-z])")),
    ("SECRET", re.compile(r"sk-[A-Za-z0-9]{20,40}")),
    ("SECRET", re.compile(r"-----BEGIN PRIVATE KEY-----.*?-----END PRIVATE KEY-----", re.DOTALL)),
    ("PERSON", re.compile("|".join(map(re.escape, NAMES)))),
]
_WORD = re.compile(r"[A-Za-z0-9._+@-]*\Z")
_DIGITS = re.compile(r"[0-9](?:[ -]?[0-9])*[ -]?\Z")
_HEAD, _TAIL = "-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----"
_STARTS = (_HEAD, *NAMES)


def find(text: str) -> list[Finding]:
    return [Finding(m.start(), m.end(), name, 1.0, "fake") for name, rule in _RULES for m in rule.finditer(text)]


def open_from(text: str, since: int = 0) -> int:
    starts = [len(text)]
    starts += [m.start() for rule in (_WORD, _DIGITS) if (m := rule.search(text))]
    closed = [m.end() for m in _RULES[4][1].finditer(text)]
    head = text.find(_HEAD, closed[-1] if closed else 0)
    if head >= 0:
        starts.append(head)
    starts += [len(text) - n for start in _STARTS for n in range(1, len(start)) if text.endswith(start[:n])]
    return min(starts)


def cut(text: str, cuts: Iterable[int]) -> list[str]:
    """The text in pieces that end at the given offsets."""
    at = sorted({min(c, len(text)) for c in cuts} | {0, len(text)})
    return [text[a:b] for a, b in pairwise(at)] or [""]


def without(text: str, spans: Iterable[Finding]) -> str:
    """The text with these spans, which do not overlap, cut out."""
    at = 0
    out = ""
    for span in spans:
        out += text[at : span.start]
        at = span.end
    return out + text[at:]


class GuardedText:
    """A guard that looks first and a restorer that puts values back behind it, so that they are not found again."""

    __slots__ = ("_guard", "_restorer")

    def __init__(self, guard: StreamGuard | None, restorer: Restorer | None) -> None:
        self._guard = guard
        self._restorer = restorer

    def __repr__(self) -> str:
        return f"<GuardedText {self._guard!r} {self._restorer!r}>"

    def feed(self, text: str, *, end: bool = False) -> Released:
        """As `StreamGuard.feed`; findings are in characters of the text before values are put back."""
        released = Released(text) if self._guard is None else self._guard.feed(text, end=end)
        if self._restorer is None:
            return released
        restored = self._restorer.feed(released.text, end=end or released.denied)
        return Released(restored, released.findings, released.denied)


def delays(guard: StreamGuard, pieces: Sequence[str]) -> list[int]:
    """For each piece of a stream: how many further pieces came before the last of its characters was decided.

    0 is a token that went on at once. Their median is the delay in tokens that guarding adds.
    """
    waiting: list[tuple[int, int]] = []  # number of a piece, where it ends
    out = [0] * len(pieces)
    end = 0
    for number, piece in enumerate(pieces):
        end += len(piece)
        waiting.append((number, end))
        guard.feed(piece, end=number == len(pieces) - 1)
        while waiting and (guard.released >= waiting[0][1] or guard.denied):
            first = waiting.pop(0)[0]
            out[first] = number - first
    return out
