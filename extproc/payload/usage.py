"""Token usage, as the providers' answers state it.

Understood: OpenAI chat, completions and embeddings (`usage`), the responses API (`usage`, `response.usage`), Anthropic
(`usage`, `message.usage`; its input tokens exclude what the cache served, so the three input counts are added), and
providers that put `usage` inside `choices[0]`.
"""

from typing import Any

import msgspec

from extproc.payload.document import mask_surrogates

_MOST_TOKENS = 1 << 40  # a larger count is a provider's mistake, and would spoil every sum it enters


class Usage(msgspec.Struct, frozen=True, gc=False):
    """Tokens of one exchange. `cached_tokens` is part of the prompt, `reasoning_tokens` part of the completion."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


_NULL = msgspec.Raw(b"null")


class _Envelope(msgspec.Struct, gc=False):
    usage: msgspec.Raw = _NULL
    response: msgspec.Raw = _NULL
    message: msgspec.Raw = _NULL
    choices: msgspec.Raw = _NULL


_envelope = msgspec.json.Decoder(_Envelope).decode
_choices = msgspec.json.Decoder(list[_Envelope]).decode
_counts = msgspec.json.Decoder(dict[str, Any]).decode
_REFUSED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def usage_from_json(body: bytes) -> Usage | None:
    """The usage stated in one answer or in the data of one event. None where there is none; never raises."""
    if b'"usage"' not in body:
        return None
    try:
        return _find(body)
    except _REFUSED:
        # A provider may cut an emoji in two between events: an unpaired surrogate, which msgspec refuses.
        masked = mask_surrogates(body)
        if masked == body:
            return None
    try:
        return _find(masked)
    except _REFUSED:
        return None


def merge(a: Usage | None, b: Usage | None) -> Usage | None:
    """What two events of one answer say together, `b` being the later one.

    Prompt counts never shrink (Anthropic states them at the start, some providers at the end); of the completion
    counts, which grow, the latest that is stated wins.
    """
    if a is None or b is None:
        return b if a is None else a
    return Usage(
        prompt_tokens=max(a.prompt_tokens, b.prompt_tokens),
        completion_tokens=b.completion_tokens or a.completion_tokens,
        cached_tokens=max(a.cached_tokens, b.cached_tokens),
        reasoning_tokens=b.reasoning_tokens or a.reasoning_tokens,
    )


def _find(body: bytes | msgspec.Raw) -> Usage | None:
    envelope = _envelope(body)
    if found := _read(envelope.usage):
        return found
    for nested in (envelope.response, envelope.message):
        if _opens(nested, b"{") and (found := _read(_envelope(nested).usage)):
            return found
    if _opens(envelope.choices, b"[") and b'"usage"' in bytes(envelope.choices):
        for choice in _choices(envelope.choices):
            if found := _read(choice.usage):
                return found
    return None


def _opens(raw: msgspec.Raw, bracket: bytes) -> bool:
    return bytes(memoryview(raw)[:1]) == bracket


def _read(raw: msgspec.Raw) -> Usage | None:
    if not _opens(raw, b"{"):
        return None
    counts = _counts(raw)
    prompt, completion = _tokens(counts, "prompt_tokens"), _tokens(counts, "completion_tokens")
    cached = _detail(counts, "prompt_tokens_details", "cached_tokens")
    reasoning = _detail(counts, "completion_tokens_details", "reasoning_tokens")
    if prompt is None and completion is None:
        prompt, completion = _tokens(counts, "input_tokens"), _tokens(counts, "output_tokens")
        cached = _detail(counts, "input_tokens_details", "cached_tokens")
        reasoning = _detail(counts, "output_tokens_details", "reasoning_tokens")
        read = _tokens(counts, "cache_read_input_tokens")
        created = _tokens(counts, "cache_creation_input_tokens")
        if prompt is not None or read is not None or created is not None:
            prompt = (prompt or 0) + (read or 0) + (created or 0)
        cached = cached if cached is not None else read
    if prompt is None and completion is None:
        return None
    if cached is None:
        cached = _tokens(counts, "cached_tokens")
    if cached is None:
        cached = _tokens(counts, "prompt_cache_hit_tokens")
    return Usage(prompt or 0, completion or 0, cached or 0, reasoning or 0)


def _tokens(counts: dict[str, Any], key: str) -> int | None:
    value = counts.get(key)
    return value if type(value) is int and 0 <= value <= _MOST_TOKENS else None


def _detail(counts: dict[str, Any], group: str, key: str) -> int | None:
    details = counts.get(group)
    return _tokens(details, key) if isinstance(details, dict) else None
