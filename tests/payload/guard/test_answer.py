"""Guarded JSON answers: every text is filtered, a refusal keeps the shape."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from detectors.masking import Vault
from extproc.payload.guard.answer import GuardedAnswer, guard_answer
from extproc.payload.guard.fields import TextChannel, TextFilter
from extproc.payload.guard.schema import ANSWER
from extproc.payload.operations.operation import Dialect
from tests.detectors.pieces import CARD, EMAIL
from tests.payload.guarding import Plain, guarding
from tests.payload.streams import LETTERS

USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}


def chat(*messages: dict[str, Any], **more: Any) -> dict[str, Any]:
    choices = [{"index": n, "message": m, "finish_reason": "stop"} for n, m in enumerate(messages)]
    return {
        "id": "c",
        "object": "chat.completion",
        "created": 5,
        "model": "m",
        "choices": choices,
        "usage": USAGE,
        **more,
    }


def mask(body: Any, vault: Vault | None = None) -> Any:
    answer = guard_answer(json.dumps(body).encode(), guarding("mask", vault))
    assert not answer.denied
    return json.loads(answer.body)


def deny(body: Any, dialect: Dialect = Dialect.CHAT) -> Any:
    answer = guard_answer(json.dumps(body).encode(), guarding("deny"), refusal="no", dialect=dialect)
    assert answer.denied and b"alice" not in answer.body
    return json.loads(answer.body)


@pytest.mark.parametrize("indent", [None, 1])
def test_an_answer_that_is_clean_stays_as_it_is(indent: int | None) -> None:
    body = json.dumps(chat({"role": "assistant", "content": "é 1"}, x=[1.50, None, {"a": "b"}]), indent=indent).encode()
    assert guard_answer(body, guarding("deny")) == GuardedAnswer(body, denied=False)


def test_every_text_is_filtered() -> None:
    source = json.dumps({"to": EMAIL})
    calls = [{"id": CARD.replace(" ", ""), "function": {"name": "f", "arguments": source}}]
    parts = [{"type": "text", "text": EMAIL}, {"type": "refusal", "refusal": f"x {EMAIL}"}]
    body = chat(
        {
            "content": f"to {EMAIL}",
            "tool_calls": calls,
            "reasoning_content": EMAIL,
            "annotations": [{"t": {"u": EMAIL}}],
        },
        {"content": parts},
        extra={EMAIL[:5]: EMAIL},
    )
    masked = json.dumps(body).replace(EMAIL, "[EMAIL]").replace(CARD.replace(" ", ""), "[BANK_CARD]")
    assert json.dumps(mask(body)) == masked


def test_arguments_that_are_no_string_are_filtered_as_source() -> None:
    body = {
        "type": "message",
        "content": [{"type": "tool_use", "name": "f", "input": {"to": EMAIL, "n": 4111111111111111}}],
    }
    assert mask(body)["content"][0]["input"] == {"to": "[EMAIL]", "n": "[BANK_CARD]"}
    vault = Vault()
    vault.placeholder("PERSON", 'a"b')
    body["content"][0]["input"] = {"to": "<PERSON_1>"}  # type: ignore[index]
    assert mask(body, vault)["content"][0]["input"] == {"to": 'a"b'}


def test_the_channels_say_what_a_text_is() -> None:
    seen: list[TextChannel] = []

    def watch(channel: TextChannel) -> TextFilter:
        seen.append(channel)
        return Plain()

    call = {"id": "x", "function": {"name": "f", "arguments": "{}"}}
    guard_answer(json.dumps(chat({"content": "a"}, {"reasoning": "b", "tool_calls": [call]})).encode(), watch)
    response = {"object": "response", "instructions": "i", "output": [{"content": [{"text": "t"}]}], "other": "o"}
    guard_answer(json.dumps(response).encode(), watch)
    kinds = [(channel.kind, channel.choice) for channel in seen]
    assert kinds == [
        *(("content", 0), ("reasoning", 1), ("other", 1), ("arguments", 1)),
        *(("echo", 0), ("content", 0), ("other", 0)),
    ]


def test_log_probabilities_are_taken_out() -> None:
    body = chat({"content": "x"})
    body["choices"][0]["logprobs"] = {"content": [{"token": "x", "bytes": [1]}]}
    assert mask(body)["choices"][0]["logprobs"] is None


def test_a_denied_chat_answer_keeps_its_shape() -> None:
    got = deny(chat({"content": "fine"}, {"content": EMAIL}, system_fingerprint="f", extra=EMAIL))
    message = {"role": "assistant", "content": "no", "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "content_filter"}
    head = {"id": "c", "object": "chat.completion", "created": 5, "model": "m", "system_fingerprint": "f"}
    assert got == {**head, "choices": [choice], "usage": USAGE}


def test_other_shapes_of_refusal() -> None:
    legacy = deny({"object": "text_completion", "id": "x", "choices": [{"index": 0, "text": EMAIL}]})
    assert legacy["choices"] == [{"index": 0, "text": "no", "logprobs": None, "finish_reason": "content_filter"}]
    response = deny({"object": "response", "id": "r", "output": [{"content": [{"text": EMAIL}]}], "usage": {"a": "b"}})
    assert response["incomplete_details"] == {"reason": "content_filter"} and "usage" not in response
    assert response["output"][0]["content"][0]["text"] == "no"
    message = deny({"type": "message", "content": [{"type": "text", "text": EMAIL}]})
    assert message["content"] == [{"type": "text", "text": "no"}] and message["stop_reason"] == "refusal"
    assert deny({"say": EMAIL}, Dialect.OTHER)["error"]["code"] == "content_filter"
    assert deny(chat({"content": EMAIL}) | {"id": f"x {EMAIL}", "usage": {"a": EMAIL}}).keys() == {
        "object",
        "created",
        "model",
        "choices",
    }


@pytest.mark.parametrize("body", [b"", b"x", b"[]", b'{"a":1,"a":2}', b'{"x":{"a":1,"a":2}}', b'{"a":"\xff"}'])
def test_what_cannot_be_read_is_refused(body: bytes) -> None:
    answer = guard_answer(body, guarding("mask"), refusal="no")
    assert answer.denied and json.loads(answer.body)["choices"][0]["finish_reason"] == "content_filter"


NUMBER = 4111111111111111
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from([EMAIL, f"to {EMAIL}", str(NUMBER), NUMBER, "x"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(LETTERS, max_size=4) | st.sampled_from([EMAIL, str(NUMBER)]), inner, max_size=3)
        | inner.map(json.dumps)
    ),
    max_leaves=12,
)
FIELDS = sorted({*ANSWER.fields, *ANSWER.fields["choices"].items.fields, *ANSWER.fields["message"].fields, EMAIL})  # type: ignore[union-attr]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=4), st.booleans(), st.sampled_from([None, 2]))
def test_a_value_in_any_field_of_any_answer_is_found(
    body: dict[str, Any], ascii_only: bool, indent: int | None
) -> None:
    for whole in (body, {"choices": [{"message": body}]}, {"choices": [body]}, {"output": [{"content": [body]}]}):
        source = json.dumps(whole, ensure_ascii=ascii_only, indent=indent).encode()
        answer = guard_answer(source, guarding("mask"))
        assert not answer.denied
        assert EMAIL.encode() not in answer.body and str(NUMBER).encode() not in answer.body
        assert json.loads(answer.body) or not body
