"""A guard's view of answers: which detectors look where, and what their faults mean."""

from __future__ import annotations

from typing import Any, cast

import pytest

from detectors.answers import AnswerReader
from detectors.classifier import Classifier
from detectors.findings import Finding
from detectors.guard import Guard
from detectors.patterns import PatternSet, UserPattern
from detectors.policy import Budget, FailureMode, Policy
from detectors.stream import StreamGuard
from detectors.text import Text


class Words:
    """Finds `sk-1` and fails on `boom`. A word is open until a space."""

    name = "words"

    def find(self, text: Text) -> list[Finding]:
        if "boom" in text.original:
            raise RuntimeError("boom")
        at = text.original.find("sk-1")
        return [Finding(at, at + 4, "SECRET", 1.0, self.name)] if at >= 0 else []

    def open_from(self, plain: str, _since: int) -> int:
        return plain.rfind(" ") + 1


class Predicting:
    """A classifier that finds a name and a statement in every sentence with `Bob` in it."""

    def __init__(self) -> None:
        self.sentences: list[str] = []

    def predict(self, text: Text, *, thresholds: object) -> Any:
        self.sentences.append(text.original)
        if "crash" in text.original:
            raise RuntimeError("no")
        at = text.original.find("Bob")
        found = [] if at < 0 else [Finding(at, at + 3, "PERSON", 0.9, "classifier")]
        found += [Finding(0, len(text.original), "BUSINESS_FINANCE", 0.9, "classifier")] if at >= 0 else []
        return type("Prediction", (), {"findings": found, "scores": {}, "thresholds": {}})()


def reader(
    policy: Policy | None = None,
    *,
    mode: FailureMode = "closed",
    patterns: PatternSet | None = None,
    classifier: Predicting | None = None,
    statements: bool = False,
) -> AnswerReader:
    found = Guard(
        policy or Policy(), [(Words(), mode)], patterns=patterns, classifier=cast("Classifier | None", classifier)
    )
    return AnswerReader(found, statements=statements)


def through(guard: StreamGuard, *pieces: str) -> str:
    out = [guard.feed(piece).text for piece in pieces]
    return "".join(out) + guard.feed("", end=True).text


def test_what_is_denied_ends_the_text() -> None:
    guard = reader().open()
    assert through(guard, "a s", "k-", "1 b") == "a "
    assert guard.denied


def test_masks_and_reports_go_on() -> None:
    assert through(reader(Policy(actions={"SECRET": "mask"})).open(), "a sk-", "1 b") == "a [SECRET] b"
    assert through(reader(Policy(actions={"SECRET": "report"})).open(), "a sk-", "1 b") == "a sk-1 b"


def test_a_watcher_only_reports() -> None:
    guard = reader().open(watch_only=True)
    released = guard.feed("a sk-1 b", end=True)
    assert released.text == "a sk-1 b"
    assert [each.category for each in released.findings] == ["SECRET"]


@pytest.mark.parametrize(("mode", "text"), [("closed", ""), ("open", "a boom b")])
def test_a_detector_that_fails_is_heard_of_and_means_what_the_policy_says(mode: FailureMode, text: str) -> None:
    failed: list[str] = []
    guard = reader(mode=mode).open(failed=failed.append)
    assert through(guard, "a boom b") == text
    assert set(failed) == {"words"}
    assert guard.denied == (mode == "closed")


def test_a_classifier_that_fails_is_heard_of_too() -> None:
    failed: list[str] = []
    found = reader(Policy(actions={"PERSON": "mask"}), classifier=Predicting())
    assert through(found.open(failed=failed.append), "a crash happens. ") == ""
    assert set(failed) == {"classifier"}


def test_deny_patterns_look_at_sentences() -> None:
    patterns = PatternSet(deny=[UserPattern("d", "blue *bird")])
    guard = reader(patterns=patterns).open()
    assert through(guard, "A sentence that is fine. ", "The blue", "", "  bird sings. ", "More.") == (
        "A sentence that is fine. The "
    )
    assert guard.denied


def test_allow_patterns_are_for_requests() -> None:
    patterns = PatternSet(allow=[UserPattern("a", "invoice")])
    assert through(reader(patterns=patterns).open(), "a poem about nothing") == "a poem about nothing"


def test_the_classifier_is_asked_only_where_somebody_acts_on_it() -> None:
    idle = Predicting()
    nobody = Policy(actions={"default": "report"})
    assert through(reader(nobody, classifier=idle).open(), "Bob is here. ") == "Bob is here. "
    assert not idle.sentences
    assert not reader(nobody, classifier=idle).reads_sentences
    assert reader(nobody, classifier=idle, statements=True).reads_sentences


def test_names_are_masked_and_statements_left_alone_unless_wanted() -> None:
    policy = Policy(actions={"PERSON": "mask", "BUSINESS_FINANCE": "deny"})
    text = "Bob earns ten more per month. "
    assert through(reader(policy, classifier=Predicting()).open(), text) == "[PERSON] earns ten more per month. "
    assert through(reader(policy, classifier=Predicting(), statements=True).open(), text) == ""


def test_guards_of_one_reader_share_nothing() -> None:
    found = reader()
    first, second = found.open(), found.open()
    first.feed("a sk-1 ", end=True)
    assert first.denied
    assert through(second, "fine") == "fine"


def test_a_detector_without_open_from_holds_nothing_back() -> None:
    class Plain:
        name = "plain"

        def find(self, text: Text) -> list[Finding]:
            return []

    guard = AnswerReader(Guard(Policy(), [(Plain(), "closed")])).open()
    assert guard.feed("half a wo").text == "half a wo"


@pytest.mark.parametrize(("exceeded", "denied"), [("deny", True), ("report", False)])
def test_what_stays_open_for_too_long(exceeded: Any, denied: bool) -> None:
    guard = reader(Policy(budget=Budget(exceeded=exceeded))).open()
    text = "x" * 20_000
    out = through(guard, text)
    assert guard.denied == denied
    assert out == ("" if denied else text)


def test_values_that_are_allowed_pass() -> None:
    assert through(reader(Policy(allowed_values=("sk-1",))).open(), "a sk-1 b") == "a sk-1 b"
