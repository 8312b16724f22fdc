"""Finds a few metrics on a long page of the Prometheus text format, first where they stood on the page before.

The format prints all series of a metric as one group.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_HEAD = 8192
"""Bytes in which gauges usually are. A hit there is cheap; a name that is absent is found out faster from the end."""
_NEAR = 512
"""Bytes by which a metric may have moved since the page before."""
_MAX_SERIES = 1024
"""Series read of one metric. More than that is no engine."""
_AFTER_NAME = (b"{", b" ", b"\t")


class Memory:
    """What the pages of one engine had in common so far. Only makes reading faster: it may be lost at any time, and be
    that of another engine.
    """

    __slots__ = ("places", "values")

    def __init__(self) -> None:
        self.places: dict[bytes, int] = {}
        """Where the group of a metric began."""
        self.values: dict[bytes, tuple[list[bytes], Any]] = {}
        """Lines of a metric, and what was made of them."""


class Page:
    """The text of a page, and what is remembered of earlier ones."""

    __slots__ = ("_memory", "_text")

    def __init__(self, text: bytes, memory: Memory) -> None:
        # Every name is looked for at the start of a line; a page that begins with a comment needs no copy for that.
        self._text = text if text[:1] == b"#" else b"\n" + text
        self._memory = memory

    def evaluate(self, name: bytes, evaluation: Callable[[list[bytes]], Any]) -> Any:
        """What `evaluation` makes of the lines of a metric, always the same one for a name; None where it is absent."""
        lines = self.series(name)
        if not lines:
            return None
        known = self._memory.values.get(name)
        if known is not None and known[0] == lines:
            return known[1]
        found = evaluation(lines)
        self._memory.values[name] = lines, found
        return found

    def series(self, name: bytes) -> list[bytes]:
        """What follows `name` on each line of its group: labels, value. Nothing where the metric is absent."""
        text, needle = self._text, b"\n" + name
        at = self._begin(needle)
        size = len(needle)
        found: list[bytes] = []
        while at >= 0 and len(found) < _MAX_SERIES:
            begin = at + size
            end = text.find(b"\n", begin)
            if end < 0:
                end = len(text)
            if text[begin : begin + 1] in _AFTER_NAME:
                if not found:
                    self._memory.places[needle] = at
                found.append(text[begin:end])
                if not text.startswith(needle, end):
                    break
                at = end
            else:  # a longer name that begins with this one
                at = text.find(needle, end)
        return found

    def _begin(self, needle: bytes) -> int:
        """Where the first line with `needle` begins, or a line before it that only begins alike; -1 for none."""
        text = self._text
        place = self._memory.places.get(needle, -1)
        if place >= 0:
            at = text.find(needle, place - _NEAR if place > _NEAR else 0, place + _NEAR)
            if at >= 0 and not text.startswith(needle, text.rfind(b"\n", 0, at)):
                return at
        at = text.find(needle, 0, _HEAD)
        if at < 0 and text.rfind(needle) >= 0:
            return text.find(needle)
        return at
