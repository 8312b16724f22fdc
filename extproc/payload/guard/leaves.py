"""Where the strings of a JSON text lie, at any depth, so that they can be replaced and all other bytes stay."""

import json
import re
from collections.abc import Iterable
from enum import Enum, auto

import msgspec

from extproc.payload.errors import PayloadError
from extproc.payload.guard.schema import MEDIA, NUMBERS, TOKENS, WORD, Schema

_text = msgspec.json.Decoder(str).decode

# The text is known to be JSON, so what lies between two tokens needs no look.
_TOKEN = re.compile(rb'[ \t\n\r:,]*(?:("[^"\\]*(?:\\.[^"\\]*)*")|([\[{])|([\]}])|([^ \t\n\r:,"\[\]{}]+))', re.DOTALL)
_STRING, _OPEN, _CLOSE = 1, 2, 3
_OF_NUMBERS = re.compile(rb"\[[ \t\n\r]*(?:\[[ \t\n\r]*)?-?[0-9]")
MOST_VALUES = 200_000
"""Values and unknown keys of one JSON text; a body with more is refused."""
DEEPEST = 128
"""Objects and arrays inside one another."""


_SHORT_NUMBER = 7
"""Digits from which a number may be a telephone number, a card or an account."""
_DIGITS = re.compile(rb"[0-9]")
_SMALL = re.compile(rb"-?[0-9]{1,10}(?:\.[0-9]{1,10})?(?:[eE][+-]?[0-9]{1,3})?")
_WORDS = (b"true", b"false", b"null")
UNKNOWN = Schema()
"""Of a value whose field is not known."""

Path = tuple[str | int, ...]
"""Keys and array positions from the top."""
Address = tuple[str | int | bytes, ...]
"""A path in which an array position may be replaced by the element's `index`, or its raw `id`."""


class LeafKind(Enum):
    STRING = auto()
    SCALAR = auto()
    """A number, true, false or null."""
    CONTAINER = auto()
    """An object or array that is taken whole."""
    KEY = auto()
    """The name of a field that the schema does not have."""


class Leaf(msgspec.Struct, frozen=True, gc=False):
    """One value, `data[start:end]`."""

    path: Path
    start: int
    end: int
    kind: LeafKind
    schema: Schema


Edit = tuple[int, int, bytes]
"""`data[start:end]` becomes these bytes."""


class Leaves(msgspec.Struct, frozen=True):
    """All leaves in order, and what `index` (else `id`) says in the objects that are elements of arrays."""

    items: list[Leaf]
    indices: dict[Path, int | bytes]


def leaves_of(data: bytes, schema: Schema, *, descend: bool = False) -> Leaves:
    """The leaves of a text that is known to be JSON. An object or array for which `schema` knows no fields is one leaf,
    and so is an array of numbers; the name of a field that it does not know is a leaf beside its value. `descend`:
    values of fields that it does not know are not taken whole, as events bring their texts in pieces.

    Raises PayloadError `duplicate_key`, as readers disagree on which one counts, `too_deep` and `too_many_values`.
    """
    return _Walk(data, schema, descend).leaves()


class _Walk:
    """One pass over the tokens of a JSON text."""

    __slots__ = (
        "_data",
        "_descend",
        "_expects_key",
        "_indices",
        "_items",
        "_keys",
        "_path",
        "_schemas",
        "_taken",
        "_value",
    )

    def __init__(self, data: bytes, schema: Schema, descend: bool) -> None:
        self._data = data
        self._descend = descend
        self._items: list[Leaf] = []
        self._indices: dict[Path, int | bytes] = {}
        self._path: list[str | int] = []
        self._keys: list[set[str] | None] = []  # of each open object, None for an array
        self._schemas: list[Schema] = []  # of each open container that is not taken whole
        self._expects_key = False
        self._taken: tuple[int, int] | None = None  # depth and start of the container that is taken whole
        self._value = schema  # of the value that comes next

    def leaves(self) -> Leaves:
        data, path, keys, items = self._data, self._path, self._keys, self._items
        for match in _TOKEN.finditer(data):
            token = match.lastindex
            start, end = match.span(token or 0)
            if token == _STRING and self._expects_key:
                self._key(start, end)
                continue
            if token == _OPEN:
                self._open(start)
                continue
            if token == _CLOSE:
                self._close(end)
            elif self._taken is None:
                kind = LeafKind.STRING if token == _STRING else LeafKind.SCALAR
                items.append(Leaf(tuple(path), start, end, kind, self._value))
                _note_index(items[-1], data, self._indices)
            if keys:
                self._expects_key = keys[-1] is not None
                if not self._expects_key:
                    path[-1] = int(path[-1]) + 1
                    if self._taken is None:
                        self._value = self._schemas[-1].items or UNKNOWN
            if len(items) > MOST_VALUES:
                raise PayloadError(f"the JSON has more than {MOST_VALUES} values", "too_many_values")
        return Leaves(items, self._indices)

    def _key(self, start: int, end: int) -> None:
        data = self._data
        key = data[start + 1 : end - 1].decode() if data.find(b"\\", start, end) < 0 else string_of(data[start:end])
        seen = self._keys[-1]
        if seen is None or key in seen:
            name = msgspec.json.encode(join_surrogates(key[:64])).decode()
            raise PayloadError(f"the key {name} appears more than once", "duplicate_key", key[:64])
        seen.add(key)
        self._path[-1] = key
        self._expects_key = False
        if self._taken is not None:
            return
        around = self._schemas[-1]
        known = around.fields.get(key)
        if known is None and around.rest is not None and WORD.fullmatch(data, start + 1, end - 1):
            known = around.rest
        if known is None:
            self._items.append(Leaf(tuple(self._path), start, end, LeafKind.KEY, UNKNOWN))
        self._value = known or UNKNOWN

    def _open(self, start: int) -> None:
        path, value = self._path, self._value
        is_object = self._data[start] == 123
        if self._taken is None:
            if self._descend and value is UNKNOWN:
                whole = _OF_NUMBERS.match(self._data, start) is not None
            elif is_object:
                whole = not value.fields and value.rest is None
            else:
                whole = value.items is None or _OF_NUMBERS.match(self._data, start) is not None
            if whole and path:
                self._taken = len(path), start
            else:
                self._schemas.append(value)
                self._value = value.items or UNKNOWN
        self._keys.append(set() if is_object else None)
        path.append("" if is_object else 0)
        if len(path) > DEEPEST:
            raise PayloadError(f"the JSON is nested more than {DEEPEST} levels deep", "too_deep")
        self._expects_key = is_object

    def _close(self, end: int) -> None:
        self._keys.pop()
        self._path.pop()
        if self._taken is None:
            self._schemas.pop()
        elif self._taken[0] == len(self._path):
            self._items.append(Leaf(tuple(self._path), self._taken[1], end, LeafKind.CONTAINER, self._value))
            self._taken = None


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


def is_no_text(data: bytes, leaf: Leaf) -> bool:
    """Whether the schema says that a value is no text, and it looks like that."""
    schema, start, end = leaf.schema, leaf.start, leaf.end
    if leaf.kind is LeafKind.STRING:
        if schema.pattern is not None and schema.pattern.fullmatch(data, start, end):
            return True
        return schema.media and MEDIA.fullmatch(data, start, end) is not None
    if leaf.kind is LeafKind.CONTAINER:
        return TOKENS.fullmatch(data, start, end) is not None or (
            schema.media and NUMBERS.fullmatch(data, start, end) is not None
        )
    if leaf.kind is LeafKind.SCALAR:
        if end - start < _SHORT_NUMBER or data[start:end] in _WORDS:
            return True
        if schema.number and _SMALL.fullmatch(data, start, end):
            return True
        return len(_DIGITS.findall(data, start, end)) < _SHORT_NUMBER
    return False


def string_at(data: bytes, leaf: Leaf) -> str:
    """The string's text. A surrogate escape without its pair stays a surrogate, as the other half may follow."""
    return string_of(data[leaf.start : leaf.end])


def string_of(raw: bytes) -> str:
    """What a JSON string says, as `string_at`."""
    return str(json.loads(raw)) if b"\\u" in raw else _text(raw)


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
