"""Where the strings of a JSON text lie, at any depth, so that they can be replaced and all other bytes stay."""

import json
import re
from collections.abc import Iterable
from enum import Enum, auto

import msgspec

from extproc.payload.errors import PayloadError

_text = msgspec.json.Decoder(str).decode

# The text is known to be JSON, so what lies between two tokens needs no look.
_TOKEN = re.compile(rb'[ \t\n\r:,]*(?:("[^"\\]*(?:\\.[^"\\]*)*")|([\[{])|([\]}])|([^ \t\n\r:,"\[\]{}]+))', re.DOTALL)
_STRING, _OPEN, _CLOSE = 1, 2, 3
_MOST_LEAVES = 200_000


Path = tuple[str | int, ...]
"""Keys and array positions from the top."""
Address = tuple[str | int | bytes, ...]
"""A path in which an array position may be replaced by the element's `index`, or its raw `id`."""


class LeafKind(Enum):
    STRING = auto()
    SCALAR = auto()
    """A number, true, false or null."""
    CONTAINER = auto()
    """An object or array under one of the keys that are taken whole."""


class Leaf(msgspec.Struct, frozen=True, gc=False):
    """One value, `data[start:end]`."""

    path: Path
    start: int
    end: int
    kind: LeafKind


Edit = tuple[int, int, bytes]
"""`data[start:end]` becomes these bytes."""


class Leaves(msgspec.Struct, frozen=True):
    """All leaves in order, and what `index` (else `id`) says in the objects that are elements of arrays."""

    items: list[Leaf]
    indices: dict[Path, int | bytes]


def leaves_of(data: bytes, whole: frozenset[str] = frozenset()) -> Leaves:
    """The leaves of a text that is known to be JSON. A container under a key in `whole` is one leaf.

    Raises PayloadError `duplicate_key`, as readers disagree on which one counts, and `body_too_large`.
    """
    items: list[Leaf] = []
    indices: dict[Path, int | bytes] = {}
    path: list[str | int] = []
    keys: list[set[str] | None] = []  # of each open object, None for an array
    expects_key = False
    taken = 0  # depth of the container that is taken whole
    taken_from = 0
    for match in _TOKEN.finditer(data):
        token = match.lastindex
        start, end = match.span(token or 0)
        if token == _STRING and expects_key:
            key = data[start + 1 : end - 1].decode() if data.find(b"\\", start, end) < 0 else _text(data[start:end])
            seen = keys[-1]
            if seen is None or key in seen:
                raise PayloadError("a key appears more than once in an object", "duplicate_key")
            seen.add(key)
            path[-1] = key
            expects_key = False
            continue
        if token == _OPEN:
            if not taken and path and path[-1] in whole:
                taken, taken_from = len(path), start
            is_object = data[start] == 123
            keys.append(set() if is_object else None)
            path.append("" if is_object else 0)
            expects_key = is_object
            continue
        if token == _CLOSE:
            keys.pop()
            path.pop()
            if taken == len(path) and taken:
                items.append(Leaf(tuple(path), taken_from, end, LeafKind.CONTAINER))
                taken = 0
        elif not taken:
            items.append(Leaf(tuple(path), start, end, LeafKind.STRING if token == _STRING else LeafKind.SCALAR))
            _note_index(items[-1], data, indices)
        if keys:
            expects_key = keys[-1] is not None
            if not expects_key:
                path[-1] = int(path[-1]) + 1
        if len(items) > _MOST_LEAVES:
            raise PayloadError("the JSON has too many values", "body_too_large")
    return Leaves(items, indices)


def _note_index(leaf: Leaf, data: bytes, indices: dict[Path, int | bytes]) -> None:
    path = leaf.path
    if len(path) < 3 or type(path[-2]) is not int:
        return
    if path[-1] == "index" and leaf.kind is LeafKind.SCALAR and (raw := data[leaf.start : leaf.end]).isdigit():
        indices[path[:-1]] = int(raw) if len(raw) < 10 else raw
    elif path[-1] == "id" and leaf.kind is LeafKind.STRING and leaf.end - leaf.start > 2:
        indices.setdefault(path[:-1], data[leaf.start + 1 : leaf.end - 1])


def address_of(leaves: Leaves, leaf: Leaf) -> Address:
    """Where a leaf is, elements of arrays by their index or id where they state one."""
    indices = leaves.indices
    if not indices:
        return leaf.path
    path = leaf.path
    return tuple(indices.get(path[: depth + 1], part) if type(part) is int else part for depth, part in enumerate(path))


def string_at(data: bytes, leaf: Leaf) -> str:
    """The string's text. A surrogate escape without its pair stays a surrogate, as the other half may follow."""
    raw = data[leaf.start : leaf.end]
    if b"\\u" in raw:
        return str(json.loads(raw))
    return _text(raw)


def splice(data: bytes, edits: Iterable[Edit]) -> bytes:
    """The data with the edits made, which are in order and apart."""
    pieces: list[bytes] = []
    at = 0
    for start, end, new in edits:
        pieces += (data[at:start], new)
        at = end
    pieces.append(data[at:])
    return b"".join(pieces)


def join_surrogates(text: str) -> str:
    r"""Halves of surrogate pairs joined; one that stays alone becomes U+FFFD."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text
