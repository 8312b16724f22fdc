"""From tags to spans."""

import numpy as np
import pytest

from detectors.classifier.encode import Encoded, code_points
from detectors.classifier.names import Tags, decode

TAGS = Tags.parse(["O", "B-PERSON", "I-PERSON", "B-LOCATION", "I-LOCATION"])
LIMITS = {"PERSON": 0.5, "LOCATION": 0.5}


def encoded(text: str, spans: list[tuple[int, int]]) -> Encoded:
    starts, ends = (np.asarray(each, np.int64) for each in zip(*spans, strict=True))
    return Encoded(np.arange(len(spans)), starts, ends, code_points(text))


def certain(*tags: int) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    shares = np.full((len(tags), 5), 0.025)
    shares[np.arange(len(tags)), tags] = 0.9
    return shares


def found(text: str, spans: list[tuple[int, int]], *tags: int) -> list[tuple[str, str]]:
    names = decode(certain(*tags), encoded(text, spans), text, TAGS, LIMITS)
    return [(text[each.start : each.end], each.category) for each in names]


def test_pieces_of_a_word_are_one_name() -> None:
    text = "ask Marlowe now"
    assert found(text, [(0, 3), (4, 7), (7, 11), (12, 15)], 0, 1, 2, 0) == [("Marlowe", "PERSON")]


def test_two_names_side_by_side_stay_two() -> None:
    assert found("李明王芳", [(0, 1), (1, 2), (2, 3), (3, 4)], 1, 2, 1, 2) == [("李明", "PERSON"), ("王芳", "PERSON")]


def test_a_name_glued_to_chinese_ends_where_its_letters_end() -> None:
    assert found("找Kevin谈", [(0, 1), (1, 6), (6, 7)], 0, 1, 0) == [("Kevin", "PERSON")]


def test_quotes_and_stops_are_no_part_of_a_name() -> None:
    assert found("“Bath”.", [(0, 1), (1, 5), (5, 6), (6, 7)], 3, 4, 4, 4) == [("Bath", "LOCATION")]


def test_an_unsure_name_is_left_out() -> None:
    text = "Bath"
    shares = np.asarray([[0.5, 0.0, 0.0, 0.45, 0.05]])
    assert decode(shares, encoded(text, [(0, 4)]), text, TAGS, LIMITS) == []


def test_tags_in_another_order_are_refused() -> None:
    with pytest.raises(ValueError, match="tags must be O"):
        Tags.parse(["B-PERSON", "O", "I-PERSON"])
