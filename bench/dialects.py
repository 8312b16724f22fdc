"""The answers of a simulated provider in each API shape: chat and text completions, responses, Anthropic messages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from bench import answers
from bench.reply import Reply

DONE = b"data: [DONE]\n\n"


def _json(value: Any) -> bytes:
    return msgspec.json.encode(value)


def _data(value: Any) -> bytes:
    return b"data: " + _json(value) + b"\n\n"


def _named(value: dict[str, Any]) -> bytes:
    return b"event: " + str(value["type"]).encode() + b"\n" + _data(value)


def _without_usage(value: dict[str, Any], reply: Reply) -> bytes:
    if reply.quirks.no_usage:
        value.pop("usage")
    return _json(value)


def chat_json(reply: Reply) -> bytes:
    """A `chat.completion`."""
    message: dict[str, Any] = {"role": "assistant", "content": reply.text}
    if reply.tool:
        function = {"name": reply.tool, "arguments": reply.text}
        message["content"] = None
        message["tool_calls"] = [{"id": "call_1", "type": "function", "function": function}]
    if reply.thoughts:
        message["reasoning_content"] = "".join(reply.thoughts)
    value: dict[str, Any] = {
        "id": f"chatcmpl-{reply.serial}",
        "object": "chat.completion",
        "created": reply.created,
        "model": reply.model,
        "choices": [
            {"index": index, "message": message, "logprobs": None, "finish_reason": reply.finish_reason}
            for index in range(reply.choices)
        ],
        "usage": reply.chat_usage(),
        "system_fingerprint": None,
    }
    return _without_usage(value, reply)


def chat_events(reply: Reply) -> list[bytes]:
    """`chat.completion.chunk` events: role, reasoning, content, finish, usage if asked for, `[DONE]`."""
    call: dict[str, Any] = {"index": 0, "id": "call_1", "type": "function"}
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": None if reply.tool else ""}]
    deltas += [{"reasoning_content": piece} for piece in reply.thoughts]
    if reply.tool:
        deltas.append({"tool_calls": [{**call, "function": {"name": reply.tool, "arguments": ""}}]})
        deltas += [{"tool_calls": [{"index": 0, "function": {"arguments": piece}}]} for piece in reply.pieces]
    else:
        deltas += [{"content": piece} for piece in reply.pieces]
    choices: list[dict[str, Any]] = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
    choices.append({"index": 0, "delta": {}, "finish_reason": reply.finish_reason})
    return _chunks(reply, "chat.completion.chunk", f"chatcmpl-{reply.serial}", choices)


def completion_json(reply: Reply) -> bytes:
    """A `text_completion`."""
    value: dict[str, Any] = {
        "id": f"cmpl-{reply.serial}",
        "object": "text_completion",
        "created": reply.created,
        "model": reply.model,
        "choices": [
            {"index": index, "text": reply.text, "logprobs": None, "finish_reason": reply.finish_reason}
            for index in range(reply.choices)
        ],
        "usage": reply.chat_usage(),
    }
    return _without_usage(value, reply)


def completion_events(reply: Reply) -> list[bytes]:
    """The same as events."""
    choices = [{"index": 0, "text": piece, "finish_reason": None} for piece in reply.pieces]
    choices.append({"index": 0, "text": "", "finish_reason": reply.finish_reason})
    return _chunks(reply, "text_completion", f"cmpl-{reply.serial}", choices)


def _chunks(reply: Reply, kind: str, name: str, choices: list[dict[str, Any]]) -> list[bytes]:
    head: dict[str, Any] = {"id": name, "object": kind, "created": reply.created, "model": reply.model}
    tail = {"usage": None} if reply.include_usage and reply.quirks.usage_null else {}
    events = [
        _data({**head, "choices": [{**choice, "index": index}], **tail})
        for choice in choices
        for index in range(reply.choices)
    ]
    if reply.include_usage:
        events.append(_data({**head, "choices": [], "usage": reply.chat_usage()}))
    return [*events, DONE]


def _response(reply: Reply, status: str, output: list[Any]) -> dict[str, Any]:
    value: dict[str, Any] = {
        "id": f"resp_{reply.serial}",
        "object": "response",
        "created_at": reply.created,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "model": reply.model,
        "output": output,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": None,
    }
    if status == "completed" and not reply.quirks.no_usage:
        value["usage"] = {
            "input_tokens": reply.prompt_tokens,
            "input_tokens_details": {"cached_tokens": reply.cached},
            "output_tokens": reply.completion_tokens,
            "output_tokens_details": {"reasoning_tokens": len(reply.thoughts)},
            "total_tokens": reply.prompt_tokens + reply.completion_tokens,
        }
    return value


def _message_item(reply: Reply, status: str, text: str | None) -> dict[str, Any]:
    content = [] if text is None else [{"type": "output_text", "text": text, "annotations": []}]
    return {"id": f"msg_{reply.serial}", "type": "message", "role": "assistant", "status": status, "content": content}


def responses_json(reply: Reply) -> bytes:
    """A `response`."""
    return _json(_response(reply, "completed", [_message_item(reply, "completed", reply.text)]))


def responses_events(reply: Reply) -> list[bytes]:
    """`response.created` to `response.completed`, which alone has usage."""
    place = {"item_id": f"msg_{reply.serial}", "output_index": 0, "content_index": 0}
    part = {"type": "output_text", "text": "", "annotations": []}
    done = _message_item(reply, "completed", reply.text)
    values: list[dict[str, Any]] = [
        {"type": "response.created", "response": _response(reply, "in_progress", [])},
        {"type": "response.in_progress", "response": _response(reply, "in_progress", [])},
        {"type": "response.output_item.added", "output_index": 0, "item": _message_item(reply, "in_progress", None)},
        {"type": "response.content_part.added", **place, "part": part},
        *({"type": "response.output_text.delta", **place, "delta": piece, "logprobs": []} for piece in reply.pieces),
        {"type": "response.output_text.done", **place, "text": reply.text, "logprobs": []},
        {"type": "response.content_part.done", **place, "part": {**part, "text": reply.text}},
        {"type": "response.output_item.done", "output_index": 0, "item": done},
        {"type": "response.completed", "response": _response(reply, "completed", [done])},
    ]
    return [_named({**value, "sequence_number": number}) for number, value in enumerate(values)]


def _anthropic_usage(reply: Reply) -> dict[str, int]:
    """Anthropic's `input_tokens` are those that no cache had."""
    return {
        "input_tokens": reply.prompt_tokens - reply.cached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": reply.cached,
        "output_tokens": reply.completion_tokens,
    }


def _anthropic_reason(reply: Reply) -> str:
    return "max_tokens" if reply.finish_reason == "length" else "end_turn"


def _anthropic_message(reply: Reply, content: list[Any], reason: str | None, usage: dict[str, int]) -> dict[str, Any]:
    value: dict[str, Any] = {
        "id": f"msg_{reply.serial}",
        "type": "message",
        "role": "assistant",
        "model": reply.model,
        "content": content,
        "stop_reason": reason,
        "stop_sequence": None,
    }
    return value if reply.quirks.no_usage else {**value, "usage": usage}


def messages_json(reply: Reply) -> bytes:
    """An Anthropic `message`."""
    content = [{"type": "text", "text": reply.text}]
    return _json(_anthropic_message(reply, content, _anthropic_reason(reply), _anthropic_usage(reply)))


def messages_events(reply: Reply) -> list[bytes]:
    """`message_start` (input usage) to `message_stop`; the output usage is in `message_delta`."""
    usage = _anthropic_usage(reply)
    ending: dict[str, Any] = {
        "type": "message_delta",
        "delta": {"stop_reason": _anthropic_reason(reply), "stop_sequence": None},
    }
    if not reply.quirks.no_usage:
        ending["usage"] = {"output_tokens": usage["output_tokens"]}
    values: list[dict[str, Any]] = [
        {"type": "message_start", "message": _anthropic_message(reply, [], None, {**usage, "output_tokens": 1})},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "ping"},
        *(
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": piece}}
            for piece in reply.pieces
        ),
        {"type": "content_block_stop", "index": 0},
        ending,
        {"type": "message_stop"},
    ]
    return [_named(value) for value in values]


Shape = tuple[Callable[[Reply], bytes], Callable[[Reply], list[bytes]]]

SHAPES: dict[str, Shape] = {
    "/v1/chat/completions": (chat_json, chat_events),
    "/compatible-mode/v1/chat/completions": (chat_json, chat_events),
    "/v1/completions": (completion_json, completion_events),
    "/v1/responses": (responses_json, responses_events),
    "/v1/messages": (messages_json, messages_events),
}


def embeddings_json(value: dict[str, Any]) -> bytes:
    """The answer to an embeddings request. Raises ValueError for what is no text, size or encoding."""
    texts = [value.get("input")] if isinstance(value.get("input"), str) else value.get("input")
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise ValueError("input must be a text or a list of texts")
    size, encoding = value.get("dimensions", 64), value.get("encoding_format", "float")
    if type(size) is not int or not 1 <= size <= 4096 or encoding not in ("float", "base64"):
        raise ValueError("dimensions must be 1 to 4096 and encoding_format float or base64")
    tokens = sum(map(answers.count_tokens, texts))
    data = [
        {"object": "embedding", "index": index, "embedding": answers.embedding(text, size, encoding)}
        for index, text in enumerate(texts)
    ]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return _json({"object": "list", "data": data, "model": value["model"], "usage": usage})


def prompt_of(path: str, value: dict[str, Any]) -> str:
    """The prompt text that a request's tokens are counted on. Raises ValueError."""
    if path.endswith("/completions") and not path.endswith("/chat/completions"):
        prompt = value.get("prompt")
        if not isinstance(prompt, str):
            raise ValueError("prompt must be a string")
        return prompt
    messages = value.get("input") if path.endswith("/responses") else value.get("messages")
    if path.endswith("/responses") and isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    if not isinstance(messages, list) or not messages:
        raise ValueError("messages must be a non-empty list")
    if value.get("system"):
        messages = [{"role": "system", "content": value["system"]}, *messages]
    return answers.render_chat(messages, value.get("tools"))
