"""Token usage, as the providers' answers state it.

| form | where |
|---|---|
| OpenAI, vLLM, SGLang, Mistral, DeepSeek, Qwen | `usage`, `choices[].usage`, `x_groq.usage` |
| responses API | `usage`, `response.usage` |
| Anthropic | `usage`, `message.usage`; its input excludes what a cache served or took |
| Gemini | `usageMetadata`; thoughts stand beside the candidates |
| Bedrock | `usage`, `metadata.usage`, `amazon-bedrock-invocationMetrics`; counts of Titan and Llama |
| Ollama | `prompt_eval_count`, `eval_count` |
| Cohere | `usage`, `delta.usage`, `meta`, `response.meta`: `tokens`, else `billed_units` |
| SGLang's own | `meta_info` |

A stream may state its counts in pieces and again: of each count, the value stated last holds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any

import msgspec

from extproc.payload.document import mask_surrogates

_MOST_TOKENS = 1 << 40  # a larger count is a provider's mistake, and would spoil every sum it enters


class Usage(msgspec.Struct, frozen=True, gc=False):
    """Tokens of one exchange. `cached_tokens` and `cache_write_tokens` are part of the prompt, `reasoning_tokens` of
    the completion."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    cache_write_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


class Stated(msgspec.Struct, frozen=True, gc=False):
    """Counts in an answer's own words; None is not stated."""

    prompt: int | None = None
    """With what a cache served."""
    uncached: int | None = None
    """Without what a cache served or took, where `read` and `written` are stated beside it."""
    read: int | None = None
    written: int | None = None
    tools: int | None = None
    """Of the prompt, beside `prompt`."""
    cached: int | None = None
    """Part of `prompt` or `uncached`."""
    cache_write: int | None = None
    completion: int | None = None
    thoughts: int | None = None
    """Of the completion, beside `completion`."""
    reasoning: int | None = None
    """Part of `completion`, or beside it: providers differ, and the total tells."""
    total: int | None = None

    def then(self, later: Stated) -> Stated:
        """What both say together: of each count, the later one if it states it."""
        counts = later.prompt is not None, later.uncached is not None, later.completion is not None
        return Stated(
            prompt=later.prompt if later.prompt is not None or counts[1] else self.prompt,
            uncached=later.uncached if later.uncached is not None or counts[0] else self.uncached,
            read=later.read if later.read is not None else self.read,
            written=later.written if later.written is not None else self.written,
            tools=later.tools if later.tools is not None else self.tools,
            cached=later.cached if later.cached is not None else self.cached,
            cache_write=later.cache_write if later.cache_write is not None else self.cache_write,
            completion=later.completion if counts[2] else self.completion,
            thoughts=later.thoughts if later.thoughts is not None else self.thoughts,
            reasoning=later.reasoning if later.reasoning is not None else self.reasoning,
            # A total belongs to the counts that it came with.
            total=later.total if later.total is not None or any(counts) else self.total,
        )

    def usage(self) -> Usage:
        prompt, completion, reasoning = self._prompt(), self.completion, self.reasoning or 0
        total = self.total
        if self.thoughts is not None:
            completion, reasoning = (completion or 0) + self.thoughts, self.thoughts
        elif total is not None:
            if prompt is None:
                prompt = max(0, total - (completion or 0))
            elif completion is None:
                completion = max(0, total - prompt)
        prompt, completion = prompt or 0, completion or 0
        beside = reasoning > completion if total is None else prompt + completion + reasoning == total
        if self.thoughts is None and (beside or (reasoning > completion and prompt + completion != total)):
            completion += reasoning
        cached = self.cached if self.cached is not None else self.read
        written = self.cache_write if self.cache_write is not None else self.written
        return Usage(prompt, completion, cached or 0, reasoning, written or 0)

    def _prompt(self) -> int | None:
        if self.prompt is not None:
            return self.prompt + (self.tools or 0)
        parts = (self.uncached, self.read, self.written)
        return None if parts == (None, None, None) else sum(each or 0 for each in parts)


_NULL = msgspec.Raw(b"null")


class _Envelope(msgspec.Struct, gc=False, rename={"metrics": "amazon-bedrock-invocationMetrics"}):
    usage: msgspec.Raw = _NULL
    usageMetadata: msgspec.Raw = _NULL  # noqa: N815 -- the provider's name
    response: msgspec.Raw = _NULL
    message: msgspec.Raw = _NULL
    delta: msgspec.Raw = _NULL
    metadata: msgspec.Raw = _NULL
    x_groq: msgspec.Raw = _NULL
    meta: msgspec.Raw = _NULL
    meta_info: msgspec.Raw = _NULL
    metrics: msgspec.Raw = _NULL
    choices: msgspec.Raw = _NULL


_Count = Annotated[int, msgspec.Meta(ge=0, le=_MOST_TOKENS)]


class _Details(msgspec.Struct, gc=False):
    cached_tokens: _Count | None = None
    cache_write_tokens: _Count | None = None
    cache_creation_tokens: _Count | None = None
    reasoning_tokens: _Count | None = None


class _UsualCounts(msgspec.Struct, gc=False):
    prompt_tokens: _Count
    completion_tokens: _Count | None = None
    total_tokens: _Count | None = None
    prompt_tokens_details: _Details | None = None
    completion_tokens_details: _Details | None = None
    cached_tokens: _Count | None = None
    prompt_cache_hit_tokens: _Count | None = None
    reasoning_tokens: _Count | None = None
    cache_read_input_tokens: _Count | None = None
    cache_creation_input_tokens: _Count | None = None


class _Usual(msgspec.Struct, gc=False):
    """What most providers state in the last event, and some in every one: read in one go."""

    usage: _UsualCounts


_usual = msgspec.json.Decoder(_Usual).decode
_envelope = msgspec.json.Decoder(_Envelope).decode
_choices = msgspec.json.Decoder(list[_Envelope]).decode
_answers = msgspec.json.Decoder(list[msgspec.Raw]).decode
_counts = msgspec.json.Decoder(dict[str, Any]).decode
_REFUSED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_MAY_STATE = re.compile(rb'"usage|"meta|nvocationMetrics"|eval_count"|oken_count"|TokenCount"')
_OWN_COUNTS = re.compile(rb'eval_count"|oken_count"|TextTokenCount"')
"""Counts that stand at the top of an answer."""
_MOST_ANSWERS = 100_000


def usage_from_json(body: bytes) -> Usage | None:
    """The usage stated in one answer or in the data of one event. None where there is none; never raises."""
    stated = stated_in(body)
    return None if stated is None else stated.usage()


def stated_in(body: bytes) -> Stated | None:
    """The counts in one answer, an array of answers, or JSON lines. Never raises."""
    if not _MAY_STATE.search(body):
        return None
    if b'"prompt_tokens"' in body and (found := _read_usual(body)) is not None:
        return found
    try:
        return _find(body)
    except _REFUSED:
        # A provider may cut an emoji in two between events: an unpaired surrogate, which msgspec refuses.
        masked = mask_surrogates(body)
    if masked != body:
        try:
            return _find(masked)
        except _REFUSED:
            pass
    if b"\n{" not in masked:
        return None
    found = None
    for line in masked.split(b"\n"):
        if _MAY_STATE.search(line):
            try:
                found = merge(found, _find(line))
            except _REFUSED:
                continue
    return found


def _read_usual(body: bytes) -> Stated | None:
    try:
        counts = _usual(body).usage
    except _REFUSED:
        return None
    prompt, completion = counts.prompt_tokens_details or _NO_DETAILS, counts.completion_tokens_details or _NO_DETAILS
    hits = counts.cached_tokens if counts.cached_tokens is not None else counts.prompt_cache_hit_tokens
    taken = prompt.cache_write_tokens if prompt.cache_write_tokens is not None else prompt.cache_creation_tokens
    thought = completion.reasoning_tokens
    return Stated(
        prompt=counts.prompt_tokens,
        read=counts.cache_read_input_tokens,
        written=counts.cache_creation_input_tokens,
        cached=prompt.cached_tokens if prompt.cached_tokens is not None else hits,
        cache_write=taken,
        completion=counts.completion_tokens,
        reasoning=thought if thought is not None else counts.reasoning_tokens,
        total=counts.total_tokens,
    )


_NO_DETAILS = _Details()


def merge(a: Stated | None, b: Stated | None) -> Stated | None:
    """What two events of one answer say together, `b` being the later one."""
    if a is None or b is None:
        return b if a is None else a
    return a.then(b)


def _find(body: bytes | msgspec.Raw) -> Stated | None:
    if isinstance(body, bytes) and body.lstrip()[:1] == b"[":
        found: Stated | None = None
        for answer in _answers(body)[:_MOST_ANSWERS]:
            if _opens(answer, b"{"):
                found = merge(found, _find(answer))
        return found
    envelope = _envelope(body)
    for raw in _blocks(envelope):
        if _opens(raw, b"{") and (found := _read(_counts(raw))) is not None:
            return found
    if _opens(envelope.choices, b"[") and b'"usage"' in bytes(envelope.choices):
        for choice in _choices(envelope.choices):
            if _opens(choice.usage, b"{") and (found := _read(_counts(choice.usage))) is not None:
                return found
    return _read_top(_counts(body)) if _OWN_COUNTS.search(memoryview(body)) else None


def _blocks(envelope: _Envelope) -> Iterator[msgspec.Raw]:
    """Objects that may be counts, those that are meant most first."""
    yield envelope.usage
    yield envelope.usageMetadata
    nested = (envelope.response, envelope.message, envelope.delta, envelope.metadata, envelope.x_groq)
    for raw in nested:
        if _opens(raw, b"{"):
            inner = _envelope(raw)
            yield inner.usage
            yield inner.usageMetadata
            yield inner.meta
    yield envelope.meta
    yield envelope.meta_info
    yield envelope.metrics


def _opens(raw: msgspec.Raw, bracket: bytes) -> bool:
    return bytes(memoryview(raw)[:1]) == bracket


def _read(counts: dict[str, Any]) -> Stated | None:
    if (tokens := counts.get("tokens") or counts.get("billed_units")) and isinstance(tokens, dict):
        found = _read(tokens)  # Cohere; what the model saw rather than what is billed, where both are stated
        cached = _tokens(counts, "cached_tokens")
        return found if found is None or cached is None else msgspec.structs.replace(found, cached=cached)
    if "totalTokenCount" in counts or "promptTokenCount" in counts or "candidatesTokenCount" in counts:
        return _read_gemini(counts)
    prompt = _tokens(counts, "prompt_tokens")
    uncached = None if prompt is not None else _first(counts, "input_tokens", "inputTokens", "inputTokenCount")
    completion = _first(counts, "completion_tokens", "output_tokens", "outputTokens", "outputTokenCount")
    read = _first(counts, "cache_read_input_tokens", "cacheReadInputTokens", "cacheReadInputTokenCount")
    written = _first(counts, "cache_creation_input_tokens", "cacheWriteInputTokens", "cacheWriteInputTokenCount")
    if written is None:
        written = _sum(counts.get("cache_creation"))
    total = _first(counts, "total_tokens", "totalTokens")
    if (prompt, uncached, completion, read, written, total) == (None, None, None, None, None, None):
        return None
    cached = _detail(counts, _PROMPT_DETAILS, "cached_tokens")
    if cached is None:
        cached = _first(counts, "cached_tokens", "prompt_cache_hit_tokens")
    reasoning = _detail(counts, _COMPLETION_DETAILS, "reasoning_tokens")
    return Stated(
        prompt=prompt,
        uncached=uncached,
        read=read,
        written=written,
        cached=cached,
        cache_write=_detail(counts, _PROMPT_DETAILS, "cache_write_tokens", "cache_creation_tokens"),
        completion=completion,
        reasoning=reasoning if reasoning is not None else _tokens(counts, "reasoning_tokens"),
        total=total,
    )


def _read_gemini(counts: dict[str, Any]) -> Stated | None:
    found = Stated(
        prompt=_tokens(counts, "promptTokenCount"),
        tools=_tokens(counts, "toolUsePromptTokenCount"),
        cached=_tokens(counts, "cachedContentTokenCount"),
        completion=_first(counts, "candidatesTokenCount", "responseTokenCount"),
        thoughts=_tokens(counts, "thoughtsTokenCount"),
        total=_tokens(counts, "totalTokenCount"),
    )
    return None if found == Stated() else found


def _read_top(answer: dict[str, Any]) -> Stated | None:
    """Of Ollama, and of Llama and Titan on Bedrock."""
    prompt = _first(answer, "prompt_eval_count", "prompt_token_count", "inputTextTokenCount")
    completion = _first(answer, "eval_count", "generation_token_count", "totalOutputTextTokenCount")
    results = answer.get("results")
    if completion is None and isinstance(results, list) and results and isinstance(results[0], dict):
        completion = _tokens(results[0], "tokenCount")
    return None if prompt is None and completion is None else Stated(prompt=prompt, completion=completion)


_PROMPT_DETAILS = ("prompt_tokens_details", "input_tokens_details", "input_token_details")
_COMPLETION_DETAILS = ("completion_tokens_details", "output_tokens_details", "output_token_details")


def _tokens(counts: dict[str, Any], key: str) -> int | None:
    value = counts.get(key)
    return value if type(value) is int and 0 <= value <= _MOST_TOKENS else None


def _first(counts: dict[str, Any], *keys: str) -> int | None:
    return next((value for key in keys if (value := _tokens(counts, key)) is not None), None)


def _detail(counts: dict[str, Any], groups: tuple[str, ...], *keys: str) -> int | None:
    for group in groups:
        details = counts.get(group)
        if isinstance(details, dict) and (found := _first(details, *keys)) is not None:
            return found
    return None


def _sum(parts: object) -> int | None:
    """Of Anthropic's cache writes by how long they live."""
    if not isinstance(parts, dict):
        return None
    found = [value for key in parts if (value := _tokens(parts, key)) is not None]
    return sum(found) if found else None
