"""Which values of an answer hold text of the model, and how the text of streamed events belongs together.

Known are chat completions, completions, responses (OpenAI), messages (Anthropic) and generateContent (Gemini). A string
at a place that is not known counts as text. Numbers and keys of objects are looked at only inside JSON that the model
itself wrote, such as the arguments of a call.
"""

import re
from enum import Enum, auto
from typing import Protocol

import msgspec

from extproc.payload.guard.leaves import Address, Leaf, LeafKind, Leaves, Path
from extproc.payload.operations.operation import Dialect


class Piece(Protocol):
    """What a filter made of one piece of text."""

    @property
    def text(self) -> str:
        """What may go on."""
        ...

    @property
    def denied(self) -> bool:
        """The answer must end here."""
        ...


class TextFilter(Protocol):
    """Fed with one text in pieces; `end` comes with the last one, which may be empty."""

    def feed(self, text: str, *, end: bool) -> Piece: ...


class TextChannel(msgspec.Struct, frozen=True):
    """One text of an answer."""

    kind: str
    """`content`, `reasoning`, `refusal`, `arguments` (JSON source), `other`, `echo` (of the client's own request)."""
    choice: int
    """The choice, output item or content block."""


class OpenFilter(Protocol):
    """Makes the filter of a new text."""

    def __call__(self, channel: TextChannel, /) -> TextFilter: ...


class Use(Enum):
    """What a leaf is."""

    LABEL = auto()
    """No text of the model: an id, a type, a number."""
    PART = auto()
    """The next piece of a text."""
    WHOLE = auto()
    """A complete text."""
    TOKENS = auto()
    """Log probabilities, which repeat the text token by token."""
    FINISH = auto()
    """Why a choice ended."""


WHOLE_KEYS = frozenset({"logprobs", "arguments", "args", "input"})
"""Containers looked at as one value: JSON that the model wrote, and log probabilities."""

_LABELS = frozenset(
    [
        *("id", "object", "model", "modelVersion", "role", "type", "status", "system_fingerprint", "service_tier"),
        *("item_id", "response_id", "responseId", "call_id", "tool_call_id", "tool_use_id", "previous_response_id"),
        *("provider", "event_id", "stop_sequence", "code", "native_finish_reason", "severity"),
    ]
)
_OPAQUE = frozenset(
    [
        *("obfuscation", "signature", "encrypted_content", "thoughtSignature", "thought_signature"),
        *("b64_json", "partial_image_b64", "data", "embedding", "result"),
    ]
)
"""Bytes for machines in base64: no text, and no filter could read it."""
_COMPLETE = frozenset(("annotations", "citations", "images", "image_url"))
"""Under these keys every string of a delta is complete."""
_NAMED = frozenset(("function", "function_call", "functionCall", "item", "content_block", "tool", "content", "output"))
_FINISHES = frozenset(("finish_reason", "stop_reason", "finishReason"))
_ECHO = frozenset(
    [
        *("instructions", "tools", "metadata", "user", "prompt", "text", "tool_choice", "prompt_cache_key"),
        *("safety_identifier", "reasoning"),
    ]
)
LABEL = re.compile(rb'"[!#-\[\]-~]{0,128}"')
"""A JSON string that can be no more than a label."""
BASE64 = re.compile(rb'"[A-Za-z0-9+/_=-]*"')
_SHORT = 512  # bytes; what is shorter under `data` or `result` may as well be text
_WHOLE_EVENTS = frozenset(
    ("message_start", "content_block_start", "message_delta", "content_block_stop", "message_stop", "ping", "error")
)
SELECTORS = ("index", "output_index", "content_index", "summary_index", "item_id")
"""Keys of an event that say which text it is part of."""

_KINDS = {
    "reasoning_content": "reasoning",
    "reasoning": "reasoning",
    "thinking": "reasoning",
    "thought": "reasoning",
    "refusal": "refusal",
    "arguments": "arguments",
    "args": "arguments",
    "input": "arguments",
    "partial_json": "arguments",
    "content": "content",
    "text": "content",
    "transcript": "content",
}


class Shape(msgspec.Struct, frozen=True):
    """What the top level of an event or a whole answer tells."""

    dialect: Dialect
    type: str
    """The event's `type`; empty without one, and for chat chunks."""
    selectors: tuple[bytes, ...]
    """Raw values that say which text an event belongs to."""
    group: int
    """The choice, where the path does not tell."""


def shape_of(data: bytes, leaves: Leaves) -> Shape:
    """The shape of one event of a stream, or of a whole answer."""
    top = {leaf.path[0]: data[leaf.start : leaf.end] for leaf in leaves.items if len(leaf.path) == 1}
    if any(leaf.path[0] == "choices" for leaf in leaves.items) or "choices" in _empty_arrays(data):
        legacy = top.get("object") == b'"text_completion"'
        return Shape(Dialect.COMPLETIONS if legacy else Dialect.CHAT, "", (), 0)
    kind = top.get("type", b"")
    name = kind[1:-1].decode() if LABEL.fullmatch(kind) else ""
    selectors = tuple(top.get(key, b"") for key in SELECTORS)
    group = next((int(raw) for raw in selectors[:2] if raw.isdigit() and len(raw) < 10), 0)
    if name.startswith("response."):
        return Shape(Dialect.RESPONSES, name, selectors, group)
    messages = name in _WHOLE_EVENTS or name == "content_block_delta"
    return Shape(Dialect.MESSAGES if messages and name != "error" else Dialect.OTHER, name, selectors, group)


def use_of(shape: Shape, data: bytes, leaf: Leaf) -> Use:
    """What a leaf of a streamed event is."""
    use = value_of(data, leaf)
    if use is not Use.WHOLE or leaf.kind is LeafKind.CONTAINER:
        return use
    path = leaf.path
    if shape.dialect in (Dialect.CHAT, Dialect.COMPLETIONS):
        parted = len(path) > 2 and path[0] == "choices" and path[2] in ("delta", "text")
    elif shape.dialect is Dialect.RESPONSES:
        parted = shape.type.endswith(".delta")
    else:
        parted = shape.type not in _WHOLE_EVENTS and path[0] != "error"
    key = _key(path)
    if not parted or key in _LABELS or key in _OPAQUE or _is_name(path) or not _COMPLETE.isdisjoint(path):
        return Use.WHOLE
    return Use.PART


def value_of(data: bytes, leaf: Leaf) -> Use:
    """What a leaf of a whole answer is."""
    key = _key(leaf.path)
    if leaf.kind is LeafKind.SCALAR:
        return Use.LABEL
    if leaf.kind is LeafKind.CONTAINER:
        return Use.TOKENS if key == "logprobs" else Use.WHOLE
    if key in _FINISHES and LABEL.fullmatch(data, leaf.start, leaf.end):
        return Use.FINISH
    if (key in _LABELS or _is_name(leaf.path)) and LABEL.fullmatch(data, leaf.start, leaf.end):
        return Use.LABEL
    long = leaf.end - leaf.start > _SHORT or key not in ("data", "result")
    if key in _OPAQUE and long and BASE64.fullmatch(data, leaf.start, leaf.end):
        return Use.LABEL
    return Use.WHOLE


def kind_of_text(shape: Shape, path: Address) -> str:
    """The `TextChannel.kind` of a text."""
    if shape.dialect is Dialect.RESPONSES:
        if (path[0] == "response" and len(path) > 1 and path[1] in _ECHO) or (not shape.type and path[0] in _ECHO):
            return "echo"
        if path == ("delta",):
            return _kind_of_delta(shape.type)
    return _KINDS.get(_key(path), "other")


def choice_of(shape: Shape, address: Address) -> int:
    """The number of the choice that a text belongs to."""
    if len(address) > 1 and address[0] in ("choices", "candidates", "output"):
        return address[1] if type(address[1]) is int else 0
    return shape.group


def _kind_of_delta(name: str) -> str:
    if "arguments" in name:
        return "arguments"
    if "reasoning" in name:
        return "reasoning"
    if "refusal" in name:
        return "refusal"
    return "content" if "output_text" in name or "transcript" in name else "other"


def _key(path: Address) -> str:
    return next((part for part in reversed(path) if type(part) is str), "")


def _is_name(path: Path) -> bool:
    if path[-1] != "name" or len(path) < 2:
        return False
    return _key(path[:-1]) in _NAMED


_CHOICES = re.compile(rb'"choices"[ \t\n\r]*:[ \t\n\r]*\[')


def _empty_arrays(data: bytes) -> tuple[str, ...]:
    """`choices` where it is there without a leaf: the last event of some streams holds usage alone."""
    return ("choices",) if _CHOICES.search(data) else ()
