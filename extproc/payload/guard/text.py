"""One text of a guarded stream: its filter, where it goes on, and how what is left of it goes out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from extproc.payload.guard.endings import Head, raws
from extproc.payload.guard.fields import (
    OpenFilter,
    Piece,
    Shape,
    TextChannel,
    TextFilter,
    Use,
    choice_of,
    kind_of_text,
)
from extproc.payload.guard.frames import Frame
from extproc.payload.guard.leaves import Address, Edit, Leaf, Leaves, Path, address_of, join_surrogates, splice
from extproc.payload.operations.operation import Dialect

_encode = msgspec.json.encode

MAX_TEXTS = 256
"""Texts of one stream, over which it is refused."""

_MOST_COPIED = 65_536
_MARK = b"\0"  # stands in no JSON and in no line that a frame keeps
_HIGH = re.compile("[\ud800-\udbff]\\Z")
_ALL_END = ("message_delta", "message_stop", "response.completed", "response.incomplete", "response.failed")
_EMPTY_VALUES = {123: b"{}", 91: b"[]", 34: b'""'}


class HeldText(msgspec.Struct, frozen=True):
    """What a filter gave for a text that must not go on."""

    text: str = ""
    denied: bool = False


class GuardedField:
    """A text whose pieces come with several events."""

    __slots__ = ("_address", "_filter", "_half", "_shape", "choice", "copies", "copy", "ended")

    def __init__(self, text_filter: TextFilter, shape: Shape, address: Address, choice: int) -> None:
        self._filter = text_filter
        self._shape = shape
        self._address = address
        self._half = ""  # the first half of a surrogate pair
        self.copies = shape.dialect not in (Dialect.CHAT, Dialect.COMPLETIONS)
        """Whether an event of its own is a copy of the last one with other text."""
        self.copy = b"", b""
        """The last event around this text, all other text left out."""
        self.choice = choice
        self.ended = False

    def __repr__(self) -> str:
        return f"GuardedField({self._address!r}, ended={self.ended})"

    def feed(self, text: str, *, end: bool) -> Piece:
        """What the filter makes of the next piece. Text after the end is denied: what came before it is gone."""
        if self.ended:
            return HeldText(denied=bool(text))
        if self._half or not text.isascii():
            text = self._half + text
            self._half = ""
            if not end and _HIGH.search(text):
                text, self._half = text[:-1], text[-1]
            text = join_surrogates(text)
        if not text and not end:
            return HeldText()
        self.ended = end
        return self._filter.feed(text, end=end)

    def ends_with(self, shape: Shape, finished: set[int]) -> bool:
        """Whether an event ends this text; `finished` are the choices that it ends."""
        if self.ended or shape.type in _ALL_END:
            return not self.ended
        if shape.dialect is Dialect.RESPONSES:
            return shape.type.endswith(".done") and shape.selectors[1:2] == self._shape.selectors[1:2]
        if shape.type == "content_block_stop":
            return shape.selectors[:1] == self._shape.selectors[:1]
        return self.choice in finished

    def remember(self, frame: Frame, data: bytes, blanks: list[Edit], leaf: Leaf) -> bool:
        """Keep what a further event of this text looks like; False where that is too much to keep."""
        if not self.copies:
            return True
        edits = [(leaf.start, leaf.end, _MARK) if edit[0] == leaf.start else edit for edit in blanks]
        head, _, tail = frame.whole(splice(data, edits)).partition(_MARK)
        self.copy = head, tail
        return len(head) + len(tail) <= _MOST_COPIED

    def event(self, text: str, head: Head) -> bytes:
        """An event of its own for text that was held."""
        if self.copies:
            return self.copy[0] + _encode(text) + self.copy[1]
        value: Any = text
        for depth in range(len(self._address) - 1, 1, -1):
            value = _around(self._address[depth], value)
        choice = {"index": self.choice, **value, "finish_reason": None}
        return b"data: " + _encode({**raws(head), "choices": [choice]}) + b"\n\n"


class GuardedFields:
    """All texts of one stream, told apart by where they are and what their events say."""

    __slots__ = ("_fields", "_ids", "_open_filter")

    def __init__(self, open_filter: OpenFilter) -> None:
        self._open_filter = open_filter
        self._fields: dict[tuple[object, ...], GuardedField] = {}
        self._ids: dict[Path, bytes] = {}  # of elements that state their id once and no index

    def __iter__(self) -> Iterator[GuardedField]:
        return iter(self._fields.values())

    @property
    def too_many(self) -> bool:
        """Whether the stream has more than `MAX_TEXTS` texts."""
        return len(self._fields) > MAX_TEXTS or len(self._ids) > MAX_TEXTS

    def clear(self) -> None:
        self._fields.clear()
        self._ids.clear()

    def field(self, shape: Shape, leaves: Leaves, leaf: Leaf) -> GuardedField:
        """The text that a leaf is a piece of."""
        address = self._address(leaves, leaf)
        key = (shape.type, shape.selectors, address)
        text = self._fields.get(key)
        if text is None:
            channel = TextChannel(kind_of_text(shape, address), choice_of(shape, address))
            text = self._fields[key] = GuardedField(self._open_filter(channel), shape, address, channel.choice)
        return text

    def _address(self, leaves: Leaves, leaf: Leaf) -> Address:
        """An element without index and id continues the one with an id that was at its place."""
        address = list(address_of(leaves, leaf))
        for depth, part in enumerate(address):
            place = leaf.path[: depth + 1]
            if type(part) is bytes:
                self._ids[place] = part
            elif type(part) is int and place in self._ids and place not in leaves.indices:
                address[depth] = self._ids[place]
        return tuple(address)


def _around(part: str | int | bytes, value: Any) -> Any:
    """The value as a member, or as the element of an array that has this index or id."""
    if type(part) is str:
        return {part: value}
    if type(value) is not dict:
        return [value]
    key = {"index": part} if type(part) is int else {"id": part.decode()} if type(part) is bytes else {}
    return [{**key, **({"type": "text"} if "text" in value else {}), **value}]


def blanks_of(data: bytes, uses: list[tuple[Leaf, Use]]) -> list[Edit]:
    """Edits that leave an event without any text."""
    return [
        (leaf.start, leaf.end, b"null" if use is Use.FINISH else blank_of(data, leaf))
        for leaf, use in uses
        if use is not Use.LABEL
    ]


def blank_of(data: bytes, leaf: Leaf) -> bytes:
    """A value of the same type that says nothing."""
    return _EMPTY_VALUES.get(data[leaf.start], b"null")
