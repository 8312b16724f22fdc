"""How an answer that was denied ends, in the shape that the client expects."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from extproc.payload.document import Document
from extproc.payload.errors import PayloadError
from extproc.payload.operations.operation import Dialect

_encode = msgspec.json.encode
_numbers = msgspec.json.Decoder(dict[str, int | float | dict[str, int | float | None] | None]).decode

REASON = "content_filter"
_HEAD = ("id", "object", "created", "model", "system_fingerprint", "created_at")
_PLAIN = re.compile(rb'"[!#-\[\]-~]{0,128}"|[0-9.]{1,20}')
_NO_USAGE = {"input_tokens": 0, "output_tokens": 0}

Head = Mapping[str, bytes]
"""Raw values that tell which answer it is."""


def head_of(document: Document) -> dict[str, bytes]:
    """The `Head` of an answer or one of its events; of an event that carries the answer, what is inside."""
    inner = document
    for key in ("response", "message"):
        raw = document.get(key)
        if raw is not None and raw[:1] == b"{":
            try:
                inner = Document.parse(raw, lone_surrogates=True)
            except PayloadError:
                continue
    return {key: raw for key in _HEAD if (raw := inner.get(key)) is not None and _PLAIN.fullmatch(raw)}


def last_events(dialect: Dialect, head: Head, denied: int, open_choices: Iterable[int], message: str) -> bytes:
    """The events that end a stream whose choice `denied` was refused. Every choice ends with it."""
    if dialect in (Dialect.CHAT, Dialect.COMPLETIONS):
        others = sorted({*open_choices} - {denied})
        choices = [_part(dialect, denied, message), *(_part(dialect, each, "") for each in others)]
        return _event({**raws(head), "choices": choices}) + b"data: [DONE]\n\n"
    if dialect is Dialect.RESPONSES:
        answer = {**raws(head), **_incomplete(message)}
        return _event({"type": "response.incomplete", "response": answer}, "response.incomplete")
    if dialect is Dialect.MESSAGES:
        delta = {"stop_reason": "refusal", "stop_sequence": None}
        last = {"type": "message_delta", "delta": delta, "usage": {"output_tokens": 0}}
        return _event(last, "message_delta") + _event({"type": "message_stop"}, "message_stop")
    return _event(_error(message)) + b"data: [DONE]\n\n"


def refused_answer(dialect: Dialect, document: Document | None, message: str) -> bytes:
    """A whole answer in place of one that was denied: same id, model and usage, nothing of its text."""
    head = raws({} if document is None else head_of(document))
    usage = _usage(document)
    if dialect is Dialect.CHAT:
        said = {"role": "assistant", "content": message, "refusal": None}
        choice = {"index": 0, "message": said, "logprobs": None, "finish_reason": REASON}
        return _encode({**head, "choices": [choice], **usage})
    if dialect is Dialect.COMPLETIONS:
        choice = {"index": 0, "text": message, "logprobs": None, "finish_reason": REASON}
        return _encode({**head, "choices": [choice], **usage})
    if dialect is Dialect.RESPONSES:
        return _encode({**head, **_incomplete(message), **usage})
    if dialect is Dialect.MESSAGES:
        content = [{"type": "text", "text": message}]
        told = {"type": "message", "role": "assistant", "content": content, "stop_reason": "refusal"}
        return _encode({**head, **told, "stop_sequence": None, "usage": _NO_USAGE, **usage})
    return _encode(_error(message))


def _usage(document: Document | None) -> dict[str, Any]:
    """The answer's usage where it is numbers only."""
    raw = None if document is None else document.raw("usage")
    try:
        return {} if raw is None else {"usage": _numbers(raw)}
    except (msgspec.DecodeError, RecursionError):
        return {}


def _part(dialect: Dialect, index: int, message: str) -> dict[str, Any]:
    if dialect is Dialect.COMPLETIONS:
        return {"index": index, "text": message, "logprobs": None, "finish_reason": REASON}
    return {"index": index, "delta": {"content": message} if message else {}, "finish_reason": REASON}


def _incomplete(message: str) -> dict[str, Any]:
    text = {"type": "output_text", "text": message, "annotations": []}
    item = {"type": "message", "id": "msg_refused", "role": "assistant", "status": "incomplete", "content": [text]}
    return {"status": "incomplete", "incomplete_details": {"reason": REASON}, "output": [item] if message else []}


def _error(message: str) -> dict[str, Any]:
    told = message or "the answer was withheld"
    return {"error": {"message": told, "type": REASON, "code": REASON, "param": None}}


def raws(head: Head) -> dict[str, Any]:
    """The head's values, ready to be encoded."""
    return {key: msgspec.Raw(raw) for key, raw in head.items()}


def _event(data: Any, name: str = "") -> bytes:
    return (b"event: " + name.encode() + b"\n" if name else b"") + b"data: " + _encode(data) + b"\n\n"
