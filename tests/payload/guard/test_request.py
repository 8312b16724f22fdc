"""The texts of a request: found wherever a model will read them, and written back in place."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.payload.document import Document
from extproc.payload.errors import PayloadError
from extproc.payload.guard.request import MOST_PASSAGES, PassageKind, Path, passages, with_texts


def found(body: dict[str, Any]) -> list[tuple[str, PassageKind]]:
    return [(each.text, each.kind) for each in passages(Document.parse(json.dumps(body).encode())).passages]


def test_a_chat_with_every_role() -> None:
    body = {
        "model": "m",
        "messages": [
            {"role": "system", "content": "be kind"},
            {"role": "user", "content": "first"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "c1", "function": {"name": "f", "arguments": "{}"}}],
            },
            {"role": "tool", "tool_call_id": "c1", "content": "result"},
            {"role": "user", "content": [{"type": "text", "text": "second"}]},
        ],
        "tools": [{"type": "function", "function": {"name": "f", "description": "does"}}],
    }
    assert found(body) == [
        ("be kind", PassageKind.SYSTEM),
        ("first", PassageKind.USER),
        ("f", PassageKind.TOOL),
        ("{}", PassageKind.TOOL),
        ("result", PassageKind.TOOL),
        ("second", PassageKind.LAST_USER),
        ("f", PassageKind.TOOL),
        ("does", PassageKind.TOOL),
    ]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"prompt": "p", "suffix": "s"}, [("p", PassageKind.LAST_USER), ("s", PassageKind.LAST_USER)]),
        ({"prompt": ["a", "b"]}, [("a", PassageKind.LAST_USER), ("b", PassageKind.LAST_USER)]),
        ({"input": "x", "instructions": "i"}, [("x", PassageKind.LAST_USER), ("i", PassageKind.SYSTEM)]),
        (
            {"input": [{"role": "user", "content": [{"type": "input_text", "text": "t"}]}]},
            [("t", PassageKind.LAST_USER)],
        ),
        ({"input": [{"type": "function_call_output", "call_id": "c", "output": "o"}]}, [("o", PassageKind.TOOL)]),
        (
            {"system": [{"type": "text", "text": "s"}], "messages": [{"role": "user", "content": "u"}]},
            [("s", PassageKind.SYSTEM), ("u", PassageKind.LAST_USER)],
        ),
        ({"documents": [{"body": "unknown place"}]}, [("unknown place", PassageKind.LAST_USER)]),
        (
            {"messages": [{"role": "user", "content": "u", "name": "Ann"}]},
            [("u", PassageKind.LAST_USER), ("Ann", PassageKind.LAST_USER)],
        ),
        ({"model": "m", "temperature": 1, "stream": True}, []),
    ],
)
def test_places(body: dict[str, Any], expected: list[tuple[str, PassageKind]]) -> None:
    assert found(body) == expected


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:x"}}]}]},
        {"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "x"}}]}]},
        {"prompt": [1, 2, 3]},
        {"prompt": [[1, 2], [3]]},
        {"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "base64", "data": "x"}}]}]},
    ],
)
def test_media_are_noticed_and_not_read(body: dict[str, Any]) -> None:
    result = passages(Document.parse(json.dumps(body).encode()))
    assert result.media
    assert not result.passages


def test_too_many_texts_are_refused() -> None:
    body = json.dumps({"prompt": ["x"] * (MOST_PASSAGES + 1)}).encode()
    with pytest.raises(PayloadError, match="more than"):
        passages(Document.parse(body))


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"messages":[{"role":"user","content":"secret","content":"hi"}]}', "duplicate_key"),
        (b'{"messages":[{"role":"user","content":[{"type":"text","text":"a","text":"b"}]}]}', "duplicate_key"),
        (b'{"messages":[{"role":"user","content":"\\ud800"}]}', "invalid_json"),
    ],
)
def test_what_two_readers_may_read_differently_is_refused(body: bytes, code: str) -> None:
    with pytest.raises(PayloadError) as refused:
        passages(Document.parse(body))
    assert refused.value.code == code


def test_only_the_named_text_changes() -> None:
    body = b'{ "messages": [ {"role":"user", "content" : "a\\u0041", "n": 1.50e2},'
    body += b' {"content": ["x", {"text":"y"}]} ], "z":1 }'
    changed = with_texts(
        Document.parse(body), {("messages", 0, "content"): "new", ("messages", 1, "content", 1, "text"): "ü"}
    )
    assert changed == body.replace(b'"a\\u0041"', b'"new"').replace(b'"y"', '"ü"'.encode())


_leaves = st.text() | st.none() | st.booleans() | st.integers(-(2**53), 2**53)
_values = st.recursive(
    _leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.sampled_from(["messages", "input", "prompt", "tools", "system", "extra"]), _values))
def test_any_body_can_be_rewritten(body: dict[str, Any]) -> None:
    raw = json.dumps(body).encode()
    result = passages(Document.parse(raw))
    changes: dict[Path, str] = {each.path: each.text + "!" for each in result.passages}
    after = json.loads(with_texts(Document.parse(raw), changes)) if changes else json.loads(raw)
    for each in result.passages:
        value = after
        for step in each.path:
            value = value[step]
        assert value == each.text + "!"
