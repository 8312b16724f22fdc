"""Which values of an answer hold text of the model, and how the text of streamed events belongs together.

What is text at all, `schema` says. Known are the events of chat completions, completions, responses (OpenAI), messages
(Anthropic) and generateContent (Gemini).
"""

import re
from enum import Enum, auto
from typing import Protocol

import msgspec

from extproc.payload.guard.leaves import Address, Leaf, LeafKind, Leaves, is_no_text
from extproc.payload.guard.schema import WORD
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


_COMPLETE = frozenset(("annotations", "citations", "images", "image_url"))
"""Under these keys every string of a delta is complete."""
_FINISHES = frozenset(("finish_reason", "stop_reason", "finishReason"))
_ECHO = frozenset(
    [
        *("instructions", "tools", "metadata", "user", "prompt", "text", "tool_choice", "prompt_cache_key"),
        *("safety_identifier", "reasoning"),
    ]
)
_LABEL = re.compile(rb'"[!#-\[\]-~]{0,128}"')
"""A JSON string that can be the type of an event."""
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
    name = kind[1:-1].decode() if _LABEL.fullmatch(kind) else ""
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
    schema = leaf.schema
    special = schema.pattern is not None or schema.number or schema.media
    if not parted or special or leaf.kind is not LeafKind.STRING or not _COMPLETE.isdisjoint(path):
        return Use.WHOLE
    return Use.WHOLE if path[-1] == "name" else Use.PART


def value_of(data: bytes, leaf: Leaf) -> Use:
    """What a leaf of a whole answer is."""
    if leaf.kind is LeafKind.KEY:
        return Use.LABEL if WORD.fullmatch(data, leaf.start + 1, leaf.end - 1) else Use.WHOLE
    key = _key(leaf.path)
    if leaf.kind is LeafKind.CONTAINER and key == "logprobs":
        return Use.TOKENS
    if is_no_text(data, leaf):
        return Use.FINISH if leaf.kind is LeafKind.STRING and key in _FINISHES else Use.LABEL
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


_CHOICES = re.compile(rb'"choices"[ \t\n\r]*:[ \t\n\r]*\[')


def _empty_arrays(data: bytes) -> tuple[str, ...]:
    """`choices` where it is there without a leaf: the last event of some streams holds usage alone."""
    return ("choices",) if _CHOICES.search(data) else ()
