r"""JSON as text: escapes are read at every depth, and what takes a value's place keeps the JSON whole."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.findings import Finding
from detectors.masking import Restorer, Vault
from detectors.source import Quoting
from detectors.stream import StreamGuard, on_plain
from detectors.text import Text

PHONE = re.compile(r"(?<![0-9A-Za-z])1[3-9]\d{9}(?![0-9A-Za-z])")


def find(text: str) -> list[Finding]:
    view = Text(text)
    return [Finding(*view.span(*found.span()), "PHONE") for found in PHONE.finditer(view.plain)]


def open_from(plain: str, since: int) -> int:
    tail = re.search(r"(?<![0-9A-Za-z])1[0-9]{0,11}\Z", plain)
    return len(plain) if tail is None else max(since, tail.start())


def written(value: Any, writing: str) -> str:
    """JSON of a value in one of several writings."""
    text = json.dumps(value, ensure_ascii=writing != "plain", indent=2 if writing == "wide" else None)
    if writing == "escaped":  # every letter and digit of strings as an escape
        parts = re.split(r'("(?:[^"\\]|\\.)*")', text)
        return "".join(
            '"' + "".join(f"\\u{ord(each):04x}" if ord(each) < 0x10000 else each for each in json.loads(part)) + '"'
            if part.startswith('"')
            else part
            for part in parts
        )
    return text


@pytest.mark.parametrize("depth", [0, 1, 2, 3])
@pytest.mark.parametrize("writing", ["plain", "ascii", "wide", "escaped"])
@pytest.mark.parametrize("value", [{"note": "手机13917246058"}, {"a": ["x", {"13917246058": 1}]}, {"m": 13917246058}])
def test_any_writing_at_any_depth_is_masked_and_restored(value: Any, writing: str, depth: int) -> None:
    source = written(value, writing)
    for _ in range(depth):
        source = written({"in": source}, "plain" if writing == "escaped" else writing)
    vault = Vault()
    masked = vault.mask(source, find(source), in_json=True)

    def said(text: str) -> Any:
        found = json.loads(text)
        for _ in range(depth):
            found = json.loads(found["in"])
        return found

    inside = json.dumps(said(masked), ensure_ascii=False)
    assert inside == json.dumps(value, ensure_ascii=False).replace(": 13917246058", ': "<PHONE_1>"').replace(
        "13917246058", "<PHONE_1>"
    )
    back = json.dumps(said(Restorer(vault, in_json=True).feed(masked, end=True)), ensure_ascii=False)
    assert back == json.dumps(value, ensure_ascii=False).replace(": 13917246058", ': "13917246058"')


@given(st.lists(st.integers(1, 9), min_size=1, max_size=40), st.integers(0, 3), st.booleans())
def test_a_value_with_a_line_break_is_escaped_where_it_is_restored(
    cuts: list[int], depth: int, ascii_only: bool
) -> None:
    vault = Vault()
    address = '1 "High" Street\n\\London\U0001f600'
    placeholder = vault.placeholder("ADDRESS", address)
    said: Any = {"to": [f"at {placeholder}, now"]}
    for _ in range(depth):
        said = {"in": json.dumps(said, ensure_ascii=ascii_only)}
    source, restorer, out = json.dumps(said), Restorer(vault), ""
    for size in cuts:
        out, source = out + restorer.feed(source[:size]), source[size:]
    found = json.loads(out + restorer.feed(source, end=True))
    for _ in range(depth):
        found = json.loads(found["in"])
    assert found == {"to": [f"at {address}, now"]}


@given(
    st.lists(st.integers(1, 7), max_size=60), st.sampled_from(["plain", "ascii", "wide", "escaped"]), st.integers(0, 2)
)
def test_an_answer_in_json_stays_json(cuts: list[int], writing: str, depth: int) -> None:
    value = {
        "mobile": 13917246058,
        "手机": ["手机13917246058", '13917246058 \n\t\\x " y', -5, None],
        "n": {"d": 13917246058},
    }
    source = written(value, writing)
    for _ in range(depth):
        source = written({"in": source}, "plain" if writing == "escaped" else writing)
    guard = StreamGuard(find, on_plain(open_from), action=lambda _: "mask")
    out = ""
    for size in cuts:
        out, source = out + guard.feed(source[:size]).text, source[size:]
    said = json.loads(out + guard.feed(source, end=True).text)
    for _ in range(depth):
        said = json.loads(said["in"])
    assert said == {
        "mobile": "[PHONE]",
        "手机": ["手机[PHONE]", '[PHONE] \n\t\\x " y', -5, None],
        "n": {"d": "[PHONE]"},
    }


@pytest.mark.parametrize(
    ("text", "depth"),
    [
        ("", 0),
        ('he said "', 0),
        ('{"', 1),
        ('{"a": "x', 1),
        ('{"a": "he said \\"', 1),
        ('{"a": "{\\"b\\": \\"', 2),
        ('{"a": "{\\"b\\": \\"x\\"', 1),
        ('{"a": "{\\"b\\": \\"[\\\\\\"', 3),
        ('{"a": "\\\\"', 0),
        ('["", "', 1),
    ],
)
def test_how_deep_a_text_stands(text: str, depth: int) -> None:
    whole, pieces = Quoting(), Quoting()
    whole.feed(text)
    for each in text:
        pieces.feed(each)
    assert (whole.depth, pieces.depth) == (depth, depth)


def test_prose_is_no_json() -> None:
    vault = Vault()
    text = 'Say "hi" to C:\\new\\13917246058 or "13917246058"'
    masked = vault.mask(text, find(text))
    assert masked == 'Say "hi" to C:\\new\\<PHONE_1> or "<PHONE_1>"'
    assert Restorer(vault).feed(masked, end=True) == text
