"""A client that reads guarded streams, and filters for them."""

import json
from collections import defaultdict
from typing import Any

from detectors.findings import Finding
from detectors.masking import Restorer, Vault
from detectors.stream import Action, StreamGuard
from extproc.payload.guard.fields import OpenFilter, TextChannel, TextFilter
from extproc.payload.guard.stream import GuardedStream
from extproc.payload.operations.operation import Dialect
from extproc.payload.sse import event_data, split_frames
from tests.detectors import pieces
from tests.detectors.pieces import GuardedText


class GuardedPiece:
    denied = False

    def __init__(self, text: str) -> None:
        self.text = text


class Plain:
    """Lets everything pass, and keeps what it saw."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def feed(self, text: str, *, end: bool) -> GuardedPiece:
        self.seen.append(text)
        return GuardedPiece(text)


def guarding(what: Action, vault: Vault | None = None) -> OpenFilter:
    def action(_: Finding) -> Action:
        return what

    def open_filter(channel: TextChannel) -> TextFilter:
        guard = StreamGuard(pieces.find, pieces.open_from, action=action)
        return guard if vault is None else GuardedText(guard, Restorer(vault, in_json=channel.kind == "arguments"))

    return open_filter


def run(chunks: list[bytes], open_filter: OpenFilter, dialect: Dialect = Dialect.CHAT) -> tuple[bytes, GuardedStream]:
    stream = GuardedStream(open_filter, refusal="no", dialect=dialect)
    out = [stream.feed(chunk, end=False) for chunk in chunks]
    return b"".join([*out, stream.feed(b"", end=True)]), stream


def events(stream: bytes) -> list[Any]:
    frames, rest = split_frames(stream)
    assert not rest or rest.endswith(b"\r\r")
    data = [event_data(frame) for frame in [*frames, rest]]
    return [json.loads(each) if each != b"[DONE]" else "DONE" for each in data if each]


def texts(stream: bytes) -> dict[tuple[Any, ...], str]:
    """Every text of a chat stream as a client adds it up, and each choice's reason to finish."""
    out: dict[tuple[Any, ...], str] = defaultdict(str)
    for event in events(stream):
        for choice in event["choices"] if event != "DONE" else ():
            n = choice["index"]
            delta = choice.get("delta", {})
            for key in ("content", "reasoning_content", "refusal"):
                if isinstance(delta.get(key), str):
                    out[n, key] += delta[key]
            for call in delta.get("tool_calls") or ():
                function = call.get("function", {})
                for key in ("name", "arguments"):
                    out[n, call["index"], key] += function.get(key) or ""
            if isinstance(choice.get("text"), str):
                out[n, "text"] += choice["text"]
            if choice.get("finish_reason"):
                assert (n, "finish") not in out or choice["finish_reason"] == "content_filter", "a choice finishes once"
                out[n, "finish"] = choice["finish_reason"]
    return {key: text for key, text in out.items() if text}


def chunk(*choices: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": "c-1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [*choices], **more}


def delta(n: int, finish: str | None = None, **fields: Any) -> dict[str, Any]:
    return {"index": n, "delta": fields, "finish_reason": finish}


def call(index: int, arguments: str, **more: Any) -> list[dict[str, Any]]:
    return [{"index": index, "function": {"arguments": arguments, **more}}]
