"""Harmless sessions: their shape, none refused, and a refusal that is noticed."""

from __future__ import annotations

from bench.guard.harmless import run
from bench.guard.sessions import FOLDER, SESSIONS, TURNS, Session, exchanges, sessions
from extproc.resources.kinds.security import ClassifierSettings, LLMSecurityPolicySpec

LOCAL = LLMSecurityPolicySpec(classifier=ClassifierSettings(enabled=False))


def test_a_hundred_sessions_of_ten_turns_that_use_every_exchange() -> None:
    made = sessions()
    assert len(made) == 100
    assert all(len(session.exchanges) * 2 == TURNS == len(set(session.exchanges)) * 2 for session in made)
    assert made == sessions()
    known = {each for name in SESSIONS for each in exchanges(FOLDER / f"{name}.txt")}
    assert {each for session in made for each in session.exchanges} == known
    assert all(said and answered for said, answered in known)


def test_each_request_holds_what_was_said_before() -> None:
    bodies = list(Session("s", (("a", "b"), ("c", "d"))).requests())
    assert [[each["content"] for each in body["messages"]] for body in bodies] == [["a"], ["a", "b", "c"]]


async def test_no_harmless_session_is_refused_by_patterns_and_secrets() -> None:
    assert (await run(sessions(), LOCAL)).refused == {}


async def test_what_is_refused_is_counted_once_and_does_not_refuse_later_turns() -> None:
    secret = "sk-" + "proj-" + "aB3dE5fG7hJ9kL1mN2pQ4rS6tU8vW0xY2zA4bC6d"
    leak = Session("leak", (("hello", "yes?"), (f"my key: {secret}", "no"), ("bye", "bye")))
    outcome = await run([leak], LOCAL)
    assert outcome.refused == {"leak": "secret"}
    assert (outcome.seen["SECRET deny"], outcome.seen["SECRET mask"]) == (1, 1)
    assert str(outcome.bars()[0]) == "bar harmless-sessions-refused 1 0 short"
