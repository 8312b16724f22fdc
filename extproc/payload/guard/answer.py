"""Whole JSON answers whose text passes through filters before anybody gets it."""

from __future__ import annotations

import msgspec

from extproc.payload.document import Document
from extproc.payload.errors import PayloadError
from extproc.payload.guard.endings import refused_answer
from extproc.payload.guard.fields import (
    OpenFilter,
    Shape,
    TextChannel,
    TextFilter,
    Use,
    choice_of,
    kind_of_text,
    value_of,
)
from extproc.payload.guard.leaves import Edit, Leaf, LeafKind, address_of, join_surrogates, leaves_of, splice, string_at
from extproc.payload.guard.request import plain_source
from extproc.payload.guard.schema import ANSWER
from extproc.payload.operations.operation import Dialect

_encode = msgspec.json.encode
_any = msgspec.json.Decoder(object).decode


class GuardedAnswer(msgspec.Struct, frozen=True):
    """What goes to the client."""

    body: bytes
    denied: bool
    """Whether the body is a refusal in place of what the provider said."""


def guard_answer(
    body: bytes, open_filter: OpenFilter, *, refusal: str = "", dialect: Dialect = Dialect.CHAT
) -> GuardedAnswer:
    """Filter every text of a whole answer. Log probabilities, which repeat it, become null; other bytes stay.

    Where a filter denies one text, the answer becomes a refusal of the same shape: id, model and usage stay, all
    choices are replaced by one with the text `refusal` and `finish_reason: content_filter`. So it does (fail closed)
    where the body is no JSON object or has a key twice; what is not known to be an answer becomes an error object.
    """
    try:
        document = Document.parse(body, lone_surrogates=True)
        leaves = leaves_of(body, ANSWER, descend=True)
    except PayloadError:
        return GuardedAnswer(refused_answer(dialect, None, refusal), denied=True)
    shape = _shape(document, dialect)
    edits: list[Edit] = []
    for leaf in leaves.items:
        use = value_of(body, leaf)
        if use is Use.TOKENS:
            edits.append(without_tokens(body, leaf))
        elif use is Use.WHOLE:
            address = address_of(leaves, leaf)
            channel = TextChannel(kind_of_text(shape, leaf.path), choice_of(shape, address))
            new = guard_value(body, leaf, open_filter(channel))
            if new is None:
                return GuardedAnswer(refused_answer(shape.dialect, document, refusal), denied=True)
            if new != body[leaf.start : leaf.end]:
                edits.append((leaf.start, leaf.end, new))
    return GuardedAnswer(splice(body, edits) if edits else body, denied=False)


def guard_value(data: bytes, leaf: Leaf, text_filter: TextFilter) -> bytes | None:
    """The JSON value that goes on in place of a complete text; None where it is denied.

    A container, JSON that the model wrote, is filtered as the source that it is; if that breaks it, it is denied. A
    number that changes becomes a string.
    """
    raw = data[leaf.start : leaf.end]
    if leaf.kind in (LeafKind.STRING, LeafKind.KEY):
        text = join_surrogates(came := string_at(data, leaf))
        piece = text_filter.feed(text, end=True)
        if piece.denied:
            return None
        return raw if piece.text == came else _encode(piece.text)
    try:
        source = plain_source(raw.decode())
        piece = text_filter.feed(source, end=True)
        if piece.denied:
            return None
        if piece.text == source:
            return raw
        if leaf.kind is LeafKind.SCALAR:
            return _encode(piece.text)
        _any(piece.text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    return piece.text.encode()


def without_tokens(data: bytes, leaf: Leaf) -> Edit:
    """The edit that takes log probabilities out."""
    return leaf.start, leaf.end, b"null" if data[leaf.start] == 123 else b"[]"


def _shape(document: Document, dialect: Dialect) -> Shape:
    """The dialect that the answer itself shows; the expected one is kept for what shows none."""
    kind = document.get("object")
    if kind == b'"text_completion"':
        dialect = Dialect.COMPLETIONS
    elif "choices" in document:
        dialect = Dialect.CHAT
    elif kind == b'"response"':
        dialect = Dialect.RESPONSES
    elif document.get("type") == b'"message"':
        dialect = Dialect.MESSAGES
    return Shape(dialect, "", (), 0)
