"""The recognisers as a detector: categories, a user's own, windows, streams, hostile texts."""

import functools
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.detectors.structured import Case, cases
from detectors.findings import Finding
from detectors.patterns import PatternError
from detectors.recognisers.engine import RULES, WINDOW, Pattern, Recognisers
from detectors.text import Text


@functools.cache
def recognisers() -> Recognisers:
    return Recognisers()


def found(text: str, by: Recognisers | None = None) -> list[tuple[str, str]]:
    return [(each.category, text[each.start : each.end]) for each in (by or recognisers()).find(Text(text))]


def test_only_the_categories_asked_for() -> None:
    only = Recognisers({"EMAIL"})
    assert found("a.b@acme.com 13800138000", only) == [("EMAIL", "a.b@acme.com")]


def test_an_unknown_category_is_refused() -> None:
    with pytest.raises(ValueError, match="FOO"):
        Recognisers({"FOO"})


def test_a_users_pattern_needs_its_score_or_context() -> None:
    own = Recognisers({"EMAIL"}, [Pattern("staff", "STAFF_ID", r"S\d{6}", score=0.3, context=("工号",))])
    assert found("工号是S123456", own) == [("STAFF_ID", "S123456")]
    assert found("part S123456", own) == []


def test_a_users_pattern_that_does_not_compile() -> None:
    with pytest.raises(PatternError):
        Recognisers(extra=[Pattern("bad", "X", "(")])


@settings(max_examples=60)
@given(
    st.text(max_size=40), st.sampled_from(["13800138000", "li@acme.com", "11010519491231002X"]), st.text(max_size=40)
)
def test_spans_are_inside_the_text_and_not_empty(before: str, value: str, after: str) -> None:
    text = before + value + after
    for each in recognisers().find(Text(text)):
        assert 0 <= each.start < each.end <= len(text)
        assert 0.5 <= each.score <= 1


@settings(max_examples=60)
@given(st.integers(0, 60), st.sampled_from([case for case in cases(9, 2) if case.form == "plain"]))
def test_windows_find_what_one_search_finds(shift: int, case: Case) -> None:
    padding = "甲乙丙丁。 " * (WINDOW // 6 + 1)
    text = padding[: WINDOW - shift] + " " + case.text + "\n" + padding[:500]
    offset = WINDOW - shift + 1
    spans = {(each.start, each.end, each.category) for each in recognisers().find(Text(text))}
    assert {(start + offset, end + offset, category) for start, end, category in case.spans} <= spans


@pytest.mark.parametrize(
    "unit",
    ["a", "1", "@", "1 2 3 ", "\u200f", "😀", "\ud800", "a.", "a@", "1-", ":", "::1", "1.2.", "路1号", "北京市", "QQ:1",
     "账号", "1 Main ", "AB12 ", "微信", "tel+1", "0x", "1a", "%40", "区", "13800138000", "\u202e1中a"],
)  # fmt: skip
def test_hostile_texts_end(unit: str) -> None:
    """Findings and steps are bounded by the length, which the suite's time limit guards."""
    text = (unit * (200_000 // len(unit)))[:200_000]
    assert len(recognisers().find(Text(text))) <= len(text)


def test_patterns_are_bounded() -> None:
    """No rule repeats anything without limit, so that no text takes more than its length times a constant."""
    for rule in RULES:
        for pattern in (rule.border(), rule.right, rule.ending()):
            assert "*" not in pattern.replace("\\*", ""), rule.name
            assert not any(mark in pattern for mark in (")+", "]+", ",}")), rule.name
        assert rule.longest <= 400


def test_what_is_found_was_held_back() -> None:
    """At every split of a stream: while a value is incomplete, or may be longer, it is open."""
    for case in cases(5, 3):
        plain = Text(case.text).plain
        findings = recognisers().find(Text(plain))
        since = 0
        for end in range(1, len(plain) + 1):
            since = recognisers().open_from(plain[:end], since)
            for each in findings:
                assert not each.start < end <= each.end or since <= each.start, (plain[:end], each)


@given(
    st.lists(
        st.sampled_from(["1", "38", "00", " ", "-", "a@", "b.", "com", "路", "8号", "北京市", "QQ", ":"]), max_size=14
    )
)
@settings(max_examples=200)
def test_asking_piece_by_piece_is_asking_once(pieces: list[str]) -> None:
    since, text = 0, ""
    for piece in pieces:
        text += piece
        since = recognisers().open_from(text, since)
        assert since == recognisers().open_from(text)


@pytest.mark.parametrize(
    "text",
    [
        "The quick brown fox jumps over the lazy dog, and everyone went home early to see them in March 2024.",
        "今天天气很好，我们去北京市的公园散步，然后在附近的餐厅吃了午饭，大家都觉得非常开心，下次还想再去一次。",
    ],
)
def test_prose_is_released_but_for_the_last_word(text: str) -> None:
    since, held = 0, 0
    for end in range(1, len(text) + 1):
        since = recognisers().open_from(text[:end], since)
        held += end - since
    assert held / len(text) < 8


def test_users_values_are_held_back_by_their_length() -> None:
    own = Recognisers({"EMAIL"}, [Pattern("staff", "STAFF_ID", r"S\d{6}", longest=7)])
    assert own.open_from("nothing here. ") == len("nothing here. ") - 7


def test_threads_share_one() -> None:
    texts = [case.text for case in cases(11, 4)]
    random.Random(1).shuffle(texts)

    def search(text: str) -> list[Finding]:
        return recognisers().find(Text(text))

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(search, texts)) == [search(text) for text in texts]


def test_presidio_is_loaded_where_a_policy_names_it_only() -> None:
    code = (
        "import sys; from detectors import Policy, load_guard; from detectors.policy import ClassifierSwitch;"
        "guard = load_guard(Policy(classifier=ClassifierSwitch(enabled=False)));"
        "assert guard.find('li@corp.cn'); print({'spacy', 'presidio_analyzer'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_of_one_category_the_surer_or_longer_value_around_another_stays() -> None:
    own = [
        Pattern("long", "STAFF_ID", "S[0-9]{6}-[0-9]{2}", 0.7),
        Pattern("short", "STAFF_ID", "[0-9]{6}", 0.7),
        Pattern("sure", "STAFF_ID", "-[0-9]{2}", 0.9),
        Pattern("other", "ROOM", "[0-9]{6}", 0.6),
    ]
    text = "S123456-01 654321"
    assert found(text, Recognisers(set(), own)) == [
        ("STAFF_ID", "S123456-01"), ("ROOM", "123456"), ("STAFF_ID", "-01"), ("ROOM", "654321"), ("STAFF_ID", "654321"),
    ]  # fmt: skip
