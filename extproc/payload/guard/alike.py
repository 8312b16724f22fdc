"""Recognises events that differ from an earlier one of the same stream only in their one text and in labels."""

from __future__ import annotations

import re

import msgspec

from extproc.payload.guard.fields import SELECTORS, Use
from extproc.payload.guard.frames import Frame
from extproc.payload.guard.leaves import Leaf, LeafKind
from extproc.payload.guard.text import GuardedField

_text = msgspec.json.Decoder(str).decode

_MOST = 8  # shapes that are learnt per stream
_LONGEST = 4096  # bytes of a frame around its text that is worth a pattern

_STRING = rb'("[^"\\]*(?:\\.[^"\\]*)*")'
_NUMBER = re.compile(rb"(?:0|[1-9][0-9]{0,9})")
_VARYING = ("id", "event_id", "obfuscation")


class AlikeEvent(msgspec.Struct, frozen=True):
    """A frame without its text, which lies between `start` and `end`."""

    text: str
    field: GuardedField
    start: int
    end: int


class AlikeEvents:
    """Patterns of whole frames: all bytes as in the frame learnt, but for the text, and for ids and counts.

    What may differ is of the same JSON type and says nothing about where the text belongs, so a frame that fits needs
    no parsing to be understood, only its text does.
    """

    __slots__ = ("_known", "_learnt")

    def __init__(self) -> None:
        self._known: list[tuple[re.Pattern[bytes], GuardedField]] = []
        self._learnt = 0

    def read(self, raw: bytes) -> AlikeEvent | None:
        """The frame's text; None where the frame has to be parsed."""
        for place, (pattern, field) in enumerate(self._known):
            found = pattern.fullmatch(raw)
            if found is None or field.ended:
                continue
            try:
                text = _text(found[1])
            except (msgspec.DecodeError, UnicodeDecodeError):
                return None
            if place:
                self._known.insert(0, self._known.pop(place))
            return AlikeEvent(text, field, *found.span(1))
        return None

    def learn(self, frame: Frame, data: bytes, uses: list[tuple[Leaf, Use]], own: Leaf, field: GuardedField) -> None:
        """Remember a frame that holds one text, `own`, on one data line, and nothing else that is no label."""
        before = frame.raw.find(data)
        if self._learnt >= _MOST or before < 0 or len(frame.raw) - (own.end - own.start) > _LONGEST:
            return
        self._learnt += 1
        pattern, at = b"", 0
        for leaf, _ in uses:
            hole = _STRING if leaf is own else _hole(data, leaf)
            if hole:
                pattern += re.escape(frame.raw[at : before + leaf.start]) + hole
                at = before + leaf.end
        self._known.insert(0, (re.compile(pattern + re.escape(frame.raw[at:]), re.DOTALL), field))


def _hole(data: bytes, leaf: Leaf) -> bytes:
    """What may stand in this leaf's place; b"" where it has to stay the same."""
    key = leaf.path[-1]
    if leaf.kind is LeafKind.STRING:
        pattern = leaf.schema.pattern if len(leaf.path) == 1 and key in _VARYING else None
    else:
        pattern = _NUMBER if leaf.path[0] == "usage" or (len(leaf.path) == 1 and key not in SELECTORS) else None
    return b"" if pattern is None or not pattern.fullmatch(data, leaf.start, leaf.end) else pattern.pattern
