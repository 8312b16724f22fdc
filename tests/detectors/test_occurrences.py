"""Values found once are found everywhere, as whole words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.findings import Finding
from detectors.occurrences import Occurrences, whole_words


def found(text: str, **values: str) -> list[str]:
    return [text[each.start : each.end] for each in Occurrences(values).find(text)]


def test_whole_words_only() -> None:
    text = "Ann met Annabel, Ann's sister and Joann; Ann."
    assert [each.start for each in Occurrences({"Ann": "PERSON"}).find(text)] == [0, 17, 41]


def test_chinese_names_stand_among_other_words_and_the_longer_goes_first() -> None:
    text = "王小明和王小说，找王小明吧"
    both = Occurrences({"王小": "PERSON", "王小明": "PERSON"}).find(text)
    assert [text[each.start : each.end] for each in both] == ["王小明", "王小", "王小明"]


def test_a_name_beside_chinese_text_and_one_of_two_words() -> None:
    assert found("请问Li Wei在吗，LiWei不在，Li Weiming也不在", **{"Li Wei": "PERSON"}) == ["Li Wei"]


@pytest.mark.parametrize("value", ["a.b*c", "(x)", "C++ Team", "a|b", "\\d+", "[AB]", "$5"])
def test_a_value_is_no_pattern(value: str) -> None:
    assert found(f"see {value}, not abc 5 AB", **{value: "PROJECT"}) == [value]


def test_a_single_character_is_left_to_its_own_finding() -> None:
    assert found("张 and 张", 张="PERSON") == []


@pytest.mark.parametrize(
    ("text", "part", "whole"),
    [
        ("call Jonathan now", "Jon", "Jonathan"),
        ("call Jonathan now", "athan", "Jonathan"),
        ("王小明来了", "王小", "王小"),
        ("找Jonathan吧", "Jon", "Jonathan"),
        ("René Müller", "Mül", "Müller"),
        ("Ann-Marie", "Ann", "Ann"),
        ("我叫王小明，你呢", "小明", "王小明"),
        ("请问欧阳娜娜在吗", "娜娜", "欧阳娜娜"),
        ("和小明去", "小明", "小明"),
        ("姓王的王芳", "王芳", "王芳"),
    ],
)
def test_part_of_a_word_means_the_word(text: str, part: str, whole: str) -> None:
    at = text.index(part)
    finding = whole_words(Finding(at, at + len(part), "PERSON"), text)
    assert text[finding.start : finding.end] == whole


@given(st.text(max_size=30), st.text(min_size=2, max_size=6), st.text(max_size=30))
def test_any_value_in_any_text(before: str, value: str, after: str) -> None:
    for each in Occurrences({value: "X"}).find(before + value + after):
        assert (before + value + after)[each.start : each.end] == value
