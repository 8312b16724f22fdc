"""What a route's settings become in the body of an operation: defaults, caps, the system prompt."""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from extproc.payload.chat import with_system_prompt, with_text_around
from extproc.payload.errors import PayloadError
from extproc.payload.fields import Fields, encoded, number_at
from extproc.payload.operations.operation import Operation, System

LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens")
"""Names that the limit on an answer's tokens goes by in a route; a cap on any of them holds for all."""
_ONE_WHERE_ABSENT = frozenset(("n", "best_of", "top_logprobs", "logprobs", "frequency_penalty", "presence_penalty"))
"""A destination takes the least of these where a request does not say, so a cap has nothing to add."""
_COMPLETION_LIMITED = re.compile(r"(?:^|[/.])(?:o[1-9]|gpt-[5-9])(?![\w.]*-chat)", re.IGNORECASE)
"""Models that refuse `max_tokens` for the limit that counts their reasoning too."""
_elements = msgspec.json.Decoder(list[msgspec.Raw]).decode


def fill(fields: Fields, operation: Operation, defaults: Mapping[str, bytes], model: str = "") -> None:
    """Writes what a request leaves out, where the operation knows it and under the name that it knows."""
    for field, value in defaults.items():
        if field in LIMITS:
            if operation.limits and not any(fields.places(name) for name in operation.limits):
                fields.put(_limit_name(operation, model), value)
            continue
        name = operation.name_of(field)
        if name is not None and fields.get(name) is None:
            listed = field == "stop" and name != "stop" and value[:1] == b'"'
            fields.put(name, b"[" + value + b"]" if listed else value)


def cap(fields: Fields, operation: Operation, field: str, most: float, model: str = "") -> None:
    """Lowers what is larger; sets it where absence means more. Raises PayloadError for what is no number."""
    limit = field in LIMITS
    name = operation.name_of(field)
    names = operation.limits if limit else () if name is None else (name,)
    found = [place for each in names for place in fields.places(each)]
    for place in found:
        if number_at(fields, place) > most:
            fields.write(place, encoded(most))
    if not found and names and field not in _ONE_WHERE_ABSENT:
        fields.put(_limit_name(operation, model) if limit else names[0], encoded(most))


def limit_answer(fields: Fields, operation: Operation, most: int, model: str = "") -> None:
    """Sets the limit on an answer's tokens where the request has none."""
    if operation.limits and not any(fields.places(name) for name in operation.limits):
        fields.put(_limit_name(operation, model), encoded(float(most)))


def _limit_name(operation: Operation, model: str) -> str:
    names = operation.limits
    if "max_completion_tokens" in names and _COMPLETION_LIMITED.search(model):
        return "max_completion_tokens"
    return names[0]


def add_system_prompt(fields: Fields, operation: Operation, prepend: str | None, append: str | None) -> None:
    """Text before and after the system prompt of a request, where the operation has a place for it."""
    place = operation.system
    if place is System.NOWHERE or not (prepend or append):
        return
    if place is System.MESSAGES:
        messages = fields.get("messages")
        if messages is not None:
            fields.put("messages", with_system_prompt(messages, prepend, append))
        elif fields.get("message") is not None:  # of Cohere's first API
            fields.put("preamble", with_text_around(fields.get("preamble"), prepend, append))
    elif place is System.INSTRUCTIONS:
        fields.put("instructions", with_text_around(fields.get("instructions"), prepend, append))
    elif place is System.SYSTEM:
        fields.put("system", with_text_around(fields.get("system"), prepend, append))
    elif place is System.SYSTEM_PARTS:
        fields.put("system", with_parts_around(fields.get("system"), prepend, append))
    elif place is System.SYSTEM_INSTRUCTION:
        _around_instruction(fields, prepend, append)
    else:
        name = operation.prompt[0]
        prompt = fields.get(name)
        if prompt is not None:
            fields.put(name, _around_prompt(prompt, prepend, append))


def _around_instruction(fields: Fields, prepend: str | None, append: str | None) -> None:
    whole = fields.get("systemInstruction")
    if whole is not None and whole[:1] == b'"':
        fields.put("systemInstruction", with_text_around(whole, prepend, append))
        return
    fields.put("systemInstruction.parts", with_parts_around(fields.get("systemInstruction.parts"), prepend, append))


def with_parts_around(content: bytes | None, prepend: str | None, append: str | None) -> bytes:
    """An array of `{"text": …}` with one more before and after; a single part counts as an array of it."""
    inner = b"" if content is None else content[1:-1].strip() if content[:1] == b"[" else content
    if content is not None and content[:1] not in (b"[", b"{"):
        raise PayloadError("the system prompt must be an array of parts", "wrong_type", "system")
    parts = (_part(prepend), inner, _part(append))
    return b"[" + b",".join(filter(None, parts)) + b"]"


def _part(text: str | None) -> bytes:
    return b'{"text":' + msgspec.json.encode(text) + b"}" if text else b""


def _around_prompt(prompt: bytes, prepend: str | None, append: str | None) -> bytes:
    """A text, or each of several. Prompts that are token numbers stay as they are."""
    if prompt[:1] == b'"':
        return with_text_around(prompt, prepend, append)
    if prompt[:1] != b"[":
        return prompt
    texts = [bytes(each) for each in _elements(prompt)]
    if not any(each[:1] == b'"' for each in texts):
        return prompt
    return b"[" + b",".join(with_text_around(t, prepend, append) if t[:1] == b'"' else t for t in texts) + b"]"
