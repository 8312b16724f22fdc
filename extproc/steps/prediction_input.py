"""What a request asks for, as far as it tells how long the answer will be."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec

from extproc.payload.fields import spellings
from extproc.payload.operations.operation import Dialect, Operation
from extproc.prediction.features import PredictionInput
from extproc.steps.request import Request

_BYTES_PER_TOKEN = 4
_MOST_CHOICES = 128
_LONG = 16_384
"""Characters of a text from which on its middle is cut out: only its ends are looked at."""


class _Turn(msgspec.Struct, gc=False):
    role: str = ""
    content: msgspec.Raw = msgspec.Raw(b"null")
    parts: msgspec.Raw = msgspec.Raw(b"null")
    """Gemini's word for the content."""


_TURNS = {Dialect.RESPONSES: "input", Dialect.GENERATE_CONTENT: "contents"}
"""Where a conversation stands, if not in `messages`."""


class _Part(msgspec.Struct, gc=False):
    text: str = ""


Fields = Mapping[str, msgspec.Raw]
"""The top level of a body, values not decoded."""

_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_number: Callable[[msgspec.Raw], int | None] = msgspec.json.Decoder(int | None).decode
_turns = msgspec.json.Decoder(list[_Turn]).decode
_parts = msgspec.json.Decoder(list[_Part]).decode
_raws = msgspec.json.Decoder(list[msgspec.Raw]).decode
_string = msgspec.json.Decoder(str).decode
_texts = msgspec.json.Decoder(list[str]).decode


def sent_fields(request: Request) -> Fields | None:
    """The body as the destination gets it; None where it is no JSON."""
    return None if request.document is None else _members(sent_body(request))


def sent_body(request: Request) -> bytes:
    """Decoded and edited."""
    return request.body if request.new_body is None else request.new_body


def output_limit(operation: Operation, fields: Fields) -> int | None:
    """Most tokens of one answer that the request allows; None: it does not say. A value that is no such number is for
    the destination to refuse."""
    limits = [value for name in operation.limits if (value := _integer(fields, name)) is not None and value > 0]
    return min(limits) if limits else None


def choices(operation: Operation, fields: Fields) -> int:
    """How many answers are asked for: to each prompt of a list, as many as `n` says."""
    name = operation.name_of("n")
    wanted = (_integer(fields, name) or 1) if name is not None else 1
    if operation.dialect is Dialect.COMPLETIONS and (prompts := fields.get("prompt")) is not None:
        wanted *= _prompts(prompts)
    return min(_MOST_CHOICES, max(1, wanted))


def _prompts(raw: msgspec.Raw) -> int:
    """How many there are: a list of numbers is one, as tokens."""
    try:
        found = _raws(raw) if bytes(memoryview(raw)[:1]) == b"[" else []
    except (msgspec.DecodeError, RecursionError):
        return 1
    return len(found) if found and bytes(memoryview(found[0])[:1]) in (b'"', b"[") else 1


def asked(request: Request, fields: Fields, tenant: str, prompt_tokens: int, limit: int | None) -> PredictionInput:
    """For the predictor. Never fails: what cannot be read stays empty."""
    turns = _conversation(request.head.operation, fields)
    users = [turn for turn in turns if turn.role == "user"]
    answers = [turn for turn in turns if turn.role == "assistant"]
    return PredictionInput(
        model=request.target_model,
        tenant=tenant,
        route=request.rule.name if request.rule is not None else "",
        prompt_tokens=prompt_tokens,
        max_tokens=limit,
        stream=request.stream,
        structured=any(fields.get(name) is not None for name in ("response_format", "tools", "functions")),
        text=_text(users[-1].content) if users else _prompt(fields),
        turns=max(1, len(users)),
        last_answer=len(answers[-1].content) // _BYTES_PER_TOKEN if answers else 0,
    )


def _conversation(operation: Operation, fields: Fields) -> Sequence[_Turn]:
    raw = fields.get(_TURNS.get(operation.dialect, "messages"))
    if raw is None:
        return ()
    try:
        turns = _turns(raw)
    except (msgspec.DecodeError, RecursionError):
        return ()
    if operation.dialect is Dialect.GENERATE_CONTENT:
        return [_Turn("assistant" if turn.role == "model" else turn.role or "user", turn.parts) for turn in turns]
    return turns


def _prompt(fields: Fields) -> str:
    """Of the APIs without messages: one text, or the first of several."""
    for name in ("prompt", "input"):
        raw = fields.get(name)
        if raw is None:
            continue
        try:
            return _ends(_string(raw))
        except (msgspec.DecodeError, RecursionError):
            pass
        try:
            return _ends(next(iter(_texts(raw)), ""))
        except (msgspec.DecodeError, RecursionError):
            return ""
    return ""


def _text(content: msgspec.Raw) -> str:
    """A message's text, or that of its parts."""
    try:
        if bytes(memoryview(content)[:1]) == b'"':
            return _ends(_string(content))
        return _ends("\n".join(part.text for part in _parts(content) if part.text))
    except (msgspec.DecodeError, RecursionError):
        return ""


def _ends(text: str) -> str:
    return text if len(text) <= _LONG else text[: _LONG // 2] + text[-_LONG // 2 :]


def _integer(fields: Fields, name: str) -> int | None:
    """A dot in the name reaches into an object."""
    outer, _, inner = name.partition(".")
    try:
        for key in spellings(outer):
            raw = fields.get(key)
            if raw is None:
                continue
            if not inner:
                return _number(raw)
            members = _members(raw)
            return next((_number(members[each]) for each in spellings(inner) if each in members), None)
    except (msgspec.DecodeError, RecursionError):
        return None
    return None
