"""Events that are not parsed because they are like an earlier one give what parsing gives."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extproc.payload.guard.alike import AlikeEvents
from extproc.payload.guard.stream import GuardedStream
from tests.payload.guarding import call, chunk, delta, guarding
from tests.payload.streams import event


def feed(stream: GuardedStream, frames: list[bytes]) -> list[bytes]:
    return [*(stream.feed(frame, end=False) for frame in frames), stream.feed(b"", end=True)]


def parsing() -> GuardedStream:
    """A stream that learns nothing."""
    stream = GuardedStream(guarding("mask"), refusal="no")
    stream._alike._learnt = 99
    return stream


TEXTS = st.sampled_from(["a", "lice.l@", "example.com", " ", '"', "\\", "4111 1111", "é", "😀", "\n", ""])
EXTRAS: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {},
    optional={
        "obfuscation": st.sampled_from(["", "aB3", "x y", 'q"', "é", "alice.l@example.com"]),
        "sequence_number": st.sampled_from([0, 1, 22, -1, 1.5, "1", None, {"a": "b"}]),
        "id": st.sampled_from(["c-1", "c-2", "4111 1111 1111 1111"]),
        "usage": st.sampled_from([None, {"n": 1}, {"n": 2}, {"n": "alice.l@example.com"}]),
        "index": st.integers(0, 1),
        "choices": st.just([]),
    },
)
SHAPES = st.sampled_from(
    [
        lambda text: chunk(delta(0, content=text)),
        lambda text: chunk(delta(1, content=text)),
        lambda text: chunk(delta(0, tool_calls=call(0, text))),
        lambda text: chunk(delta(0, "stop", content=text)),
        lambda text: {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}},
        lambda text: {"type": "response.output_text.delta", "item_id": "i", "output_index": 0, "delta": text},
        lambda text: {"x": text},
    ]
)


@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(SHAPES, TEXTS, EXTRAS, st.booleans()), min_size=2, max_size=12))
def test_the_same_as_parsing(parts: list[tuple[Any, str, dict[str, Any], bool]]) -> None:
    frames = []
    for shape, text, extra, ascii_only in parts:
        data = json.dumps({**extra, **shape(text)}, ensure_ascii=ascii_only).encode()
        frames.append(b"data: " + data + b"\n\n")
    assert feed(GuardedStream(guarding("mask"), refusal="no"), frames) == feed(parsing(), frames)


def learnt(first: dict[str, Any]) -> AlikeEvents:
    stream = GuardedStream(guarding("mask"))
    stream.feed(event(first), end=False)
    return stream._alike


def test_what_may_differ() -> None:
    known = learnt(chunk(delta(0, content="x"), obfuscation="ab"))
    found = known.read(event(chunk(delta(0, content='y"\n'), obfuscation="other") | {"created": 9}))
    assert found is not None and found.text == 'y"\n'


@pytest.mark.parametrize(
    "other",
    [
        chunk(delta(1, content="x"), obfuscation="ab"),
        chunk(delta(0, "stop", content="x"), obfuscation="ab"),
        chunk(delta(0, reasoning_content="x"), obfuscation="ab"),
        chunk(delta(0, content="x"), obfuscation="two words"),
        chunk(delta(0, content=None), obfuscation="ab"),
        chunk(delta(0, content="x"), delta(0, content="x"), obfuscation="ab"),
        chunk(delta(0, content="x"), obfuscation="ab", more="x"),
    ],
)
def test_what_has_to_be_parsed(other: dict[str, Any]) -> None:
    assert learnt(chunk(delta(0, content="x"), obfuscation="ab")).read(event(other)) is None


def test_text_that_is_no_json_string_is_parsed() -> None:
    raw = event(chunk(delta(0, content="x")))
    known = learnt(chunk(delta(0, content="x")))
    for text in (b'"\n"', b'"\xff"', b'"\\ud83d"', b'"\\x"', b'"a" '):
        found = known.read(raw.replace(b'"x"', text))
        assert found is None, text


def test_few_shapes_are_learnt() -> None:
    stream = GuardedStream(guarding("mask"))
    for index in range(40):
        stream.feed(event(chunk(delta(index, content="x"))), end=False)
    assert len(stream._alike._known) == 8
