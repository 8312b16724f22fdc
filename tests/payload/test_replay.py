"""Answers in their other form."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.payload.replay import to_events, to_json
from extproc.payload.stream_usage import StreamUsage
from extproc.payload.usage import Usage, usage_from_json

CALL = {"id": "call_1", "type": "function", "function": {"name": "get", "arguments": '{"q":"北京"}'}}
USAGE = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12, "prompt_tokens_details": {"cached_tokens": 3}}


def whole(*messages: dict[str, Any], finish: str = "stop", **more: Any) -> dict[str, Any]:
    choices = [
        {"index": index, "message": {"role": "assistant", "content": None, **message}, "finish_reason": finish}
        for index, message in enumerate(messages)
    ]
    facts = {"id": "c1", "object": "chat.completion", "created": 17, "model": "m", "system_fingerprint": "fp"}
    return {**facts, "choices": choices, "usage": USAGE, **more}


def there_and_back(answer: dict[str, Any]) -> Any:
    stream = to_events(msgspec.json.encode(answer), include_usage=True)
    assert stream is not None
    back = to_json(stream)
    assert back is not None
    return msgspec.json.decode(back)


@pytest.mark.parametrize(
    "answer",
    [
        whole({"content": "hello"}),
        whole({"content": ""}),
        whole({"content": "你好，" * 100}),
        whole({"content": "a"}, {"content": "b"}),
        whole({"content": None, "tool_calls": [CALL, {**CALL, "id": "call_2"}]}, finish="tool_calls"),
        whole({"content": "four", "reasoning_content": "2+2"}),
        whole({"content": None, "refusal": "no"}),
        {
            **whole(),
            "object": "text_completion",
            "choices": [{"index": 0, "text": "abc" * 50, "finish_reason": "length"}],
        },
    ],
)
def test_there_and_back_is_the_same(answer: dict[str, Any]) -> None:
    assert there_and_back(answer) == answer


def test_a_replayed_stream_looks_like_one() -> None:
    stream = to_events(msgspec.json.encode(whole({"content": "x" * 130})), include_usage=True)
    assert stream is not None
    frames = stream.split(b"\n\n")
    assert frames.pop() == b""
    assert frames.pop() == b"data: [DONE]"
    chunks = [msgspec.json.decode(frame.removeprefix(b"data: ")) for frame in frames]
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert [len(chunk["choices"][0]["delta"]["content"]) for chunk in chunks[1:4]] == [64, 64, 2]
    assert chunks[4]["choices"][0] == {"index": 0, "delta": {}, "finish_reason": "stop"}
    assert [chunk["usage"] for chunk in chunks] == [None] * 5 + [USAGE]
    assert chunks[5]["choices"] == []


def test_usage_is_exact_and_only_there_where_asked_for() -> None:
    answer = msgspec.json.encode(whole({"content": "hello"}))
    for include in (True, False):
        stream = to_events(answer, include_usage=include)
        assert stream is not None
        seen = StreamUsage()
        seen.feed(stream)
        seen.finish()
        assert seen.usage == (Usage(7, 5, 3) if include else None)
        assert (b'"usage"' in stream) is include
    back = to_json(to_events(answer, include_usage=True) or b"")
    assert usage_from_json(back or b"") == Usage(7, 5, 3)


def event(text: str) -> bytes:
    return b"data: " + text.encode() + b"\r\n\r\n"


def test_a_provider_s_stream_becomes_an_answer() -> None:
    stream = b": ping\n\n" + b"".join(
        event(text)
        for text in (
            '{"id":"1","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}',
            '{"id":"1","choices":[{"index":0,"delta":{"content":"Hi "},"logprobs":{"content":[1]}}],"usage":null}',
            '{"id":"1","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"c","type":"function",'
            '"function":{"name":"f","arguments":""}}]}}]}',
            '{"id":"1","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{}"}}]}}]}',
            '{"id":"1","choices":[{"index":0,"delta":{},"finish_reason":"tool_calls","logprobs":{"content":[2]}}]}',
            '{"id":"1","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}',
            "[DONE]",
        )
    )
    back = to_json(stream)
    assert back is not None
    answer = msgspec.json.decode(back)
    (choice,) = answer["choices"]
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    assert choice["message"] == {"role": "assistant", "content": "Hi ", "tool_calls": [call]}
    assert (choice["finish_reason"], choice["logprobs"]) == ("tool_calls", {"content": [1, 2]})
    assert (answer["object"], answer["usage"]) == ("chat.completion", {"prompt_tokens": 1, "completion_tokens": 2})


@pytest.mark.parametrize(
    "stream",
    [
        b"",
        b"data: [DONE]\n\n",
        event('{"choices":[{"delta":{"content":"x"},"finish_reason":"stop"}]}'),
        event('{"choices":[{"delta":{"content":"x"}}]}') + event("[DONE]"),
        event('{"error":{"message":"x"}}') + event("[DONE]"),
        event('{"choices":[{"delta":{"content":5},"finish_reason":"stop"}]}') + event("[DONE]"),
        event('{"choices":[{"index":-1,"delta":{},"finish_reason":"stop"}]}') + event("[DONE]"),
        event('{"object":"response","choices":[{"delta":{},"finish_reason":"stop"}]}') + event("[DONE]"),
        event("not json") + event("[DONE]"),
        event("[1]") + event("[DONE]"),
    ],
)
def test_what_is_not_whole_or_not_understood_is_no_answer(stream: bytes) -> None:
    assert to_json(stream) is None


@pytest.mark.parametrize(
    "answer", [b"", b"[]", b"{}", b'{"choices":5}', b'{"choices":[5]}', b'{"object":"list","choices":[]}']
)
def test_what_is_no_completion_has_no_events(answer: bytes) -> None:
    assert to_events(answer, include_usage=True) is None


KEYS = ["index", "delta", "message", "content", "function", "tool_calls", "text", "logprobs", "arguments", "role"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)
CHOICE = st.fixed_dictionaries({}, optional=dict.fromkeys(KEYS, JSON)) | JSON
OBJECT = st.sampled_from(["chat.completion", "text_completion", "chat.completion.chunk"])
CHUNK = st.fixed_dictionaries({"choices": st.lists(CHOICE, max_size=2), "object": OBJECT})


@given(st.lists(CHUNK, max_size=4), st.binary(max_size=20))
def test_nothing_that_a_provider_sends_raises(chunks: list[dict[str, Any]], junk: bytes) -> None:
    stream = b"".join(b"data: " + msgspec.json.encode(chunk) + b"\n\n" for chunk in chunks)
    to_json(stream + b"data: [DONE]\n\n")
    to_json(stream + junk)
    for chunk in chunks:
        to_events(msgspec.json.encode(chunk), include_usage=True)
    to_events(junk, include_usage=False)


@given(st.text(max_size=300), st.lists(st.text(max_size=80), max_size=3))
def test_any_text_survives(text: str, arguments: list[str]) -> None:
    calls = [
        {"id": str(i), "type": "function", "function": {"name": "f", "arguments": a}} for i, a in enumerate(arguments)
    ]
    message: dict[str, Any] = {"content": text} | ({"tool_calls": calls} if calls else {})
    try:
        answer = msgspec.json.decode(msgspec.json.encode(whole(message)))
    except (UnicodeEncodeError, msgspec.DecodeError):
        return
    assert there_and_back(answer) == answer
