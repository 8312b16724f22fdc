"""What follows from findings: actions, budgets, failures, the memory of texts."""

from collections.abc import Callable, Mapping

import pytest

from detectors.findings import CATEGORIES, Finding
from detectors.guard import OVERLAP, SEGMENT, Check, Guard, Verdict
from detectors.patterns import PatternSet, UserPattern
from detectors.policy import DEFAULT_ACTIONS, NEVER_MASKED, Action, Budget, Policy
from detectors.reasons import explain
from detectors.text import Text


class Words:
    """Finds given words."""

    name = "patterns/words"

    def __init__(self, words: Mapping[str, str], score: float = 1.0) -> None:
        self.words = words
        self.score = score
        self.seen: list[int] = []

    def find(self, text: Text) -> list[Finding]:
        self.seen.append(len(text.original))
        found = []
        for word, category in self.words.items():
            at = text.original.find(word)
            while at >= 0:
                found.append(Finding(at, at + len(word), category, self.score, self.name))
                at = text.original.find(word, at + 1)
        return found


class Broken:
    name = "broken"

    def find(self, text: Text) -> list[Finding]:
        raise RuntimeError("as always")


WORDS = Words({"a@b.c": "EMAIL", "sk-1": "SECRET", "Ann": "PERSON"})


def guard(policy: Policy | None = None, detector: Words = WORDS, **options: object) -> Guard:
    return Guard(policy or Policy(), [(detector, "closed")], **options)  # type: ignore[arg-type]


def verdict(text: str, policy: Policy | None = None) -> Verdict:
    looked = guard(policy)
    return looked.judge([(text, looked.check(text))])


@pytest.mark.parametrize(
    ("text", "action"), [("hello", "allow"), ("Ann", "allow"), ("Ann a@b.c", "mask"), ("a@b.c sk-1", "deny")]
)
def test_the_most_severe_action_decides(text: str, action: str) -> None:
    assert verdict(text).action == action


@pytest.mark.parametrize(
    ("actions", "expected"),
    [({"SECRET": "report"}, "allow"), ({"default": "mask"}, "mask"), ({"default": "report", "SECRET": "deny"}, "deny")],
)
def test_a_policy_names_actions(actions: Mapping[str, Action], expected: str) -> None:
    assert verdict("sk-1", Policy(actions=actions)).action == expected


def test_every_category_has_an_action_and_a_sentence_in_both_languages() -> None:
    for category in CATEGORIES:
        assert DEFAULT_ACTIONS[category] in ("deny", "mask", "report")
        assert category in explain(category, chinese=False)
        assert category in explain(category, chinese=True)


@pytest.mark.parametrize("category", sorted(NEVER_MASKED))
def test_a_statement_is_denied_where_all_is_masked(category: str) -> None:
    assert Policy(actions={"default": "mask"}).action(category) == "deny"


def test_the_reason_names_the_category_and_none_of_the_text() -> None:
    assert verdict("my key sk-1") == Verdict(
        "deny", "SECRET", "The message contains a password, key or token (SECRET)."
    )
    assert "密钥" in verdict("密钥 sk-1").reason


def test_values_that_are_allowed_and_low_scores_do_not_count() -> None:
    assert verdict("a@b.c", Policy(allowed_values=("a@b.c",))).action == "allow"
    low = guard(Policy(minimum_score=0.5), Words({"x": "EMAIL"}, score=0.4))
    assert low.check("x").findings == ()


def test_a_text_is_examined_once() -> None:
    detector = Words({"x": "EMAIL"})
    looked = guard(detector=detector)
    assert looked.check("x") == looked.check("x")
    assert detector.seen == [1]


def test_the_memory_is_bounded_and_drops_what_is_longest_unused() -> None:
    looked = guard(entries=2)
    for text in ("1", "2"):
        looked.check(text)
    looked.look_up("1")
    looked.check("3")
    assert [looked.look_up(text) is not None for text in ("1", "2", "3")] == [True, False, True]


@pytest.mark.parametrize(("mode", "action"), [("closed", "deny"), ("open", "allow")])
def test_a_detector_that_breaks_means_what_the_policy_says(mode: str, action: str) -> None:
    looked = Guard(Policy(), [(Broken(), mode)])  # type: ignore[list-item]
    check = looked.check("x")
    assert check.failures == ("broken",)
    assert looked.judge([("x", check)]).action == action
    assert looked.look_up("x") is None, "a result that is not complete must not be kept"


@pytest.mark.parametrize(("exceeded", "action"), [("deny", "deny"), ("report", "allow")])
def test_text_over_the_budget_of_characters(exceeded: str, action: str) -> None:
    policy = Policy(budget=Budget(characters=10, exceeded=exceeded))  # type: ignore[arg-type]
    looked = guard(policy)
    text = "0123456789a@b.c"
    check = looked.check(text)
    assert looked.judge([(text, check)]).action == action
    assert check.failures == ("budget",)


@pytest.mark.parametrize(("spent", "failures"), [(0.0, ()), (5.0, ("patterns/words",))])
def test_the_budget_of_time_is_looked_at_between_detectors(spent: float, failures: tuple[str, ...]) -> None:
    times = iter([0.0, spent, spent])
    clock: Callable[[], float] = lambda: next(times)  # noqa: E731
    looked = guard(Policy(budget=Budget(milliseconds=1000)), clock=clock)
    assert looked.check("x").failures == failures


def test_long_texts_are_looked_at_in_segments_that_overlap() -> None:
    detector = Words({"a@b.c": "EMAIL"})
    looked = guard(Policy(), detector)
    for at in (0, SEGMENT - 3, SEGMENT - OVERLAP, SEGMENT, 2 * (SEGMENT - OVERLAP) - 1):
        text = "." * at + "a@b.c" + "." * SEGMENT
        findings = looked.examine(text).findings
        assert [(each.start, each.end) for each in findings] == [(at, at + 5)]
    assert max(detector.seen) <= SEGMENT


def patterns(*, allow: tuple[str, ...] = (), deny: tuple[str, ...] = ()) -> PatternSet:
    return PatternSet(
        allow=[UserPattern("allow", each) for each in allow], deny=[UserPattern("deny", each) for each in deny]
    )


def test_one_text_that_is_allowed_is_enough_and_a_denied_one_too_much() -> None:
    looked = Guard(Policy(), [], patterns=patterns(allow=("ticket",), deny=("aurora",)))

    def decide(*texts: str) -> tuple[str, str]:
        found = looked.judge([(text, looked.check(text)) for text in texts])
        return found.action, found.category

    assert decide("hello") == ("deny", "ALLOW_PATTERN")
    assert decide("hello", "ticket 4") == ("allow", "")
    assert decide("ticket 4 of aurora") == ("deny", "DENY_PATTERN")
    assert decide() == ("allow", "")


def test_values_do_not_overlap_and_the_more_severe_one_stays() -> None:
    looked = guard(detector=Words({"sk-1@b.c": "EMAIL", "sk-1": "SECRET"}))
    assert [each.category for each in looked.find("sk-1@b.c")] == ["SECRET"]


def test_a_statement_leaves_the_values_in_it_alone() -> None:
    looked = guard(detector=Words({"we meet a@b.c": "BUSINESS_MEETING", "a@b.c": "EMAIL"}))
    assert [each.category for each in looked.find("we meet a@b.c")] == ["BUSINESS_MEETING", "EMAIL"]


@pytest.mark.parametrize(
    ("score", "reported", "denied"), [(0.1, False, False), (0.3, True, True), (0.79, True, True), (0.8, True, False)]
)
def test_a_judge_is_needed_where_the_classifier_suspects_what_it_does_not_deny(
    score: float, reported: bool, denied: bool
) -> None:
    check = Check(scores={"INJECTION": score}, thresholds={"INJECTION": 0.8})
    assert guard().unsure(check) is reported
    assert guard(Policy(actions={"INJECTION": "deny"})).unsure(check) is denied
    assert not guard(Policy(actions={"INJECTION": "report"})).unsure(check)


STATED = Words(
    {"we merge in May": "BUSINESS_LEGAL", "obey me": "INJECTION", "sk-1": "SECRET", "aurora": "DENY_PATTERN"}
)


@pytest.mark.parametrize("text", ["we merge in May", "obey me", "obey me, we merge in May"])
def test_a_statement_of_the_classifier_is_reported_unless_the_policy_denies_it(text: str) -> None:
    looked = guard(detector=STATED)
    assert looked.judge([(text, looked.check(text))]).action == "allow"
    strict = guard(Policy(actions={"BUSINESS_LEGAL": "deny", "INJECTION": "deny"}), STATED)
    assert strict.judge([(text, strict.check(text))]).action == "deny"


@pytest.mark.parametrize("text", ["my key sk-1", "project aurora"])
def test_what_an_earlier_turn_said_masks_what_it_would_have_denied(text: str) -> None:
    looked = guard(detector=STATED)
    pair = [(text, looked.check(text))]
    assert looked.judge(pair).action == "deny"
    assert looked.judge([("hello", looked.check("hello"))], pair).action == "mask"


def test_an_earlier_turn_that_nobody_could_look_at_is_denied() -> None:
    looked = Guard(Policy(), [(Broken(), "closed")])
    assert looked.judge([], [("x", looked.check("x"))]) == looked.judge([("x", looked.check("x"))])
