"""Work grows with the size of the input and not faster, in every stage that looks at texts, on its worst input."""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from detectors.findings import Finding
from detectors.guard import Guard
from detectors.masking import Restorer, Vault
from detectors.occurrences import Occurrences
from detectors.policy import Policy
from detectors.stream import StreamGuard, on_plain
from detectors.text import Text
from extproc.payload.document import Document
from extproc.payload.errors import PayloadError
from extproc.payload.guard.answer import guard_answer
from extproc.payload.guard.request import passages, plain_source, with_texts
from extproc.payload.guard.stream import GuardedStream
from extproc.payload.replay import StreamJoiner, to_events
from extproc.scheduling.cache import cache_key, keepable
from tests.detectors import pieces
from tests.payload.guarding import Plain, guarding

SIZES = (pytest.param(1 << 16), pytest.param(1 << 19, marks=pytest.mark.slow))
"""Bytes of the smaller input; the other one is twice that."""
GROWTH = 2.5
Stage = Callable[[], object]


def _request(inner: str) -> Stage:
    body = b'{"messages":[{"role":"user","content":' + inner.encode() + b"}]}"

    def work() -> None:
        document = Document.parse(body)
        try:
            found = passages(document)
        except PayloadError:
            return
        with_texts(document, found, {each.place: json.dumps("x") for each in found.passages})

    return work


def _keys(size: int) -> Stage:
    return _request("{" + ",".join(f'"k{i}":1' for i in range(size // 12)) + "}")


def _doubled_key(size: int) -> Stage:
    return _request("[{" + ",".join(f'"k{i}":1' for i in range(size // 12)) + ',"k7":1}]')


def _unknown_keys(size: int) -> Stage:
    body = (
        "{" + ",".join(f'"k{i}":"v"' for i in range(min(9000, size // 120))) + "," + '"x":"' + "y" * size + '"}'
    ).encode()
    return lambda: passages(Document.parse(body))


def _nested(size: int) -> Stage:
    return _request("[" + ",".join("[" * 100 + "1" + "]" * 100 for _ in range(size // 202)) + "]")


def _numbers(size: int) -> Stage:
    return _request("[" + ",".join(["12345678901"] * (size // 12)) + "]")


def _escapes(size: int) -> Stage:
    text = "{" + json.dumps("k") + ":" + '"' + "\\u0041" * (size // 6) + '"}'
    return lambda: (Text(text), plain_source(text))


def _backslashes(size: int) -> Stage:
    text = "\\" * size
    return lambda: (Text(text), Text(text + "u"), Vault().mask(text + '"', [Finding(0, size, "X")], in_json=True))


def _masks(size: int) -> Stage:
    text = '{"a": "' + "ann@b.c " * (size // 8) + '"}'
    found = [Finding(at, at + 7, "EMAIL") for at in range(7, size, 8)]

    def work() -> None:
        vault = Vault()
        Restorer(vault).feed(vault.mask(text, found, in_json=True), end=True)

    return work


def _bare_masks(size: int) -> Stage:
    text = "[" + ",".join(["13917246058"] * (size // 12)) + "]"
    found = [Finding(at, at + 11, "PHONE") for at in range(1, len(text) - 11, 12)]
    return lambda: Vault().mask(text, found, in_json=True)


def _restored_in_pieces(size: int) -> Stage:
    vault = Vault()
    placeholder = vault.placeholder("EMAIL", "a\nb")
    text = '{"a": "' + f"{placeholder} " * (size // 10) + '"}'

    def work() -> None:
        restorer = Restorer(vault)
        for at in range(0, len(text), 64):
            restorer.feed(text[at : at + 64])

    return work


def _findings(size: int) -> Stage:
    guard = Guard(Policy(), [])
    found = [Finding(at, at + 12, ("EMAIL", "SECRET", "PERSON")[at % 3]) for at in range(0, size, 8)]
    return lambda: guard.spans(found)


def _occurrences(size: int) -> Stage:
    everywhere = Occurrences({f"value{i}": "X" for i in range(2000)})
    text = "value7 value value1999 " * (size // 23)
    return lambda: everywhere.find(text)


def _guarded_text(size: int) -> Stage:
    text = "call 4111 1111 1111 1111 or 你好。" * (size // 30)

    def work() -> None:
        guard = StreamGuard(pieces.find, on_plain(pieces.open_from), action=lambda _: "mask")
        for at in range(0, len(text), 1000):
            guard.feed(text[at : at + 1000])

    return work


def _answer(size: int) -> Stage:
    body = json.dumps({"choices": [{"index": i, "message": {"content": "hi"}} for i in range(size // 50)]}).encode()
    return lambda: guard_answer(body, lambda _: Plain())


def _answer_of_keys(size: int) -> Stage:
    body = json.dumps({"choices": [], "extra": {f"key {i}": 1 for i in range(size // 16)}}).encode()
    return lambda: guard_answer(body, lambda _: Plain())


def _events(size: int, step: int = 4096) -> Stage:
    event = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"hi"}}]}\n\n'
    stream = event * (size // len(event))

    def work() -> None:
        guarded, joiner = GuardedStream(guarding("mask")), StreamJoiner(len(stream))
        for at in range(0, len(stream), step):
            guarded.feed(stream[at : at + step], end=False)
            joiner.feed(stream[at : at + step])
        joiner.finish()

    return work


def _events_of_calls(size: int) -> Stage:
    events = b"".join(
        b'data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":%d,"function":{"arguments":"{"}}]}}]}\n\n'
        % (i % 200)
        for i in range(size // 100)
    )
    return lambda: GuardedStream(lambda _: Plain()).feed(events, end=True)


def _kept(size: int) -> Stage:
    choice: Any = {"index": 0, "message": {"role": "assistant", "content": "x" * size}, "finish_reason": "stop"}
    answer = json.dumps({"object": "chat.completion", "choices": [choice]}).encode()
    return lambda: (
        to_events(answer, include_usage=True),
        keepable(answer),
        cache_key(answer, target="t", operation="o"),
    )


@pytest.mark.parametrize(
    "stage",
    [
        *(_keys, _doubled_key, _unknown_keys, _nested, _numbers, _escapes, _backslashes, _masks, _bare_masks),
        *(_restored_in_pieces, _findings, _occurrences, _guarded_text, _answer, _answer_of_keys, _events),
        *(_events_of_calls, _kept),
    ],
)
@pytest.mark.parametrize("size", SIZES)
def test_work_grows_with_the_input(stage: Callable[[int], Stage], size: int) -> None:
    """In CPU time of this process, the best of several tries, so that neighbours on the machine do not count."""
    small, large = stage(size), stage(2 * size)

    def cost(work: Stage) -> float:
        gc.disable()  # what the collector walks depends on everything else that is alive
        try:
            began = time.thread_time()
            work()
            return time.thread_time() - began
        finally:
            gc.enable()

    tries = [(cost(small), cost(large)) for _ in range(3)]
    for _ in range(5):
        least, most = (min(each) for each in zip(*tries, strict=True))
        if most < GROWTH * least + 0.005:
            return
        tries.append((cost(small), cost(large)))
    pytest.fail(f"{stage.__name__}: {least:.3f} s becomes {most:.3f} s")
