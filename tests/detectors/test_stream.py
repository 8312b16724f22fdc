"""Guarded streams: no cut lets a value through, and the cuts do not matter."""

import re
from collections.abc import Callable
from statistics import median

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.findings import Finding
from detectors.masking import Restorer, Vault, cover
from detectors.stream import Action, StreamGuard, on_plain
from tests.detectors import pieces
from tests.detectors.pieces import CARD, EMAIL, ID_CARD, KEY, PEM, VALUES, GuardedText, cut, delays, without


def always(what: Action) -> Callable[[Finding], Action]:
    return lambda _: what


def guard(what: Action = "mask", **more: object) -> StreamGuard:
    return StreamGuard(pieces.find, pieces.open_from, action=always(what), **more)  # type: ignore[arg-type]


def run(stream: StreamGuard, chunks: list[str]) -> tuple[str, list[Finding], bool]:
    parts = [stream.feed(chunk) for chunk in chunks]
    parts.append(stream.feed("", end=True))
    return "".join(p.text for p in parts), [f for p in parts for f in p.findings], stream.denied


def leaked(value: str, out: str, most: int = 4) -> bool:
    """Whether more than `most` characters of a value's beginning are in the text."""
    return value[: most + 1] in out


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("glue", [("x ", " y"), ("是", "，好"), ("", "")])
@pytest.mark.parametrize("what", ["mask", "deny"])
def test_every_two_cuts(value: str, glue: tuple[str, str], what: Action) -> None:
    text = glue[0] + value + glue[1]
    whole = run(guard(what), [text])
    assert whole[0] == (glue[0] if what == "deny" else f"{glue[0]}[{whole[1][0].category}]{glue[1]}")
    assert whole[2] == (what == "deny")
    for first in range(len(text) + 1):
        for second in range(first, len(text) + 1, 1 if len(text) < 40 else 7):
            assert run(guard(what), cut(text, [first, second])) == whole


@pytest.mark.parametrize("value", VALUES)
def test_character_by_character_nothing_of_a_value_goes_out_before_it_is_known(value: str) -> None:
    stream = guard("deny")
    out = ""
    for character in "see " + value + " ok":
        out += stream.feed(character).text
        assert not out[4:] or stream.denied
    assert stream.denied and out == "see "
    after = stream.feed("more", end=True)
    assert after.text == "" and after.denied and not after.findings


TEXTS = st.lists(
    st.sampled_from(
        [*VALUES, " ", "，", "a", "hello world, ", "1", "-", "\n", "你好。", "sk-", "@", "-----BEGIN PRIVATE KEY-----"]
    ),
    max_size=30,
).map("".join)
ACTIONS: dict[str, Action] = {
    "EMAIL": "mask",
    "PERSON": "report",
    "SECRET": "deny",
    "BANK_CARD": "mask",
    "ID_CARD": "pass",
}


@settings(max_examples=1000, deadline=None)
@given(TEXTS, st.lists(st.integers(0, 500), max_size=20), st.booleans())
def test_any_cut_gives_the_same(text: str, cuts: list[int], deny: bool) -> None:
    def action(finding: Finding) -> Action:
        return ACTIONS[finding.category] if deny or finding.category != "SECRET" else "mask"

    def fresh() -> StreamGuard:
        return StreamGuard(pieces.find, pieces.open_from, action=action)

    whole = run(fresh(), [text])
    assert run(fresh(), cut(text, cuts)) == whole
    assert run(fresh(), list(text)) == whole
    hidden = [finding for finding in pieces.find(text) if action(finding) in ("mask", "deny")]
    denials = [finding.start for finding in hidden if action(finding) == "deny"]
    spans = cover(hidden)
    stop = min((f.start for f in spans if any(f.start <= start < f.end for start in denials)), default=len(text))
    assert re.sub(r"\[[A-Z_]+\]", "", whole[0]) == without(text[:stop], [f for f in spans if f.start < stop])


@given(
    st.lists(st.sampled_from([EMAIL, KEY, "word ", "好的，", "x" * 300, "1 "]), min_size=20, max_size=60).map("".join)
)
@settings(max_examples=30, deadline=None)
def test_long_texts_do_not_depend_on_the_cuts_either(text: str) -> None:
    whole = run(guard(), [text])
    assert run(guard(), cut(text, range(0, len(text), 7))) == whole
    assert run(guard(), cut(text, [1000, 1024, 1025, 3000])) == whole


def test_findings_are_in_characters_of_the_whole_text() -> None:
    text = "a" * 90 + " " + "b " * 700 + EMAIL + " and " + CARD
    _, found, _ = run(guard("report"), cut(text, range(0, len(text), 3)))
    assert [text[f.start : f.end] for f in found] == [EMAIL, CARD]


def test_prose_is_released_up_to_the_open_word() -> None:
    stream = guard()
    assert stream.feed("The answer is 42, I thi").text == "The answer is 42, I "
    assert stream.held == 3 and stream.released == 20
    assert stream.feed("nk.").text == ""
    assert stream.feed(" Yes").text == "think. "
    assert stream.feed("", end=True).text == "Yes"


def test_the_left_context_is_seen_again() -> None:
    seen: list[str] = []

    def find(text: str) -> list[Finding]:
        seen.append(text)
        return []

    stream = StreamGuard(find, lambda text, _: len(text), action=always("mask"))
    for index in range(2000):
        stream.feed(f"{index:04d}")
    assert all(len(text) == 256 + 4 for text in seen[100:])


def test_findings_that_overlap_hide_all_of_their_union_and_deny_wins() -> None:
    def find(text: str) -> list[Finding]:
        return [Finding(2, 6, "A"), Finding(4, 9, "B"), Finding(12, 13, "C")] if len(text) >= 13 else []

    def fresh(action: dict[str, Action]) -> StreamGuard:
        return StreamGuard(find, lambda _, since: 0, action=lambda each: action[each.category])

    text = "0123456789abcdef"
    assert run(fresh({"A": "mask", "B": "mask", "C": "mask"}), list(text))[0] == "01[B]9ab[C]def"
    assert run(fresh({"A": "mask", "B": "deny", "C": "mask"}), list(text))[::2] == ("01", True)
    assert run(fresh({"A": "pass", "B": "report", "C": "deny"}), [text])[0] == "0123456789ab"


@pytest.mark.parametrize("step", [1, 5, 1024, 100_000])
def test_what_stays_open_for_too_long_is_refused_at_the_same_place(step: int) -> None:
    text = "see -----BEGIN PRIVATE KEY-----" + "\nabcd" * 5000
    stream = guard("mask")
    out, found, denied = run(stream, cut(text, range(0, len(text), step)))
    assert denied and out == "see "
    assert [(f.start, f.end, f.category) for f in found] == [(4, 9216, "UNCHECKED")]
    assert stream.held == 0


def test_what_stays_open_for_too_long_may_be_let_go_by_choice() -> None:
    text = "see -----BEGIN PRIVATE KEY-----" + "\nabcd" * 1000
    out, found, denied = run(guard("report", longest=2000, overlong="report"), cut(text, range(0, len(text), 9)))
    assert out == text and not denied and {f.category for f in found} == {"UNCHECKED"}


def test_memory_is_bounded() -> None:
    stream = guard("mask", longest=3000)
    for _ in range(3000):
        stream.feed("lorem ipsum ")
        assert len(stream._buffer) <= 256 + 24
    stream.feed("-----BEGIN PRIVATE KEY-----")
    while not stream.denied:
        stream.feed("\nabc")
        assert len(stream._buffer) <= 256 + 3000 + 1024
    assert not stream._buffer


# --- sentences ---------------------------------------------------------------------------------------------------


def meeting(text: str) -> list[Finding]:
    """Finds a statement as a classifier does: the whole text that it was given."""
    return [Finding(0, len(text), "BUSINESS_MEETING", 0.9, "fake")] if "内部会议" in text[-60:] else []


def test_a_sentence_waits_for_its_verdict() -> None:
    stream = guard("deny", sentences=meeting)
    start = "这是第一句完全没有什么问题的话，它讲的是天气与花草树木的事情。"
    assert stream.feed(start[:-1]).text == ""
    assert stream.feed("。我们").text == start
    assert stream.feed("公司下周二上午举行内部会").text == ""
    last = stream.feed("议讨论裁员计划与预算安排吧。")
    assert last.denied and last.text == ""


SENTENCES = st.lists(
    st.sampled_from(
        [
            "下周有内部会议。",
            "天气不错！",
            "Hello there. ",
            "A long one, with commas, ",
            EMAIL,
            "\n\n",
            "v1.2",
            " ",
            "字" * 90,
        ]
    ),
    max_size=25,
).map("".join)


@settings(max_examples=300, deadline=None)
@given(SENTENCES, st.lists(st.integers(0, 600), max_size=20), st.sampled_from(["mask", "deny", "report"]))
def test_sentences_do_not_depend_on_the_cuts(text: str, cuts: list[int], what: Action) -> None:
    def action(finding: Finding) -> Action:
        return what if finding.category == "BUSINESS_MEETING" else "mask"

    asked: list[list[str]] = []

    def fresh() -> StreamGuard:
        calls: list[str] = []
        asked.append(calls)

        def sentences(given_text: str) -> list[Finding]:
            calls.append(given_text)
            return meeting(given_text)

        return StreamGuard(pieces.find, pieces.open_from, action=action, sentences=sentences)

    whole = run(fresh(), [text])
    assert run(fresh(), cut(text, cuts)) == whole
    assert run(fresh(), list(text)) == whole
    if what != "deny":
        assert asked[0] == asked[1] == asked[2]
    assert all(len(each) <= 256 + 400 for calls in asked for each in calls)


# --- in combination ----------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.lists(st.integers(0, 120), max_size=9))
def test_values_put_back_are_not_found_again(cuts: list[int]) -> None:
    vault = Vault()
    sent = vault.mask(f"Write to {EMAIL}", [Finding(9, 9 + len(EMAIL), "EMAIL")])
    answer = f"{sent} or to eve@example.org. <EMAIL_2>"
    both = GuardedText(guard("mask"), Restorer(vault))
    out = "".join(both.feed(piece).text for piece in cut(answer, cuts)) + both.feed("", end=True).text
    assert out == f"Write to {EMAIL} or to [EMAIL]. <EMAIL_2>"


def test_a_denial_lets_go_of_what_the_restorer_holds() -> None:
    vault = Vault()
    vault.placeholder("PERSON", "Bob")
    both = GuardedText(guard("deny"), Restorer(vault))
    released = both.feed(f"dear <PERSON_1> <{ID_CARD} x")
    assert (released.text, released.denied) == ("dear Bob <", True)
    assert GuardedText(None, None).feed("as it is").text == "as it is"


def test_open_from_on_plain_text() -> None:
    asked: list[tuple[str, int]] = []

    def digits(plain: str, since: int) -> int:
        asked.append((plain, since))
        return max(since, len(plain.rstrip("0123456789")))

    assert on_plain(digits)("a１２\u200b３", 0) == 1
    assert on_plain(digits)("a１\u200bb\u200b", 4) == 5
    assert asked[-1] == ("a1b", 3)
    assert on_plain(digits, lambda plain, _: 2)("a\u200bbc", 0) == 3


def test_the_delay_in_tokens() -> None:
    tokens = ["The", " quick", " brown", " fox", " wrote", " to", " alice", "@", "example", ".com", ".", " Bye"]
    late = delays(guard("mask"), tokens)
    assert late == [1, 1, 1, 1, 1, 1, 5, 4, 3, 2, 1, 0]
    assert median(late) == 1


def test_pem_in_prose_is_one_finding() -> None:
    out, found, _ = run(guard("mask"), list(f"key:\n{PEM}\nend"))
    assert out == "key:\n[SECRET]\nend" and len(found) == 1
