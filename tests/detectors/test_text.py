"""Texts in plain form, and the way back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.text import Text

_PIECES = st.sampled_from(
    ["a", "1", " ", "中", "，", "５", "\u200b", "\u202e", "٣", "𝟗", "😀", "\ud800", "①", "²", "\u3000"]
)
_TEXTS = st.lists(_PIECES, max_size=40).map("".join) | st.text(max_size=60)


@pytest.mark.parametrize(
    ("original", "plain"),
    [
        ("１３８－００１３", "138-0013"),
        ("ａ＠ｂ．ｃｏｍ", "a@b.com"),
        ("٠١٢ ४५", "012 45"),
        ("𝟏𝟐𝟑 𝐚𝐛𝐜 𝒳", "123 abc X"),
        ("a\u200bb\u2060c\ufeff\u00add", "abcd"),
        ("1\u00a02\u20033\u30004", "1 2 3 4"),
        ("1\u20112\u20133", "1-2-3"),
        ("10² ① ⑩", "10² ① ⑩"),
        ("x\ud800y", "x\ufffdy"),
        ("你好——世界", "你好——世界"),
    ],
)
def test_plain(original: str, plain: str) -> None:
    assert Text(original).plain == plain


def test_plain_text_is_the_same_object() -> None:
    original = "纯文本 without anything odd。"
    assert Text(original).plain is original


@given(_TEXTS)
def test_every_character_of_plain_has_its_place(original: str) -> None:
    text = Text(original)
    spans = [text.span(index, index + 1) for index in range(len(text.plain))]
    assert all(end == start + 1 for start, end in spans)
    assert [start for start, _ in spans] == sorted({start for start, _ in spans})
    for (start, end), character in zip(spans, text.plain, strict=True):
        assert Text(original[start:end]).plain == character


@given(_TEXTS, st.data())
def test_a_span_covers_what_was_dropped_inside_it(original: str, data: st.DataObject) -> None:
    text = Text(original)
    if not text.plain:
        return
    start = data.draw(st.integers(0, len(text.plain) - 1))
    end = data.draw(st.integers(start + 1, len(text.plain)))
    low, high = text.span(start, end)
    assert Text(original[low:high]).plain == text.plain[start:end]


def test_many_different_characters_at_once() -> None:
    wide = "".join(chr(code) for code in range(0xFF01, 0xFF5F))
    assert Text(wide).plain == "".join(chr(code) for code in range(0x21, 0x7F))
