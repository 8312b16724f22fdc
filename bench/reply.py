"""What a simulated provider answers, before it has the shape of an API."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

from bench import answers
from bench.quirks import WRITINGS, Quirks


@dataclass(slots=True, kw_only=True)
class Reply:
    """What is answered, whatever the shape. `pieces` are the content events of a stream."""

    model: str
    prompt_tokens: int
    pieces: list[str]
    finish_reason: str
    include_usage: bool
    quirks: Quirks
    created: int = 1_700_000_000
    serial: int = 1
    tool: str | None = None
    thoughts: list[str] = field(default_factory=list)
    choices: int = 1
    """How many times chat and text completions say it."""

    @property
    def text(self) -> str:
        """The whole content."""
        return "".join(self.pieces)

    @property
    def completion_tokens(self) -> int:
        """Tokens generated, reasoning included."""
        return answers.count_tokens(self.text) + len(self.thoughts)

    @property
    def cached(self) -> int:
        """Prompt tokens that came from a cache."""
        return min(self.quirks.cached, self.prompt_tokens)

    def chat_usage(self) -> dict[str, Any]:
        """OpenAI's chat usage."""
        return answers.usage(self.prompt_tokens, self.completion_tokens, self.cached, len(self.thoughts))


def compose(value: dict[str, Any], prompt: str, organisation: str, quirks: Quirks, serial: int) -> Reply:
    """The reply to a request object. Raises ValueError for fields of the wrong type."""
    model = value["model"]
    pieces = answers.tokenize(f"我是来自{organisation}的大规模语言模型，我叫{model}。")
    said = _rewritten(said_last(value), quirks.rewrite) if quirks.echo else ""
    if quirks.echo:
        pieces = cut(said, quirks.echo)
    if quirks.events:
        pieces = [pieces[index % len(pieces)] for index in range(quirks.events)]
    limit = next(
        (value[name] for name in ("max_completion_tokens", "max_tokens", "max_output_tokens") if value.get(name)), None
    )
    if limit is not None and (type(limit) is not int or limit < 1):
        raise ValueError("max_tokens must be a positive integer")
    reason = "stop"
    if limit is not None and limit < len(pieces):
        pieces, reason = pieces[:limit], "length"
    options = value.get("stream_options") or {}
    if not isinstance(options, dict):
        raise ValueError("stream_options must be an object")
    reply = Reply(
        model=model,
        prompt_tokens=answers.count_tokens(prompt),
        pieces=pieces,
        finish_reason=reason,
        include_usage=bool(options.get("include_usage")) and not quirks.no_usage,
        quirks=quirks,
        serial=serial,
        thoughts=answers.answer_pieces(quirks.reasoning, 1),
        choices=_choices(value),
    )
    tools = value.get("tools")
    if tools and "tool" in prompt and value.get("tool_choice") != "none" and "messages" in value:
        reply.tool, reply.finish_reason = str(tools[0]["function"]["name"]), "tool_calls"
        reply.pieces = answers.tokenize(answers.tool_arguments(tools[0]))
        if quirks.echo:
            reply.pieces = cut(json.dumps({"text": said}), quirks.echo)
    if quirks.big_line:
        middle = len(reply.pieces) // 2
        reply.pieces = [*reply.pieces[:middle], "x" * quirks.big_line, *reply.pieces[middle:]]
    return reply


def _rewritten(text: str, way: int) -> str:
    """The text with placeholders in the writing of this number. Raises ValueError for a number that there is not."""
    if way >= len(WRITINGS):
        raise ValueError(f"rewrite must be below {len(WRITINGS)}")
    writing = WRITINGS[way]
    return (
        re.sub(r"<([A-Z_]+)_([0-9]+)>", lambda found: writing.format(name=found[1], number=found[2]), text)
        if way
        else text
    )


def said_last(value: dict[str, Any]) -> str:
    """The text of the last user message, or the prompt. Raises ValueError for what is no text."""
    for key in ("messages", "input", "prompt"):
        found = value.get(key)
        if isinstance(found, str):
            return found
        if isinstance(found, list):
            spoken = [each["content"] for each in found if isinstance(each, dict) and each.get("role") == "user"]
            return answers.content_text(spoken[-1]) if spoken else ""
    return ""


def cut(text: str, size: int) -> list[str]:
    """Pieces of so many characters."""
    return [text[start : start + size] for start in range(0, len(text), size)]


def _choices(value: dict[str, Any]) -> int:
    count = value.get("n")
    if count is None:
        return 1
    if type(count) is not int or not 1 <= count <= 128:
        raise ValueError("n must be between 1 and 128")
    return count
