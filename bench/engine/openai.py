"""OpenAI requests as a vLLM server understands them, and its answers as JSON and as server-sent events."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import msgspec

from bench import answers

DONE = b"data: [DONE]\n\n"


class RefusedError(Exception):
    """A request that gets an error object: `status`, and the fields of OpenAI's error."""

    def __init__(self, status: int, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        kind = {400: "BadRequestError", 404: "NotFoundError"}.get(status, "InternalServerError")
        self.body = answers.error_body(message, kind, status, param)


@dataclass(slots=True)
class Job:
    """One generation: its prompt, and the answer in pieces of one token each."""

    kind: str
    id: str
    created: int
    model: str
    prompt: str
    prompt_tokens: int
    pieces: list[str]
    finish_reason: str
    stream: bool
    include_usage: bool
    salt: str
    tool: str | None = None
    cached: int = 0

    @property
    def usage(self) -> dict[str, Any]:
        """The usage object; complete once `cached` is known."""
        return answers.usage(self.prompt_tokens, len(self.pieces), self.cached)


def decode(body: bytes, models: Sequence[str]) -> dict[str, Any]:
    """The request object, its `model` known. Raises RefusedError: 400 for what is no object, 404 for another model."""
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise RefusedError(400, f"the body is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise RefusedError(400, "the body must be a JSON object")
    model = value.get("model", models[0])
    if not isinstance(model, str):
        raise RefusedError(400, "model must be a string", "model")
    if model not in models:
        raise RefusedError(404, f"The model `{model}` does not exist.", "model")
    return {**value, "model": model}


def read_chat(value: dict[str, Any], created: int, answer_tokens: int) -> Job:
    """A chat completion request. Raises RefusedError."""
    messages, tools = value.get("messages"), value.get("tools")
    if not isinstance(messages, list) or not messages:
        raise RefusedError(400, "messages must be a non-empty list", "messages")
    if tools is not None and not isinstance(tools, list):
        raise RefusedError(400, "tools must be a list", "tools")
    try:
        prompt = answers.render_chat(messages, tools)
        wanted = bool(tools) and value.get("tool_choice") != "none" and _asks_for_tool(messages)
    except ValueError as error:
        raise RefusedError(400, str(error), "messages") from error
    job = _job("chat", value, created, prompt, answers.count_tokens(prompt), answer_tokens)
    if wanted and tools:
        function = tools[0].get("function") if isinstance(tools[0], dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise RefusedError(400, "a tool needs a function with a name", "tools")
        job.tool, job.finish_reason = function["name"], "tool_calls"
        job.pieces = answers.tokenize(answers.tool_arguments(tools[0]))
    return job


def read_completion(value: dict[str, Any], created: int, answer_tokens: int) -> Job:
    """A text completion request with one prompt: a string, a list of one string, or a list of token numbers."""
    prompt = value.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], str):
        prompt = prompt[0]
    if isinstance(prompt, list) and prompt and all(type(item) is int and 0 <= item < 2**20 for item in prompt):
        # One character of the supplementary planes per token number, so that the counting rule stays true.
        text = "".join(chr(0x10000 + item % 0xF0000) for item in prompt)
    elif isinstance(prompt, str) and prompt:
        text = prompt
    else:
        raise RefusedError(400, "prompt must be one string or one list of token numbers", "prompt")
    return _job("completion", value, created, text, answers.count_tokens(text), answer_tokens)


def read_inputs(value: dict[str, Any]) -> list[str]:
    """The texts of an embeddings request. Raises RefusedError."""
    given = value.get("input")
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) and text for text in texts):
        raise RefusedError(400, "input must be a text or a list of texts", "input")
    if value.get("encoding_format", "float") not in ("float", "base64"):
        raise RefusedError(400, "encoding_format must be float or base64", "encoding_format")
    return texts


def _asks_for_tool(messages: Sequence[Any]) -> bool:
    users = [message for message in messages if message["role"] == "user"]
    return bool(users) and "tool" in answers.content_text(users[-1].get("content"))


def _job(kind: str, value: dict[str, Any], created: int, prompt: str, tokens: int, answer_tokens: int) -> Job:
    limit = value.get("max_completion_tokens") or value.get("max_tokens")
    if limit is not None and (type(limit) is not int or limit < 1):
        raise RefusedError(400, "max_tokens must be a positive integer", "max_tokens")
    if value.get("n", 1) not in (1, None):
        raise RefusedError(400, "n must be 1", "n")
    options = value.get("stream_options")
    if options is not None and (not isinstance(options, dict) or not value.get("stream")):
        raise RefusedError(400, "stream_options is an object, allowed with stream only", "stream_options")
    natural = answers.natural_length(prompt, answer_tokens)
    if value.get("ignore_eos") and limit:
        natural = limit
    length = min(natural, limit or natural)
    prefix = "chatcmpl-" if kind == "chat" else "cmpl-"
    return Job(
        kind=kind,
        id=prefix + uuid.uuid4().hex,
        created=created,
        model=value["model"],
        prompt=prompt,
        prompt_tokens=tokens,
        pieces=answers.answer_pieces(length, answers.digest(prompt)),
        finish_reason="length" if limit == length else "stop",
        stream=bool(value.get("stream")),
        include_usage=bool(options and options.get("include_usage")),
        salt=str(value.get("cache_salt") or ""),
    )


def answer_json(job: Job) -> bytes:
    """The whole answer as one JSON object."""
    text = "".join(job.pieces)
    choice: dict[str, Any] = {"index": 0, "logprobs": None, "finish_reason": job.finish_reason}
    if job.kind == "completion":
        choice["text"] = text
    elif job.tool is None:
        choice["message"] = {"role": "assistant", "content": text, "tool_calls": []}
    else:
        call = {"id": _call_id(job), "type": "function", "function": {"name": job.tool, "arguments": text}}
        choice["message"] = {"role": "assistant", "content": None, "tool_calls": [call]}
    return msgspec.json.encode(
        {
            "id": job.id,
            "object": "chat.completion" if job.kind == "chat" else "text_completion",
            "created": job.created,
            "model": job.model,
            "choices": [choice],
            "usage": job.usage,
        }
    )


@lru_cache(maxsize=4096)
def _quoted(piece: str) -> bytes:
    return msgspec.json.encode(piece)


class EventWriter:
    """The answer as events. Bytes are joined from fragments: a JSON encoder per token would cost most of a step."""

    def __init__(self, job: Job) -> None:
        self.job = job
        kind = b"chat.completion.chunk" if job.kind == "chat" else b"text_completion"
        self._head = b'data: {"id":"%s","object":"%s","created":%d,"model":%s,"choices":[' % (
            job.id.encode(),
            kind,
            job.created,
            msgspec.json.encode(job.model),
        )
        if job.kind == "completion":
            before, after = b'{"index":0,"text":', b',"logprobs":null,"finish_reason":null}]}\n\n'
        elif job.tool is None:
            before, after = b'{"index":0,"delta":{"content":', b'},"logprobs":null,"finish_reason":null}]}\n\n'
        else:
            before = b'{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":'
            after = b'}}]},"logprobs":null,"finish_reason":null}]}\n\n'
        self._before, self._after = self._head + before, after

    def opening(self) -> bytes:
        """The role chunk, and the start of a tool call; nothing for a text completion."""
        if self.job.kind == "completion":
            return b""
        if self.job.tool is None:
            return self._delta({"role": "assistant", "content": ""})
        call = {
            "index": 0,
            "id": _call_id(self.job),
            "type": "function",
            "function": {"name": self.job.tool, "arguments": ""},
        }
        return self._delta({"role": "assistant", "content": None}) + self._delta({"tool_calls": [call]})

    def content(self, start: int, end: int) -> bytes:
        """One event for each piece from `start` up to `end`."""
        before, after = self._before, self._after
        return b"".join([before + _quoted(piece) + after for piece in self.job.pieces[start:end]])

    def closing(self) -> bytes:
        """The finish chunk, the usage chunk if it was asked for, and `[DONE]`."""
        if self.job.kind == "completion":
            choice = {"index": 0, "text": "", "logprobs": None, "finish_reason": self.job.finish_reason}
            finish = self._head + msgspec.json.encode(choice) + b"]}\n\n"
        else:
            finish = self._delta({}, self.job.finish_reason)
        usage = b""
        if self.job.include_usage:
            usage = self._head + b'],"usage":' + msgspec.json.encode(self.job.usage) + b"}\n\n"
        return finish + usage + DONE

    def _delta(self, delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return self._head + msgspec.json.encode(choice) + b"]}\n\n"


def _call_id(job: Job) -> str:
    return "call_" + job.id[-24:]
