"""Offsets and pieces."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.classifier import encode
from detectors.classifier.encode import code_points

tokenizers = pytest.importorskip("tokenizers", reason="the tokenizers package is not installed")


def words(text: str, add_special_tokens: bool) -> object:
    """Splits at spaces, one token per word; ids are the words' lengths."""
    assert not add_special_tokens

    class Encoding:
        offsets: list[tuple[int, int]] = []
        ids: list[int] = []

    encoding, at = Encoding(), 0
    encoding.offsets, encoding.ids = [], []
    for word in text.split(" "):
        if word:
            encoding.offsets.append((at, at + len(word)))
            encoding.ids.append(len(word))
        at += len(word) + 1
    return encoding


@given(st.text(alphabet="ab \n中", max_size=200))
def test_pieces_give_the_tokens_of_the_whole_text(text: str) -> None:
    """Whatever the size of a piece, every token stands where its word stands."""
    before = encode.PIECE
    encode.PIECE = 16
    try:
        found = encode.encode(words, text)
    finally:
        encode.PIECE = before
    assert "".join(text[a:b] for a, b in zip(found.starts, found.ends, strict=True)) == text.replace(" ", "")


def test_a_lone_surrogate_is_a_character() -> None:
    assert len(code_points("a\ud800b")) == 3
