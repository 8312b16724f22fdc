"""The judge's question, and how little of its answer is believed."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.judge import LONGEST_REASON, LONGEST_TEXT, NonsenseError, Opinion, opinion, question


def answer(content: object) -> bytes:
    return json.dumps({"choices": [{"message": {"role": "assistant", "content": content}}]}).encode()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('{"result": "deny", "reason": "internal"}', Opinion(True, "internal")),
        ('{"result": "allow"}', Opinion(False)),
        ('```json\n{"result": "allow", "reason": ""}\n```', Opinion(False)),
        ('Sure!\n{"result": "deny", "reason": "a\\nb"}', Opinion(True, "a b")),
        ('{"note": 1} {"result": "deny", "reason": "x", "extra": 2}', Opinion(True, "x")),
        ('{"result":"deny","reason":"%s"}' % ("x" * 1000), Opinion(True, "x" * LONGEST_REASON)),
    ],
)
def test_an_opinion(content: str, expected: Opinion) -> None:
    assert opinion(answer(content)) == expected


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b'{"choices": []}',
        answer(None),
        answer("deny"),
        answer('{"result": "maybe"}'),
        answer('{"result": true}'),
        answer('{"result": "allow"} no wait {"result": "deny"}'),
        b"\xff\xfe",
    ],
)
def test_nonsense(body: bytes) -> None:
    with pytest.raises(NonsenseError):
        opinion(body)


@given(st.binary(max_size=200) | st.text(max_size=200).map(answer))
def test_any_answer_is_an_opinion_or_nonsense(body: bytes) -> None:
    try:
        found = opinion(body)
    except NonsenseError:
        return
    assert isinstance(found.denied, bool)


@pytest.mark.parametrize(
    ("text", "language", "chinese"),
    [("你好", "auto", True), ("hi", "auto", False), ("hi", "zh", True), ("你好", "en", False)],
)
def test_the_question_is_asked_in_a_language(text: str, language: str, chinese: bool) -> None:
    asked = json.loads(question(text, model="m", language=language, fence="F"))  # type: ignore[arg-type]
    assert asked["model"] == "m"
    assert asked["stream"] is False
    assert ("你负责" in asked["messages"][0]["content"]) is chinese
    assert asked["messages"][1]["content"] == f"F\n{text}\nF"


def test_a_long_text_is_shown_by_its_ends() -> None:
    asked = json.loads(question("a" * LONGEST_TEXT + "b" * LONGEST_TEXT, model="m", language="en", fence="F"))
    shown = asked["messages"][1]["content"]
    assert len(shown) < LONGEST_TEXT + 10
    assert "a" in shown
    assert "b" in shown


def test_a_text_that_no_encoding_can_carry_is_asked_about_all_the_same() -> None:
    assert b"?" in question("\ud800", model="m", language="en", fence="F")
