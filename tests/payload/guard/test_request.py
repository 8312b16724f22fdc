"""The texts of a request: found wherever a model will read them, and written back in place."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.text import Text
from extproc.payload.document import Document
from extproc.payload.errors import PayloadError
from extproc.payload.guard.leaves import Path
from extproc.payload.guard.request import MOST_PASSAGES, PassageKind, passages, with_texts

BASE64 = "iVBORw0KGgo" * 20
PHONE, EMAIL, ID_CARD, CARD = "13917246058", "lixiang88@corp-labs.cn", "11010519491231002X", "6222021234567890128"


def found(body: dict[str, Any]) -> list[tuple[str, PassageKind]]:
    return [(each.text, each.kind) for each in passages(Document.parse(json.dumps(body).encode())).passages]


def changed_at(body: bytes, changes: dict[Path, str]) -> bytes:
    document = Document.parse(body)
    result = passages(document)
    return with_texts(
        document, result, {each.place: changes[each.path] for each in result.passages if each.path in changes}
    )


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
        ("m", PassageKind.SETTING),
        ("be kind", PassageKind.SYSTEM),
        ("first", PassageKind.USER),
        ("f", PassageKind.TOOL),
        ("{}", PassageKind.TOOL),
        ("result", PassageKind.TOOL),
        ("second", PassageKind.LAST_USER),
        ('[{"type": "function", "function": {"name": "f", "description": "does"}}]', PassageKind.TOOL),
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
        (
            {"documents": [{"body": "unknown place"}]},
            [("documents", PassageKind.SETTING), ('[{"body": "unknown place"}]', PassageKind.LAST_USER)],
        ),
        (
            {"messages": [{"role": "user", "content": "u", "name": "Ann"}]},
            [("u", PassageKind.LAST_USER), ("Ann", PassageKind.LAST_USER)],
        ),
        ({"model": "m", "temperature": 1, "stream": True}, [("m", PassageKind.SETTING)]),
    ],
)
def test_places(body: dict[str, Any], expected: list[tuple[str, PassageKind]]) -> None:
    assert found(body) == expected


@pytest.mark.parametrize(
    "body",
    [
        {
            "messages": [
                {
                    "role": "user",
                    "content": [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{BASE64}"}}],
                }
            ]
        },
        {"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": BASE64}}]}]},
        {"prompt": [1, 2, 3]},
        {"prompt": [[1, 2], [3]]},
        {"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "base64", "data": BASE64}}]}]},
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
    changed = changed_at(body, {("messages", 0, "content"): "new", ("messages", 1, "content", 1, "text"): "ü"})
    assert changed == body.replace(b'"a\\u0041"', b'"new"').replace(b'"y"', '"ü"'.encode())


_leaves = st.text() | st.none() | st.booleans() | st.integers(-(2**53), 2**53)
_values = st.recursive(
    _leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.sampled_from(["messages", "input", "prompt", "tools", "system", "extra"]), _values))
def test_any_body_can_be_rewritten(body: dict[str, Any]) -> None:
    document = Document.parse(json.dumps(body).encode())
    result = passages(document)
    changes = {each.place: json.dumps(each.text) if each.source else each.text + "!" for each in result.passages}
    for each in result.passages:  # a string that holds JSON may become any string
        assert json.loads(with_texts(document, result, {each.place: changes[each.place]})) != body
    assert json.loads(with_texts(document, result, {})) == body


SHAPES: list[Any] = [
    lambda v: {"messages": [{"role": "user", "content": [[v]]}]},
    lambda v: {"prompt": [[v]]},
    lambda v: {"input": [[v]]},
    lambda v: {"input": {"text": v}},
    lambda v: {"system": [[v]], "messages": []},
    lambda v: {"messages": [{"role": v, "content": ""}]},
    lambda v: {"messages": [{"role": "user", "id": v, "type": v, "status": v}]},
    lambda v: {"messages": [{"role": "user", "content": [{"type": v}]}]},
    lambda v: {
        "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "", "detail": v}}]}]
    },
    lambda v: {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": v}}]}]},
    lambda v: {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": v}]}]},
    lambda v: {"messages": [{"content": [{"type": "image", "source": {"type": v, "media_type": v, "data": v}}]}]},
    lambda v: {"messages": [{"content": [{"type": "tool_use", "id": v, "name": v, "input": {"status": v, "id": v}}]}]},
    lambda v: {"messages": [{"content": [{"type": "tool_result", "tool_use_id": v, "content": [{"text": v}]}]}]},
    lambda v: {"messages": [{"tool_calls": [{"id": v, "type": v, "function": {"name": v, "arguments": v}}]}]},
    lambda v: {"messages": [{"tool_calls": [{"function": {"arguments": json.dumps({"note": "手机" + v})}}]}]},
    lambda v: {"messages": [{"role": "tool", "tool_call_id": v, "content": json.dumps({"a": json.dumps([v])})}]},
    lambda v: {"messages": [{"role": "user", v: {v: [v]}}]},
    lambda v: {"messages": [{"role": "user", "content": {v: v}}]},
    lambda v: {"contents": [{"role": "user", "parts": [{"functionCall": {"name": v, "args": {v: v}}}]}]},
    lambda v: {"contents": [{"parts": [{"inlineData": {"mimeType": v, "data": v}}]}], "systemInstruction": v},
    lambda v: {"input": [{"type": "function_call", "call_id": v, "name": v, "arguments": v, "status": v}]},
    lambda v: {
        "input": [{"type": "function_call_output", "call_id": v, "output": [{"type": "input_text", "text": v}]}]
    },
    lambda v: {"input": [{"type": "reasoning", "id": v, "summary": [{"type": "summary_text", "text": v}]}]},
    lambda v: {"tools": [{"function": {"name": v, "parameters": {"properties": {v: {"enum": [v]}}}}}]},
    lambda v: {"model": v, "service_tier": v, "user": v, "metadata": {v: v}, "stop": [v], "previous_response_id": v},
    lambda v: {"tool_choice": {"type": v, "function": {"name": v}}, "logit_bias": {v: 1}, "encoding_format": v},
    lambda v: {"response_format": {"json_schema": {"schema": {"properties": {v: {}}}}}, "reasoning_effort": v},
    lambda v: {"temperature": v, "stream": v, "stream_options": {"include_usage": v}, "thinking": {"type": v}},
    lambda v: {v: 1},
]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("value", [PHONE, EMAIL, ID_CARD, CARD])
def test_a_value_in_any_field_is_found(shape: Any, value: str) -> None:
    body = shape(value)
    document = Document.parse(json.dumps(body).encode())
    result = passages(document)
    changes = {each.place: each.text.replace(value, "<V>") for each in result.passages}
    after = json.loads(with_texts(document, result, changes))
    written = json.dumps(after, ensure_ascii=False)
    assert value not in written and written.count("<V>") == json.dumps(body).count(value)


@pytest.mark.parametrize("number", [13917246058, 6222021234567890128])
def test_numbers_are_text_where_nothing_says_otherwise(number: int) -> None:
    bodies = [
        {"messages": [{"content": [{"type": "tool_use", "input": {"card": number}}]}]},
        {"messages": [{"role": "user", "content": [number]}]},
        {"messages": [{"role": "user", "content": number}], "temperature": number, "seed": number, "user": number},
        {"prompt": [number, number]},
    ]
    for body in bodies:
        document = Document.parse(json.dumps(body).encode())
        result = passages(document)
        changes = {each.place: each.text.replace(str(number), '"<V>"') for each in result.passages if each.source}
        assert str(number) not in with_texts(document, result, changes).decode()


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [{"role": "user", "content": ""}], "temperature": 0.25, "max_tokens": 4096, "seed": 2147483647},
        {"messages": [{"role": "assistant", "tool_calls": [{"id": "call_abc123XYZ", "type": "function", "index": 0}]}]},
        {"messages": [{"role": "tool", "tool_call_id": "chatcmpl-tool-0123456789abcdef0123456789abcdef"}]},
        {"messages": [{"content": [{"type": "tool_use", "id": "toolu_01A09q90qw90lq917835lq9"}]}]},
        {"tool_choice": "auto", "stream_options": {"include_usage": True}, "encoding_format": "float"},
        {"previous_response_id": "resp_68a1b2c3d4e5f60718293a4b5c6d7e8f9012345678901234"},
        {"input": [{"type": "item_reference", "id": "0b5a3d4e-1f2a-4b3c-8d4e-5f6a7b8c9d0e"}]},
    ],
)
def test_what_the_schema_knows_is_left_unread(body: dict[str, Any]) -> None:
    assert found(body) == []


def _writings(value: Any) -> st.SearchStrategy[str]:
    """JSON of a value: any character may be escaped, space may stand anywhere, and it may be put into strings."""

    def write(value: Any, escapes: list[bool], space: str) -> str:
        turn = iter(escapes * 1000)
        if isinstance(value, dict):
            inner = [
                f"{write(key, escapes, space)}{space}:{space}{write(each, escapes, space)}"
                for key, each in value.items()
            ]
            return "{" + space + f"{space},{space}".join(inner) + "}"
        if isinstance(value, list):
            return "[" + f"{space},".join(write(each, escapes, space) for each in value) + space + "]"
        if isinstance(value, str):
            units = value.encode("utf-16-be")
            pairs = [f"\\u{units[i]:02x}{units[i + 1]:02X}" for i in range(0, len(units), 2)]
            plain = json.dumps(value, ensure_ascii=False)[1:-1]
            if len(pairs) == len(value) == len(plain):
                return (
                    '"' + "".join(pair if next(turn) else each for pair, each in zip(pairs, value, strict=True)) + '"'
                )
            return '"' + "".join(pairs) + '"' if next(turn) else json.dumps(value)
        return json.dumps(value)

    return st.builds(
        write, st.just(value), st.lists(st.booleans(), min_size=1, max_size=9), st.sampled_from(["", " ", "\n\t "])
    )


_NOTE = {"note": f"手机{PHONE} 邮箱{EMAIL}", "m": [int(PHONE)]}


@given(_writings(_NOTE).flatmap(lambda text: st.one_of(_writings(text), _writings({"in": text}).flatmap(_writings))))
def test_any_writing_of_a_value_gives_the_same_text(written: str) -> None:
    body = b'{"messages":[{"role":"tool","content":' + written.encode() + b"}]}"
    (passage,) = passages(Document.parse(body)).passages
    seen = Text(passage.text).plain
    assert passage.source
    assert f"手机{PHONE} 邮箱{EMAIL}" in seen and seen.count(PHONE) == 2
