"""Token types, offsets and pieces."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.classifier import encode
from detectors.classifier.encode import classes, code_points, shapes

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


@pytest.mark.parametrize(
    ("text", "spans", "wanted"),
    [
        ("hello World", [(0, 5), (6, 11)], [0, 1]),
        ("HELLO iPhone", [(0, 5), (6, 12)], [2, 2]),
        ("Workbench", [(0, 4), (4, 9)], [1, 3]),
        ("找Kevin", [(0, 1), (1, 6)], [0, 4]),
        ("Ärger\u3000x", [(0, 5), (6, 7)], [1, 0]),
    ],
)
def test_types_carry_case_and_spacing(text: str, spans: list[tuple[int, int]], wanted: list[int]) -> None:
    starts, ends = (np.asarray(each, np.int64) for each in zip(*spans, strict=True))
    assert shapes(classes(code_points(text)), starts, ends).tolist() == wanted


def test_a_text_without_tokens_has_no_types() -> None:
    empty = np.zeros(0, np.int64)
    assert shapes(classes(code_points("")), empty, empty).tolist() == []


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
