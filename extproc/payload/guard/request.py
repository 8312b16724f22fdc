"""The texts inside a request: where each stands, who speaks, and how to write it back with nothing else changed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from enum import Enum, auto
from typing import Any

import msgspec

from extproc.payload.document import Document, refusal
from extproc.payload.errors import PayloadError

Path = tuple[str | int, ...]
"""Keys and indices from the top of the body."""

MOST_PASSAGES = 20_000
"""Texts of one request; a body with more is refused, since each costs time of its own."""

_encode = msgspec.json.encode
_elements = msgspec.json.Decoder(list[msgspec.Raw]).decode

_MESSAGE_KEYS = ("messages", "input", "prompt")
_SYSTEM_KEYS = ("system", "instructions")
_TOOL_KEYS = ("tools", "functions")
_ARGUMENTS = frozenset(("arguments", "tool_calls", "function_call", "output"))
_NAMES = frozenset(
    (
        "type",
        "role",
        "id",
        "tool_call_id",
        "call_id",
        "tool_use_id",
        "index",
        "status",
        "format",
        "media_type",
        "detail",
    )
)
"""Fields of messages that the API itself gives a meaning, none of them text."""
_MEDIA = frozenset(("image_url", "input_audio", "file", "image", "audio", "source", "video_url", "file_data"))
_TOOL_TYPES = frozenset(("tool_use", "tool_result", "function_call", "function_call_output"))
_MODEL_ROLES = ("assistant", "model")
_MODEL_TYPES = ("_call", "reasoning")
"""How the types of items end that a model writes, such as `function_call`."""
_SETTINGS = frozenset(
    (
        "model",
        "encoding_format",
        "service_tier",
        "reasoning_effort",
        "tool_choice",
        "truncation",
        "stream_options",
        "previous_response_id",
        "logit_bias",
        "stream",
    )
)
"""Top-level fields that hold no text of anybody's."""


class PassageKind(Enum):
    """What a text is, as a policy tells them apart."""

    __hash__ = object.__hash__

    USER = auto()
    LAST_USER = auto()
    """Of the last message that comes from a user."""
    ASSISTANT = auto()
    SYSTEM = auto()
    TOOL = auto()


class Passage(msgspec.Struct, frozen=True):
    """One string of the body."""

    path: Path
    kind: PassageKind
    text: str
    past: bool = False
    """Whether the assistant said it, or it was said before the assistant last spoke."""


class Passages(msgspec.Struct, frozen=True):
    """All texts of a request."""

    passages: tuple[Passage, ...]
    media: bool
    """Whether there are images, audio, files or token arrays, which hold no text to look at."""


def passages(document: Document) -> Passages:
    """Every string that a model will read. What stands in no known place counts as the last user message, so that
    nothing passes unseen. Raises PayloadError for a body that cannot be decoded or holds too many texts."""
    found = _Finder()
    for key in document:
        if key in _SETTINGS:
            continue
        raw = document.raw(key)
        if raw is None or memoryview(raw)[0] not in b'"[{':
            continue
        value = _decoded(document, raw)
        if key in _SYSTEM_KEYS:
            found.content(value, (key,), PassageKind.SYSTEM)
        elif key in _TOOL_KEYS:
            found.strings(value, (key,), PassageKind.TOOL)
        elif key in _MESSAGE_KEYS and isinstance(value, list) and not all(isinstance(each, str) for each in value):
            found.messages(value, key)
        elif key in ("prompt", "input"):
            found.content(value, (key,), PassageKind.LAST_USER)
        else:
            found.strings(value, (key,), PassageKind.LAST_USER)
    return Passages(tuple(found.found), found.media)


def _decoded(document: Document, raw: msgspec.Raw) -> Any:
    """A value whose objects name no key twice: of two, a destination might read the one that is not looked at."""
    try:
        return json.loads(bytes(raw), object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        if isinstance(error, PayloadError):
            raise
        raise refusal(document.body, error) from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        counts = Counter(name for name, _ in pairs)
        twice = next(name for name, count in counts.items() if count > 1)
        raise PayloadError(
            f"the key {_encode(twice[:64]).decode()} appears more than once", "duplicate_key", twice[:64]
        )
    return found


class _Finder:
    def __init__(self) -> None:
        self.found: list[Passage] = []
        self.media = False
        self._past = False

    def add(self, text: str, path: Path, kind: PassageKind) -> None:
        if not text:
            return
        if not text.isascii():
            _check_encodable(text)
        if len(self.found) >= MOST_PASSAGES:
            raise PayloadError(f"the request holds more than {MOST_PASSAGES} texts", "too_many_texts")
        self.found.append(Passage(path, kind, text, self._past and kind is not PassageKind.SYSTEM))

    def messages(self, value: list[Any], key: str) -> None:
        if all(isinstance(each, int | list) for each in value):
            self.media = True  # token arrays
            return
        last = max((i for i, each in enumerate(value) if _is_user(each)), default=-1)
        turn = _turn(value)
        for i, message in enumerate(value):
            path: Path = (key, i)
            self._past = i < turn or _is_assistant(message)
            if not isinstance(message, dict):
                self.content(message, path, PassageKind.USER)
                continue
            kind = _kind_of(message, last=i == last)
            for name, inner in message.items():
                if name in _NAMES:
                    continue
                if name in _MEDIA:
                    self.media = True
                elif name in _ARGUMENTS:
                    self.strings(inner, (*path, name), PassageKind.TOOL)
                elif name == "content":
                    self.content(inner, (*path, name), kind)
                else:
                    self.strings(inner, (*path, name), kind)
        self._past = False

    def content(self, value: Any, path: Path, kind: PassageKind) -> None:
        """A string, or an array of parts."""
        if isinstance(value, str):
            self.add(value, path, kind)
        elif isinstance(value, list):
            for i, part in enumerate(value):
                if isinstance(part, str):
                    self.add(part, (*path, i), kind)
                elif isinstance(part, dict):
                    own = PassageKind.TOOL if part.get("type") in _TOOL_TYPES else kind
                    self.strings(part, (*path, i), own)
                elif part is not None:
                    self.media = True
        elif isinstance(value, dict):
            self.strings(value, path, kind)

    def strings(self, value: Any, path: Path, kind: PassageKind) -> None:
        """Every string below a value but media and the API's own words."""
        if isinstance(value, str):
            self.add(value, path, kind)
        elif isinstance(value, list):
            for i, item in enumerate(value):
                self.strings(item, (*path, i), kind)
        elif isinstance(value, dict):
            for name, item in value.items():
                if name in _MEDIA and isinstance(item, dict | str) and "type" in value:
                    self.media = True
                elif name not in _NAMES or not isinstance(item, str):
                    self.strings(item, (*path, name), kind)


def _check_encodable(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise PayloadError("a text holds a surrogate escape without its pair", "invalid_json") from None


def _is_user(message: Any) -> bool:
    return not isinstance(message, dict) or message.get("role") == "user"


def _is_assistant(message: Any) -> bool:
    """Whether the model said it: a message of its own, or an item such as a call that it asked for."""
    if not isinstance(message, dict):
        return False
    role, kind = message.get("role"), message.get("type")
    return role in _MODEL_ROLES or (role is None and isinstance(kind, str) and kind.endswith(_MODEL_TYPES))


def _turn(messages: list[Any]) -> int:
    """Where the newest turn begins: at the last thing that the user said, unless the model has spoken since then; then
    behind that. The beginning of an answer, which a client may put at the end for the model to go on with, is none."""
    end = len(messages)
    while end and _is_assistant(messages[end - 1]):
        end -= 1
    for i in range(end - 1, -1, -1):
        if _is_assistant(messages[i]):
            return i + 1
        if _is_user(messages[i]):
            return i
    return 0


def _kind_of(message: dict[str, Any], *, last: bool) -> PassageKind:
    role = message.get("role")
    if role == "user":
        return PassageKind.LAST_USER if last else PassageKind.USER
    if role in ("system", "developer"):
        return PassageKind.SYSTEM
    if role in ("tool", "function") or message.get("type") in _TOOL_TYPES:
        return PassageKind.TOOL
    return PassageKind.ASSISTANT if role == "assistant" else PassageKind.USER


def with_texts(document: Document, changes: Mapping[Path, str]) -> bytes:
    """The body with the strings at these paths replaced; every other byte stays as it is."""
    tree: dict[str | int, Any] = {}
    for path, text in changes.items():
        node = tree
        for step in path[:-1]:
            node = node.setdefault(step, {})
        node[path[-1]] = text
    return document.edit(
        {str(key): _rewritten(document.get(str(key)) or b"null", inner) for key, inner in tree.items()}
    )


def _rewritten(raw: bytes, change: Any) -> bytes:
    if isinstance(change, str):
        return _encode(change)
    if raw[:1] == b"{":
        inner = Document.parse(raw)
        return inner.edit({str(key): _rewritten(inner.get(str(key)) or b"null", each) for key, each in change.items()})
    return b"".join(_array_pieces(raw, change))


def _array_pieces(raw: bytes, changes: Mapping[int, Any]) -> Iterator[bytes]:
    """The array's bytes, with some elements replaced. Elements lie in order, with white space and commas between."""
    at = 1
    copied = 0
    for i, element in enumerate(_elements(raw)):
        text = bytes(element)
        start = raw.index(text, at)
        at = start + len(text)
        if i in changes:
            yield raw[copied:start]
            yield _rewritten(text, changes[i])
            copied = at
    yield raw[copied:]
