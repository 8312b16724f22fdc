"""Required fields, system prompts and prompt sizes."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.payload.chat import (
    check_request,
    prompt_size,
    with_system_prompt,
    with_text_around,
)
from extproc.payload.document import Document
from extproc.payload.errors import PayloadError
from extproc.payload.operations.openai import CHAT, COMPLETIONS, EMBEDDINGS, MODELS, RESPONSES
from extproc.payload.operations.operation import Operation
from extproc.payload.operations.others import MESSAGES
from extproc.payload.operations.table import OTHER
from tests.payload import streams


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "user", "content": "x"}],
        [{"role": "user", "content": [{"type": "text"}]}, {"role": "assistant", "content": None, "tool_calls": []}],
        [{"role": "assistant"}],
    ],
)
def test_good_chat_requests_pass(messages: list[Any]) -> None:
    check_request(CHAT, Document.parse(json.dumps({"messages": messages}).encode()))


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({}, "missing_field", "messages"),
        ({"messages": []}, "missing_field", "messages"),
        ({"messages": None}, "wrong_type", "messages"),
        ({"messages": "x"}, "wrong_type", "messages"),
        ({"messages": {"role": "user"}}, "wrong_type", "messages"),
        ({"messages": [{"role": "user"}, 3]}, "wrong_type", "messages[1]"),
        ({"messages": [{"role": "user"}, {"content": "x"}]}, "missing_field", "messages[1].role"),
        ({"messages": [{"role": "u"}, {"role": "u"}, {"role": 1}]}, "wrong_type", "messages[2].role"),
        ({"messages": [{"role": "user", "content": 5}]}, "wrong_type", "messages[0].content"),
        ({"messages": [{"role": "user", "content": {}}]}, "wrong_type", "messages[0].content"),
    ],
)
def test_bad_chat_requests_name_the_field(body: dict[str, Any], code: str, param: str) -> None:
    with pytest.raises(PayloadError) as caught:
        check_request(CHAT, Document.parse(json.dumps(body).encode()))
    assert (caught.value.code, caught.value.param) == (code, param)
    assert param in str(caught.value)


@pytest.mark.parametrize(
    ("operation", "key"),
    [(COMPLETIONS, "prompt"), (EMBEDDINGS, "input"), (RESPONSES, "input")],
)
def test_other_operations_need_their_input(operation: Operation, key: str) -> None:
    check_request(operation, Document.parse(b'{"%s":"x"}' % key.encode()))
    for body in (b"{}", b'{"%s":null}' % key.encode()):
        with pytest.raises(PayloadError) as caught:
            check_request(operation, Document.parse(body))
        assert (caught.value.code, caught.value.param) == ("missing_field", key)


@pytest.mark.parametrize("field", ["prompt", "previous_response_id", "conversation"])
def test_a_response_may_build_on_what_is_stored(field: str) -> None:
    check_request(RESPONSES, Document.parse(b'{"%s":"x"}' % field.encode()))


@pytest.mark.parametrize("operation", [MESSAGES, MODELS, OTHER])
def test_the_rest_is_not_checked(operation: Operation) -> None:
    check_request(operation, Document.parse(b"{}"))


@pytest.mark.parametrize(
    ("raw", "edited"),
    [
        (b"[]", b'[{"role":"system","content":"P\\n\\nA"}]'),
        (b'[ {"role":"user"}]', b'[ {"role":"system","content":"P\\n\\nA"},{"role":"user"}]'),
        (
            b'[{"role":"user" } ,\n{"x":1e400,"content":"\\u0041\\/", "role":"developer"} ]',
            b'[{"role":"user" } ,\n{"x":1e400,"content":"P\\n\\n\\u0041\\/\\n\\nA", "role":"developer"} ]',
        ),
        (b'[{"role":"system","content":""}]', b'[{"role":"system","content":"P\\n\\nA"}]'),
        (b'[{"role":"system","content":null}]', b'[{"role":"system","content":"P\\n\\nA"}]'),
        (b'[{"role":"system"}]', b'[{"role":"system","content":"P\\n\\nA"}]'),
        (
            b'[{"role":"system","content":[ {"type":"text","text":"\\u0041"}]}]',
            b'[{"role":"system","content":[{"type":"text","text":"P"}, {"type":"text","text":"\\u0041"},'
            b'{"type":"text","text":"A"}]}]',
        ),
        (
            b'[{"role":"system","content":[ ]},{"role":"system","content":"2"}]',
            b'[{"role":"system","content":[{"type":"text","text":"P"},{"type":"text","text":"A"}]},'
            b'{"role":"system","content":"2"}]',
        ),
    ],
)
def test_system_prompt(raw: bytes, edited: bytes) -> None:
    assert with_system_prompt(raw, "P", "A") == edited


def test_system_prompt_one_sided_or_absent() -> None:
    raw = b'[{"role":"system","content":"x"}]'
    assert with_system_prompt(raw, None, None) is raw
    assert with_system_prompt(raw, "", "") is raw
    assert with_system_prompt(raw, 'é"', None) == '[{"role":"system","content":"é\\"\\n\\nx"}]'.encode()
    assert with_system_prompt(raw, None, "A") == b'[{"role":"system","content":"x\\n\\nA"}]'
    assert with_text_around(b'"x"', "P", None) == b'"P\\n\\nx"'


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"{}", "wrong_type"),
        (b"[1]", "wrong_type"),
        (b"[{}]", "missing_field"),
        (b'[{"role":"system","content":3}]', "wrong_type"),
        (b'[{"role":"system","role":"system"}]', "duplicate_key"),
        (b"[", "invalid_json"),
    ],
)
def test_system_prompt_refuses_what_it_cannot_edit(raw: bytes, code: str) -> None:
    with pytest.raises(PayloadError) as caught:
        with_system_prompt(raw, "P", None)
    assert caught.value.code == code


@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "role": st.sampled_from(["user", "system", "developer"]),
                "content": st.none() | st.text(streams.LETTERS, max_size=8),
            }
        ),
        max_size=5,
    ),
    st.sampled_from([None, 0, 1]),
)
def test_system_prompt_changes_one_message_only(messages: list[dict[str, Any]], indent: int | None) -> None:
    edited = json.loads(with_system_prompt(json.dumps(messages, indent=indent).encode(), "P", None))
    first = next((i for i, m in enumerate(messages) if m["role"] != "user"), None)
    if first is None:
        assert edited == [{"role": "system", "content": "P"}, *messages]
        return
    content = messages[first]["content"]
    expected = messages[first] | {"content": f"P\n\n{content}" if content else "P"}
    assert edited == [*messages[:first], expected, *messages[first + 1 :]]


def chat(*parts: Any) -> Document:
    return Document.parse(json.dumps({"messages": [{"role": "user", "content": list(parts)}]}).encode())


def test_prompt_size_counts_what_is_tokenised() -> None:
    document = Document.parse(b'{"model":"mmmmmmmm","messages":[1,2],"tools":["abc"],"temperature":1}')
    assert prompt_size(CHAT, document) == len('[1,2]["abc"]')
    assert prompt_size(COMPLETIONS, Document.parse(b'{"prompt":"abc"}')) == 5
    assert prompt_size(MODELS, document) == 0


def test_prompt_size_leaves_media_out() -> None:
    media = "A" * 5000
    url = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{media}"}}
    audio = {"type": "input_audio", "input_audio": {"data": media, "format": "wav"}}
    for parts in ([url], [audio], [url, audio, url]):
        size = prompt_size(CHAT, chat(*parts))
        assert size < 120 * len(parts)


def test_prompt_size_counts_text_that_only_mentions_data() -> None:
    words = {"type": "text", "text": '"data: ' + "word " * 200}
    fake = {"type": "text", "text": "data:" + "word " * 200}
    short = {"type": "text", "data": "A" * 100, "database": 1, "datax:": '"data"'}
    for part in (words, fake, short):
        document = chat(part, {"type": "text", "text": "x" * 300})
        assert prompt_size(CHAT, document) == len(document.get("messages") or b"")
