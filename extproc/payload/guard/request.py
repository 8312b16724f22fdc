"""The texts inside a request: where each stands, who speaks, and how to write it back with nothing else changed."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from enum import Enum, auto

import msgspec

from extproc.payload.document import Document
from extproc.payload.errors import PayloadError
from extproc.payload.guard.leaves import Leaf, LeafKind, Path, is_no_text, leaves_of, splice, string_at, string_of
from extproc.payload.guard.schema import REQUEST, Schema

MOST_PASSAGES = 20_000
"""Texts of one request; a body with more is refused, since each costs time of its own."""

_encode = msgspec.json.encode
_json = msgspec.json.Decoder(msgspec.Raw).decode

_MESSAGE_KEYS = ("messages", "input", "contents")
_SYSTEM_KEYS = ("system", "instructions", "systemInstruction", "system_instruction")
_TOOL_KEYS = ("tools", "functions")
_SAID_KEYS = (*_MESSAGE_KEYS, "prompt", "suffix")
_CALL_KEYS = frozenset(("arguments", "tool_calls", "function_call", "output", "functionCall", "functionResponse"))
_MEDIA_KEYS = frozenset(
    ("image_url", "input_audio", "file", "audio", "source", "video_url", "inlineData", "inline_data")
)
_TOOL_TYPES = frozenset(
    ("tool_use", "tool_result", "function_call", "function_call_output", "custom_tool_call", "custom_tool_call_output")
)
_MODEL_ROLES = ("assistant", "model")
_MODEL_TYPES = ("_call", "reasoning")
"""How the types of items end that a model writes, such as `function_call`."""
_DIGITS = re.compile(rb"[0-9]")
_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_ODD_ESCAPE = re.compile(r"\\u00[2-7]")
"""Of a character that needs none, or that a writer of JSON escapes otherwise."""


class PassageKind(Enum):
    """What a text is, as a policy tells them apart."""

    __hash__ = object.__hash__

    USER = auto()
    LAST_USER = auto()
    """Of the last message that comes from a user."""
    ASSISTANT = auto()
    SYSTEM = auto()
    TOOL = auto()
    SETTING = auto()
    """A name or a setting that nobody says to the model, such as the model's own name, or an id that is none."""


class Passage(msgspec.Struct, frozen=True):
    """One text of the body."""

    path: Path
    kind: PassageKind
    text: str
    past: bool = False
    """Whether the assistant said it, or it was said before the assistant last spoke."""
    place: int = 0
    """Where it begins in the body; no two have the same."""
    source: bool = False
    """Whether the text is JSON: an object or array, a number, or a string that holds JSON."""


class Passages(msgspec.Struct, frozen=True):
    """All texts of a request."""

    passages: tuple[Passage, ...] = ()
    media: bool = False
    """Whether there are images, audio, files or token arrays, which hold no text to look at."""
    leaves: Mapping[int, Leaf] = {}
    """By place."""


def passages(document: Document) -> Passages:
    """Every text that leaves with the request: all values and unknown names but what the API's schema says to be none.
    What stands in no known place counts as the last user message.

    Raises PayloadError for a body that cannot be decoded, names a key twice or holds too many texts.
    """
    body = document.body
    found: list[Passage] = []
    kept: dict[int, Leaf] = {}
    media = False
    leaves = leaves_of(body, REQUEST).items
    speakers = _Speakers(body, leaves)
    for leaf in leaves:
        if leaf.schema.media or not _MEDIA_KEYS.isdisjoint(leaf.path[2:]):
            media = media or leaf.kind in (LeafKind.STRING, LeafKind.CONTAINER)
        if is_no_text(body, leaf):
            if leaf.kind is LeafKind.CONTAINER and leaf.path[0] in _SAID_KEYS:
                media = media or _DIGITS.search(body, leaf.start, leaf.end) is not None
            continue
        text, source = _text_at(body, leaf)
        if not text:
            continue
        if len(found) >= MOST_PASSAGES:
            raise PayloadError(f"the request holds more than {MOST_PASSAGES} texts", "too_many_texts")
        kind, past = speakers.of(leaf)
        found.append(Passage(leaf.path, kind, text, past, leaf.start, source))
        kept[leaf.start] = leaf
    return Passages(tuple(found), media, kept)


def with_texts(document: Document, found: Passages, changes: Mapping[int, str]) -> bytes:
    """The body with the texts at these places replaced; every other byte stays as it is. What replaces an object, an
    array or a number is JSON source as well."""
    edits = []
    for place, text in sorted(changes.items()):
        leaf = found.leaves[place]
        raw = leaf.kind in (LeafKind.CONTAINER, LeafKind.SCALAR)
        edits.append((leaf.start, leaf.end, text.encode() if raw else _encode(text)))
    return splice(document.body, edits)


def holds_json(text: str) -> bool:
    """Whether a text is a JSON object or array."""
    stripped = text.strip(" \t\r\n")
    if stripped[:1] not in ("{", "[") or stripped[-1:] not in ("}", "]"):
        return False
    try:
        _json(stripped.encode())
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return False
    return True


def plain_source(source: str) -> str:
    """JSON source in which no character is escaped that need not be, in strings of strings as well: so a value reads
    the same however it was written. The very same text where nothing is."""
    if _ODD_ESCAPE.search(source) is None:
        return source
    return _STRING.sub(_plain_string, source)


def _plain_string(found: re.Match[str]) -> str:
    said = str(json.loads(found[0]))
    if holds_json(said):
        said = plain_source(said)
    return json.dumps(said, ensure_ascii=not said.isascii() and _is_broken(said))


def _text_at(body: bytes, leaf: Leaf) -> tuple[str, bool]:
    if leaf.kind in (LeafKind.STRING, LeafKind.KEY):
        text = string_at(body, leaf)
        if not text.isascii() and _is_broken(text):
            raise PayloadError("a text holds a surrogate escape without its pair", "invalid_json")
        source = holds_json(text)
    else:
        text = body[leaf.start : leaf.end].decode()
        source = True
    return plain_source(text) if source else text, source


def _is_broken(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


class _Speakers:
    """Who says each text of a request."""

    def __init__(self, body: bytes, leaves: list[Leaf]) -> None:
        self._roles: dict[Path, str] = {}
        self._types: dict[Path, str] = {}
        sizes: dict[str, int] = {}
        for leaf in leaves:
            path = leaf.path
            if len(path) < 2 or path[0] not in _MESSAGE_KEYS or type(path[1]) is not int:
                continue
            sizes[str(path[0])] = path[1] + 1
            if leaf.kind is LeafKind.STRING and path[-1] in ("role", "type") and leaf.end - leaf.start < 64:
                (self._roles if path[-1] == "role" else self._types)[path[:-1]] = string_of(body[leaf.start : leaf.end])
        self._objects = {leaf.path[:2] for leaf in leaves if len(leaf.path) > 2 and type(leaf.path[2]) is str}
        self._last = {key: self._last_user(key, size) for key, size in sizes.items()}
        self._turns = {key: self._turn(key, size) for key, size in sizes.items()}

    def of(self, leaf: Leaf) -> tuple[PassageKind, bool]:
        """The kind of a text, and whether it is past."""
        path, top = leaf.path, leaf.path[0]
        kind = PassageKind.LAST_USER
        if top in _SYSTEM_KEYS:
            kind = PassageKind.SYSTEM
        elif top in _TOOL_KEYS:
            kind = PassageKind.TOOL
        elif top in _MESSAGE_KEYS and len(path) > 1 and type(path[1]) is int:
            kind, past = self._of_message(path, str(top), path[1])
            own = leaf.kind is LeafKind.KEY or not _is_text(leaf.schema)
            return PassageKind.SETTING if own else kind, past and kind is not PassageKind.SYSTEM
        elif leaf.kind is LeafKind.KEY or (top not in _SAID_KEYS and top in REQUEST.fields):
            kind = PassageKind.SETTING
        return kind, False

    def _of_message(self, path: Path, key: str, index: int) -> tuple[PassageKind, bool]:
        head = (key, index)
        past = index < self._turns[key] or self._is_assistant(head)
        if head not in self._objects:
            return PassageKind.LAST_USER if index == self._last[key] else PassageKind.USER, past
        if not _CALL_KEYS.isdisjoint(path[2:]):
            return PassageKind.TOOL, past
        for depth in range(2, len(path)):
            if self._types.get(path[:depth]) in _TOOL_TYPES:
                return PassageKind.TOOL, past
        return self._kind(head, last=index == self._last[key]), past

    def _kind(self, head: Path, *, last: bool) -> PassageKind:
        role = self._roles.get(head)
        if role == "user":
            return PassageKind.LAST_USER if last else PassageKind.USER
        if role in ("system", "developer"):
            return PassageKind.SYSTEM
        if role in ("tool", "function"):
            return PassageKind.TOOL
        return PassageKind.ASSISTANT if role in _MODEL_ROLES else PassageKind.USER

    def _is_user(self, head: Path) -> bool:
        return head not in self._objects or self._roles.get(head) == "user"

    def _is_assistant(self, head: Path) -> bool:
        """Whether the model said it: a message of its own, or an item such as a call that it asked for."""
        if head not in self._objects:
            return False
        role, kind = self._roles.get(head), self._types.get(head)
        return role in _MODEL_ROLES or (role is None and kind is not None and kind.endswith(_MODEL_TYPES))

    def _last_user(self, key: str, size: int) -> int:
        return next((i for i in range(size - 1, -1, -1) if self._is_user((key, i))), -1)

    def _turn(self, key: str, size: int) -> int:
        """Where the newest turn begins: at the last thing that the user said, unless the model has spoken since then;
        then behind that. The beginning of an answer, which a client may put at the end for the model to go on with, is
        none."""
        end = size
        while end and self._is_assistant((key, end - 1)):
            end -= 1
        for i in range(end - 1, -1, -1):
            if self._is_assistant((key, i)):
                return i + 1
            if self._is_user((key, i)):
                return i
        return 0


def _is_text(schema: Schema) -> bool:
    """Whether the schema means a field to hold text."""
    return schema.pattern is None and not schema.number and not schema.media
