"""A user's allow and deny patterns."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.findings import Finding
from detectors.patterns import LIMIT, OneSet, PatternError, PatternSet, UserPattern
from detectors.text import Text


def found(patterns: PatternSet, text: str) -> list[tuple[str, str]]:
    return [(each.category, text[each.start : each.end]) for each in patterns.find(Text(text))]


def deny(*patterns: str) -> PatternSet:
    return PatternSet(deny=[UserPattern(f"p{index}", each) for index, each in enumerate(patterns)])


def test_deny_pattern_is_found_where_it_stands() -> None:
    assert deny("机密", "(?i)top ?secret").find(Text("😀机密 and TOP secret")) == [
        Finding(1, 3, "DENY_PATTERN", 1.0, "p0"),
        Finding(8, 18, "DENY_PATTERN", 1.0, "p1"),
    ]


def test_category_and_name_are_the_users() -> None:
    patterns = PatternSet(deny=[UserPattern("codes", r"PRJ-\d{4}", "PROJECT")])
    assert patterns.find(Text("see PRJ-2201")) == [Finding(4, 12, "PROJECT", 1.0, "codes")]


@pytest.mark.parametrize("text", ["ＴＯＰ se\u200bcret", "top secret", "中文top secret中文"])
def test_patterns_see_the_plain_form(text: str) -> None:
    assert len(found(deny(r"(?i)top\s+secret"), text)) == 1


def test_patterns_see_the_original_as_well() -> None:
    assert found(deny("\u200b"), "a\u200bb") == [("DENY_PATTERN", "\u200b")]


def test_without_allow_patterns_everything_passes() -> None:
    assert PatternSet().find(Text("anything")) == []


def test_one_allow_pattern_is_enough() -> None:
    patterns = PatternSet(allow=[UserPattern("a", "translate"), UserPattern("b", "翻译")])
    assert patterns.find(Text("请翻译")) == []
    assert patterns.find(Text("请写诗")) == [Finding(0, 3, "ALLOW_PATTERN", 1.0, "patterns")]


def test_deny_goes_before_allow() -> None:
    patterns = PatternSet(allow=[UserPattern("a", "translate")], deny=[UserPattern("d", "salary")])
    assert found(patterns, "translate the salary list") == [("DENY_PATTERN", "salary")]
    assert found(patterns, "the salary list") == [("DENY_PATTERN", "salary")]


@pytest.mark.parametrize(
    ("pattern", "position"),
    [("a(b", 1), ("a|b)", 3), ("[z-a]", 1), ("(?<=x)y", 0), ("a**", 1), ("中(文", 1), ("x{2000}", 1), ("ab\\", 2)],
)
def test_a_pattern_that_does_not_compile_says_where(pattern: str, position: int) -> None:
    with pytest.raises(PatternError) as raised:
        deny(pattern)
    assert (raised.value.pattern, raised.value.position) == (pattern, position)
    assert raised.value.reason


def test_a_deny_pattern_that_matches_nothing_is_refused() -> None:
    with pytest.raises(PatternError, match="empty"):
        deny("x*")


def test_more_findings_than_the_limit_end_in_one_that_covers_the_rest() -> None:
    findings = deny("a").find(Text("a" * 5000))
    assert len(findings) == LIMIT
    assert findings[-1].end == 5000


def test_exponential_pattern_is_linear() -> None:
    assert deny("(a+)+$x").find(Text("a" * 200_000)) == []


@given(st.text(max_size=30), st.sampled_from(["秘密", "ab", "é😀"]), st.text(max_size=30))
def test_offsets_are_characters_whatever_surrounds(before: str, value: str, after: str) -> None:
    text = before + value + after
    assert any(
        each.start <= len(before) and each.end >= len(before) + len(value) for each in deny(value).find(Text(text))
    )


@given(st.lists(st.sampled_from(["a", "\ud83d", "\ude00", "中", "机密"]), max_size=12).map("".join))
def test_lone_surrogates_keep_offsets(text: str) -> None:
    assert [text[each.start : each.end] for each in deny("机密").find(Text(text))] == ["机密"] * text.count("机密")


def test_one_set_names_all_that_occur() -> None:
    assert OneSet(["a", "b", "中"]).match("xa中") == {0, 2}
    assert OneSet([]).match("x") == frozenset()
