"""An answer of OpenAI's API in its other form: JSON as server-sent events, and a whole event stream as JSON.

Chat and text completions. What is kept: id, model, created, fingerprint and other top-level facts, every choice with
its role, text, refusal, reasoning, tool calls and finish reason, and usage to the token. Log probabilities are joined.
"""

from __future__ import annotations

from typing import Any

import msgspec

from extproc.payload.sse import Fragment, SSESplitter, event_data

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.encode

_STREAMED = {"chat.completion": "chat.completion.chunk", "text_completion": "text_completion"}
_WHOLE = {"chat.completion.chunk": "chat.completion", "text_completion": "text_completion"}
_DONE = b"data: [DONE]\n\n"
_PIECE = 64
"""Characters of text in one replayed event."""
_MOST = 1024
"""Choices, and tool calls of one choice, beyond which a stream is not taken for an answer."""
_REFUSED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def to_events(answer: bytes, *, include_usage: bool) -> bytes | None:
    """A JSON answer as the event stream that would have brought it; None where it is no completion.

    `include_usage`: the client asked for `stream_options.include_usage`; then a last event without choices holds it.
    """
    try:
        whole = _decode(answer)
    except _REFUSED:
        return None
    if not _is_completion(whole):
        return None
    kind, choices = whole.get("object", "chat.completion"), whole["choices"]
    shared = {name: value for name, value in whole.items() if name not in ("choices", "usage")}
    shared["object"] = _STREAMED[kind]
    unset = {"usage": None} if include_usage else {}
    out = []
    for choice in choices:
        deltas = _deltas(choice, chat=kind == "chat.completion")
        out += [_event({**shared, "choices": [delta], **unset}) for delta in deltas]
    if include_usage and (usage := whole.get("usage")) is not None:
        out.append(_event({**shared, "choices": [], "usage": usage}))
    out.append(_DONE)
    return b"".join(out)


def to_json(stream: bytes) -> bytes | None:
    """What `StreamJoiner` makes of a whole event stream."""
    joiner = StreamJoiner(len(stream))
    joiner.feed(stream)
    return joiner.finish()


def can_stream(answer: bytes) -> bool:
    """Whether `to_events` takes a JSON answer."""
    try:
        return _is_completion(_decode(answer))
    except _REFUSED:
        return False


def _is_completion(whole: Any) -> bool:
    if not isinstance(whole, dict) or not isinstance(choices := whole.get("choices"), list):
        return False
    kind = whole.get("object", "chat.completion")
    return kind in _STREAMED and all(isinstance(choice, dict) for choice in choices)


class StreamJoiner:
    """An event stream, cut anywhere, as the JSON answer that would have brought the same. Linear in the bytes fed."""

    __slots__ = ("_answer", "_joined", "_left", "_splitter")

    def __init__(self, limit: int) -> None:
        """`limit`: bytes of the stream beyond which nothing is kept of it."""
        self._left = limit
        self._splitter = SSESplitter()
        self._joined: _Joined | None = _Joined()
        self._answer: bytes | None = None

    def __repr__(self) -> str:
        return f"<StreamJoiner {'given up' if self._joined is None else 'open'}>"

    def feed(self, chunk: bytes) -> None:
        """Take the next chunk."""
        self._left -= len(chunk)
        if self._left < 0:
            self.spoil()
        if self._joined is not None:
            for frame in self._splitter.feed(chunk):
                self._add(frame)

    def spoil(self) -> None:
        """A piece is missing: there is no whole answer."""
        self._joined = None
        self._splitter.flush()

    def finish(self) -> bytes | None:
        """The answer once the stream has ended.

        None where it is none, where it is not whole (no `[DONE]`, a choice without finish reason), where it holds an
        error, or something whose place in a JSON answer is not known: what is not understood is not to be given to
        another.
        """
        rest = self._splitter.flush()
        if rest and self._joined is not None:
            self._add(rest)
        self._joined = None
        return self._answer

    def _add(self, frame: bytes) -> None:
        joined = self._joined
        if joined is None:
            return
        data = event_data(frame)
        if type(frame) is Fragment:
            self._joined = None
        elif data is None or not data.strip():
            return
        elif data.strip() == b"[DONE]":
            self._answer = joined.answer()
            self._joined = None
        elif not joined.add(data):
            self._joined = None


def _event(chunk: dict[str, Any]) -> bytes:
    return b"data: " + _encode(chunk) + b"\n\n"


def _deltas(choice: dict[str, Any], *, chat: bool) -> list[dict[str, Any]]:
    """The events of one choice: role, text in pieces, then everything else, then the finish reason."""
    index, finish = choice.get("index", 0), choice.get("finish_reason")
    if not chat:
        text = choice.get("text")
        pieces = _pieces(text if isinstance(text, str) else "")
        rows = [{"index": index, "text": piece, "finish_reason": None} for piece in pieces]
        last = {name: value for name, value in choice.items() if name != "text"}
        return [*rows, {**last, "index": index, "text": ""}]
    message = choice.get("message")
    message = message if isinstance(message, dict) else {}
    rows = [{"role": message.get("role", "assistant"), "content": "" if message.get("content") is not None else None}]
    for name, value in message.items():
        if name in ("role", "tool_calls") or value is None:
            continue
        rows += [{name: piece} for piece in _pieces(value)] if isinstance(value, str) else [{name: value}]
    calls = message.get("tool_calls")
    for number, call in enumerate(calls if isinstance(calls, list) else []):
        rows.append({"tool_calls": [{"index": number, **call} if isinstance(call, dict) else call]})
    events = [{"index": index, "delta": row, "finish_reason": None} for row in rows]
    rest = {name: value for name, value in choice.items() if name not in ("index", "message", "finish_reason")}
    return [*events, {"index": index, "delta": {}, **rest, "finish_reason": finish}]


def _pieces(text: str) -> list[str]:
    return [text[at : at + _PIECE] for at in range(0, len(text), _PIECE)]


class _Text(list[str]):
    """A text in pieces, joined once at the end: adding to a string copies it every time."""


def _add_text(into: dict[str, Any], name: str, piece: str) -> bool:
    """False where something else than text is there."""
    text = into.get(name)
    if text is None or text == "":
        into[name] = _Text([piece])
    elif isinstance(text, _Text):
        text.append(piece)
    else:
        return False
    return True


def _whole(value: Any) -> Any:
    """The value with its texts joined."""
    if isinstance(value, _Text):
        return "".join(value)
    if isinstance(value, dict):
        return {name: _whole(each) for name, each in value.items()}
    return value


class _Joined:
    """One answer out of its events."""

    def __init__(self) -> None:
        self._shared: dict[str, Any] = {}
        self._usage: Any = None
        self._choices: dict[int, dict[str, Any]] = {}
        self._chat = False

    def add(self, data: bytes) -> bool:
        """Whether the event was understood."""
        try:
            chunk = _decode(data)
        except _REFUSED:
            return False
        if not isinstance(chunk, dict) or chunk.get("error") or not isinstance(chunk.get("choices", []), list):
            return False
        if not self._shared and chunk.get("object", "chat.completion.chunk") not in _WHOLE:
            return False
        for name, value in chunk.items():
            if name not in ("choices", "usage", "obfuscation") and value is not None:
                self._shared.setdefault(name, value)
        if chunk.get("usage") is not None:
            self._usage = chunk["usage"]
        return all(self._add_choice(choice) for choice in chunk.get("choices", []))

    def answer(self) -> bytes | None:
        if not self._choices or any(choice.get("finish_reason") is None for choice in self._choices.values()):
            return None
        choices = []
        for index in sorted(self._choices):
            choice = self._choices[index]
            message = choice.get("message")
            if message is not None and isinstance(calls := message.get("tool_calls"), dict):
                message["tool_calls"] = [_whole(calls[number]) for number in sorted(calls)]
            choices.append(_whole(choice))
        kind = _WHOLE[self._shared.get("object", "chat.completion.chunk")]
        whole = {**self._shared, "object": kind, "choices": choices}
        if self._usage is not None:
            whole["usage"] = self._usage
        return _encode(whole)

    def _add_choice(self, part: Any) -> bool:
        if not isinstance(part, dict) or not _is_index(index := part.get("index", 0)) or len(self._choices) > _MOST:
            return False
        choice = self._choices.setdefault(index, {"index": index})
        for name, value in part.items():
            if name == "delta":
                if not isinstance(value, dict) or not self._add_delta(choice, value):
                    return False
            elif name == "text":
                if not _add_text(choice, "text", value if isinstance(value, str) else ""):
                    return False
            elif name == "logprobs" and isinstance(value, dict):
                choice["logprobs"] = joined = choice.get("logprobs") or {}
                if not isinstance(joined, dict) or not _join_lists(joined, value):
                    return False
            elif name == "message":
                return False
            elif name != "index" and (value is not None or name not in choice):
                choice[name] = value
        return True

    def _add_delta(self, choice: dict[str, Any], delta: dict[str, Any]) -> bool:
        message = choice.setdefault("message", {"role": "assistant", "content": None})
        for name, value in delta.items():
            if value is None:
                message.setdefault(name, None)
            elif name == "role":
                message["role"] = value
            elif name == "tool_calls":
                if not isinstance(value, list) or not all(_add_call(message, call) for call in value):
                    return False
            elif isinstance(value, str):
                if not _add_text(message, name, value):
                    return False
            elif isinstance(value, dict | list) and message.get(name) is None:
                message[name] = value  # such as annotations, which come once
            else:
                return False
        return True


def _add_call(message: dict[str, Any], part: Any) -> bool:
    if not isinstance(part, dict) or not _is_index(index := part.get("index", 0)):
        return False
    if not isinstance(message.get("tool_calls"), dict):
        message["tool_calls"] = {}
    calls = message["tool_calls"]
    if len(calls) > _MOST:
        return False
    call = calls.setdefault(index, {})
    for name, value in part.items():
        if value is None:
            continue
        if name in ("function", "custom"):
            if not isinstance(value, dict) or not _join_function(call.setdefault(name, {}), value):
                return False
        elif name != "index":
            call[name] = value
    return True


def _join_function(into: dict[str, Any], part: dict[str, Any]) -> bool:
    for key, value in part.items():
        if key in ("arguments", "input"):
            if not isinstance(value, str) or not _add_text(into, key, value):
                return False
        elif value is not None:
            into[key] = value
    return True


def _join_lists(into: dict[str, Any], part: dict[str, Any]) -> bool:
    for name, value in part.items():
        if value is None:
            into.setdefault(name, None)
        elif isinstance(value, list) and into.get(name) is None:
            into[name] = value
        elif isinstance(value, list) and isinstance(into[name], list):
            into[name] += value
        else:
            return False
    return True


def _is_index(value: Any) -> bool:
    return type(value) is int and 0 <= value < _MOST
