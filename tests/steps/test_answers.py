"""The filters of an answer: every policy in turn, then the placeholders."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from detectors.answers import AnswerReader
from detectors.findings import Finding
from detectors.guard import Guard
from detectors.masking import Vault
from detectors.policy import Action, Policy
from detectors.text import Text
from extproc.payload.guard.fields import TextChannel, TextFilter
from extproc.steps.answers import answer_filter, fails_closed, watches_only
from extproc.steps.watch import Guarding, Result, Watch

CONTENT, ARGUMENTS, ECHO = TextChannel("content", 0), TextChannel("arguments", 0), TextChannel("echo", 0)


class Word:
    """Finds one word, and fails on another."""

    name = "word"

    def __init__(self, word: str, category: str) -> None:
        self._word, self._category = word, category

    def find(self, text: Text) -> list[Finding]:
        if "boom" in text.original:
            raise RuntimeError("boom")
        at = text.original.find(self._word)
        return [Finding(at, at + len(self._word), self._category, 1.0, self.name)] if at >= 0 else []

    def open_from(self, plain: str, _since: int) -> int:
        return plain.rfind(" ") + 1


async def never(_work: Callable[[], Result], _seconds: float) -> Result:
    raise AssertionError("answers are looked at where they come")


def watch(
    name: str,
    word: str = "ann@b.c",
    action: Action = "mask",
    *,
    reads: bool = True,
    dry: bool = False,
    back: bool = True,
) -> Watch:
    guard = Guard(Policy(actions={"EMAIL": action}), [(Word(word, "EMAIL"), "closed")])
    return Watch(name, guard, never, 1.0, reader=AnswerReader(guard) if reads else None, dry_run=dry, restore=back)


def masked() -> Vault:
    vault = Vault()
    vault.placeholder("EMAIL", 'the "client"')
    return vault


def opened(state: Guarding, channel: TextChannel = CONTENT) -> TextFilter:
    open_filter = answer_filter(state)
    assert open_filter is not None
    return open_filter(channel)


def through(text_filter: TextFilter, *pieces: str) -> tuple[str, bool]:
    found = [text_filter.feed(piece, end=False) for piece in pieces] + [text_filter.feed("", end=True)]
    return "".join(piece.text for piece in found), any(piece.denied for piece in found)


def test_nothing_is_filtered_where_nobody_looks_and_nothing_was_masked() -> None:
    assert answer_filter(Guarding((watch("p", reads=False),))) is None
    assert answer_filter(Guarding((watch("p", reads=False, back=False),), vault=masked())) is None
    assert answer_filter(Guarding((watch("p", reads=False),), vault=masked())) is not None


def test_placeholders_are_put_back_behind_the_guard() -> None:
    """What comes back is the client's own, so it is not found again."""
    vault = Vault()
    vault.placeholder("EMAIL", "ann@b.c")
    state = Guarding((watch("p"),), vault=vault)
    assert through(opened(state), "to <EMA", "IL_1> and ann@", "b.c ok") == ("to ann@b.c and [EMAIL] ok", False)


def test_arguments_stay_json() -> None:
    state = Guarding((watch("p", reads=False),), vault=masked())
    assert through(opened(state, ARGUMENTS), '{"a": "<EMAIL', '_1>"}') == ('{"a": "the \\"client\\""}', False)
    assert through(opened(state), "<EMAIL_1>") == ('the "client"', False)


def test_every_policy_looks() -> None:
    state = Guarding((watch("p", "ann@b.c"), watch("q", "bob@b.c")))
    assert through(opened(state), "ann@b.c and bob@b.c ok") == ("[EMAIL] and [EMAIL] ok", False)
    assert set(state.seen) == {("p", "EMAIL", "mask", "response"), ("q", "EMAIL", "mask", "response")}


@pytest.mark.parametrize("order", [0, 1])
def test_one_that_denies_is_enough(order: int) -> None:
    watches = [watch("masks", "ann@b.c"), watch("denies", "bob@b.c", "deny")]
    state = Guarding(tuple(watches if order else reversed(watches)))
    assert through(opened(state), "ann@b.c then bob@b.c ", "and more") == ("[EMAIL] then ", True)
    assert state.denied_by == "denies/EMAIL"


def test_a_dry_run_counts_and_passes() -> None:
    state = Guarding((watch("p", action="deny", dry=True),))
    assert through(opened(state), "to ann@b.c ok") == ("to ann@b.c ok", False)
    assert dict(state.seen) == {("p", "EMAIL", "would_deny", "response"): 1}
    assert state.denied_by == ""


def test_what_repeats_the_request_is_not_looked_at_but_restored() -> None:
    state = Guarding((watch("p", action="deny"),), vault=masked())
    assert through(opened(state, ECHO), "ann@b.c <EMAIL_1>") == ('ann@b.c the "client"', False)


def test_a_detector_that_fails_is_counted_and_denies() -> None:
    state = Guarding((watch("p"),))
    assert through(opened(state), "fine boom ") == ("", True)
    assert state.failures["p", "word"] >= 1
    assert state.denied_by == "p/UNCHECKED"


def test_texts_of_one_answer_share_only_the_counts() -> None:
    state = Guarding((watch("p", action="deny"),))
    first, second = opened(state), opened(state, TextChannel("content", 1))
    assert through(first, "ann@b.c ") == ("", True)
    assert through(second, "fine") == ("fine", False)


@pytest.mark.parametrize(
    ("watches", "vault", "closed", "only"),
    [
        ((watch("p"),), None, True, False),
        ((watch("p", dry=True),), None, False, True),
        ((watch("p", reads=False),), masked(), False, False),
        ((watch("p", dry=True), watch("q")), None, True, False),
        ((watch("p", dry=True),), masked(), False, False),
        ((watch("p", reads=False, back=False),), masked(), False, True),
    ],
)
def test_what_must_not_pass_unseen(watches: tuple[Watch, ...], vault: Vault | None, closed: bool, only: bool) -> None:
    state = Guarding(watches, vault=vault)
    assert fails_closed(state) == closed
    assert watches_only(state) == only
