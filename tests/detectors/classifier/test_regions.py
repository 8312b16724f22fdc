"""Which sentence a finding names."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.classifier.encode import Encoded, code_points
from detectors.classifier.regions import sentences, strongest

TEXT = "The weather is nice. We cut the price of it by nine. See you soon!"


def words(text: str) -> Encoded:
    """One token for each word."""
    starts, at = [], 0
    for word in text.split(" "):
        starts.append(at)
        at += len(word) + 1
    first = np.asarray(starts, np.int64)
    lengths = np.asarray([len(word) for word in text.split(" ")], np.int64)
    return Encoded(np.arange(len(first)), first, first + lengths, code_points(text))


def test_the_sentence_whose_tokens_speak_most_is_named() -> None:
    encoded = words(TEXT)
    weights = np.full(len(encoded.ids), -1.0, np.float32)
    weights[4:12] = 0.5
    start, end = strongest(weights, encoded, 0, TEXT)
    assert TEXT[start:end].strip() == "We cut the price of it by nine."


def test_a_loud_word_alone_is_no_sentence() -> None:
    text = "Go! We cut the price of it by nine."
    encoded = words(text)
    weights = np.full(len(encoded.ids), 1.0, np.float32)
    weights[0] = 3.0
    start, end = strongest(weights, encoded, 0, text)
    assert text[start:end].startswith("We cut")


@pytest.mark.parametrize(
    ("text", "count"), [("甲。乙！丙", 3), ("one. two. three", 3), ("3.5 percent", 1), ("a\n\nb", 2)]
)
def test_sentences_end_at_stops_of_both_languages(text: str, count: int) -> None:
    assert len(list(sentences(text, 0, len(text)))) == count


@given(st.text(alphabet="ab .。\n!", max_size=900), st.integers(0, 900), st.integers(0, 900))
def test_sentences_lie_in_the_span_in_order(text: str, one: int, other: int) -> None:
    start, end = sorted((min(one, len(text)), min(other, len(text))))
    at = start
    for first, last in sentences(text, start, end):
        assert at <= first < last <= end
        at = last
