"""Policies in force: what the detectors are told, what a reload keeps, what is refused, how long anything is kept."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from detectors.guard import Check
from detectors.policy import Policy
from extproc.live.conversations import Conversations
from extproc.live.security import Security, SecurityError, kinds_of, policy_of
from extproc.payload.guard.request import PassageKind
from extproc.resources.base import decode_hook
from extproc.resources.kinds.security import Inspection, LLMSecurityPolicy
from extproc.resources.secrets import SecretStore
from extproc.resources.snapshot import Snapshot
from extproc.steps.watch import Watch

NONE = {name: {"enabled": False} for name in ("patterns", "secrets", "classifier")}
"""A policy that loads no library."""


def resource(name: str = "p", **spec: Any) -> LLMSecurityPolicy:
    document = {"apiVersion": "sluice.dev/v1alpha1", "kind": "LLMSecurityPolicy", "metadata": {"name": name}}
    return msgspec.convert({**document, "spec": {**NONE, **spec}}, LLMSecurityPolicy, dec_hook=decode_hook)


def snapshot(*resources: LLMSecurityPolicy) -> Snapshot:
    return Snapshot(security={each.metadata.name: each for each in resources})


async def put(security: Security, wanted: Snapshot, secrets: SecretStore) -> Mapping[str, Watch]:
    """A configuration in force."""
    change = await security.prepare(wanted, secrets)
    change.commit()
    return change.watches


@pytest.fixture
def secrets(tmp_path: Path) -> SecretStore:
    return SecretStore({"JUDGE_KEY": "k"}, tmp_path)


@pytest.fixture
async def security() -> AsyncIterator[Security]:
    found = Security()
    yield found
    await found.stop()


def test_a_resource_without_fields_is_the_default_policy() -> None:
    document = {"apiVersion": "sluice.dev/v1alpha1", "kind": "LLMSecurityPolicy", "metadata": {"name": "p"}}
    assert policy_of(msgspec.convert(document, LLMSecurityPolicy, dec_hook=decode_hook).spec) == Policy()


def test_every_field_reaches_the_detectors(tmp_path: Path) -> None:
    spec = resource(
        allowPatterns=["a"],
        denyPatterns=["b"],
        recognisers=[{"name": "n", "category": "STAFF", "pattern": "S[0-9]+", "score": 0.7, "context": ["staff"]}],
        patterns={"enabled": True, "failureMode": "open"},
        secrets={"enabled": False, "failureMode": "open"},
        classifier={"enabled": True, "failureMode": "open", "model": "m", "thresholds": {"INJECTION": 0.4}},
        actions={"EMAIL": "report", "default": "deny"},
        allowedValues=["me@example.org"],
        minimumScore=0.5,
        budget={"characters": 10, "time": "1500ms", "exceeded": "report"},
    ).spec
    found = policy_of(spec, tmp_path)
    assert (found.allow_patterns, found.deny_patterns) == (("a",), ("b",))
    [own] = found.recognisers
    assert (own.name, own.category, own.pattern, own.score, own.context) == ("n", "STAFF", "S[0-9]+", 0.7, ("staff",))
    assert (found.patterns.enabled, found.patterns.failure_mode) == (True, "open")
    assert (found.secrets.enabled, found.secrets.failure_mode) == (False, "open")
    assert found.classifier.model == tmp_path / "m"
    assert found.classifier.failure_mode == "open"
    assert found.classifier.thresholds == {"INJECTION": 0.4}
    assert found.action("EMAIL") == "report"
    assert found.action("PHONE") == "deny"
    assert found.allowed_values == ("me@example.org",)
    assert found.minimum_score == 0.5
    assert (found.budget.characters, found.budget.milliseconds, found.budget.exceeded) == (10, 1500, "report")


@pytest.mark.parametrize(
    ("inspect", "kinds"),
    [
        ({}, set(PassageKind)),
        ({"messages": "lastUser"}, {*PassageKind} - {PassageKind.USER, PassageKind.ASSISTANT}),
        ({"messages": "none", "tools": False}, {PassageKind.SYSTEM, PassageKind.SETTING}),
        ({"messages": "none", "tools": False, "systemPrompt": False, "response": True}, set()),
    ],
)
def test_the_texts_that_are_looked_at(inspect: dict[str, Any], kinds: set[PassageKind]) -> None:
    assert kinds_of(msgspec.convert(inspect, Inspection)) == kinds


async def test_a_guard_outlives_changes_that_do_not_touch_it(security: Security, secrets: SecretStore) -> None:
    """Its memory of texts is worth keeping, unless it would remember for other rules."""
    first = await put(security, snapshot(resource(denyPatterns=["a"])), secrets)
    same = await put(security, snapshot(resource(denyPatterns=["a"], dryRun=True), resource("q")), secrets)
    assert same["p"].guard is first["p"].guard
    assert same["p"].dry_run
    assert not first["p"].dry_run
    other = await put(security, snapshot(resource(denyPatterns=["b"])), secrets)
    assert other["p"].guard is not first["p"].guard
    assert list(other) == ["p"]


async def test_a_policy_becomes_a_watch(security: Security, secrets: SecretStore) -> None:
    spec: dict[str, Any] = {
        "inspect": {"media": "deny", "response": True},
        "message": "text",
        "masking": {"restore": False, "conversationHeader": "X-Talk"},
        "judge": {"host": "j", "model": "m", "when": "always", "failureMode": "open", "apiKey": "${JUDGE_KEY}"},
    }
    found = (await put(security, snapshot(resource(**spec)), secrets))["p"]
    assert (found.name, found.media, found.plain_refusal, found.restore) == ("p", False, True, False)
    assert found.conversation_header == "x-talk"
    assert found.reader is not None
    assert found.judge is not None
    assert (found.judge_always, found.judge_closed) == (True, False)
    assert found.vaults is not None
    assert found.vaults("a", 0.0) is found.vaults("a", 1.0)
    plain = (await put(security, snapshot(resource()), secrets))["p"]
    assert (plain.reader, plain.judge, plain.vaults, plain.media) == (None, None, None, True)


async def test_a_judge_is_kept_while_its_settings_stay(security: Security, secrets: SecretStore) -> None:
    judge = {"host": "j", "model": "m"}
    first = (await put(security, snapshot(resource(judge=judge)), secrets))["p"]
    same = (await put(security, snapshot(resource(judge=judge, dryRun=True)), secrets))["p"]
    other = (await put(security, snapshot(resource(judge={**judge, "model": "n"})), secrets))["p"]
    assert same.judge == first.judge
    assert other.judge != first.judge


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"classifier": {"enabled": True, "model": "nowhere"}}, "nowhere"),
        ({"denyPatterns": ["("]}, "missing )"),
        ({"denyPatterns": ["a*"]}, "empty"),
    ],
)
async def test_what_cannot_be_put_in_force_changes_nothing(
    security: Security, secrets: SecretStore, tmp_path: Path, spec: dict[str, Any], said: str
) -> None:
    first = await put(security, snapshot(resource(denyPatterns=["a"])), secrets)
    bad = Snapshot(security={"p": resource(**spec)}, directory=tmp_path)
    with pytest.raises(SecurityError, match=r"LLMSecurityPolicy/p: ") as refused:
        await security.prepare(bad, secrets)
    assert said in str(refused.value)
    again = await put(security, snapshot(resource(denyPatterns=["a"])), secrets)
    assert again["p"].guard is first["p"].guard


async def test_work_runs_beside_the_loop(security: Security) -> None:
    def work() -> list[Check]:
        assert threading.current_thread() is not threading.main_thread()
        return [Check()]

    assert await security.run(work, 5.0) == [Check()]


async def test_work_that_takes_too_long_is_given_up(security: Security, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("extproc.live.security._GRACE", 0.0)
    let_go = threading.Event()

    def stuck() -> list[Check]:
        let_go.wait(20)
        return []

    try:
        with pytest.raises(TimeoutError):
            await security.run(stuck, 0.01)
    finally:
        let_go.set()


async def test_nothing_runs_in_threads_before_it_is_needed(security: Security, secrets: SecretStore) -> None:
    await put(security, snapshot(resource()), secrets)
    assert not [each for each in threading.enumerate() if each.name.startswith("detect")]


class TestConversations:
    def test_a_conversation_lives_as_long_as_it_is_used(self) -> None:
        found = Conversations()
        vault = found.vault("a", 0.0, 10.0)
        assert found.vault("a", 9.0, 10.0) is vault
        assert found.vault("a", 18.0, 10.0) is vault
        assert found.vault("a", 28.5, 10.0) is not vault

    def test_conversations_share_nothing(self) -> None:
        found = Conversations()
        found.vault("a", 0.0, 10.0).placeholder("EMAIL", "x")
        assert len(found.vault("b", 0.0, 10.0)) == 0

    def test_the_one_longest_unused_goes_first(self) -> None:
        found = Conversations(most=2)
        first, second = found.vault("a", 0.0, 10.0), found.vault("b", 0.0, 10.0)
        assert found.vault("a", 1.0, 10.0) is first
        found.vault("c", 2.0, 10.0)
        assert found.vault("a", 3.0, 10.0) is first
        assert found.vault("b", 4.0, 10.0) is not second

    def test_what_is_over_is_forgotten_without_being_asked_for(self) -> None:
        found = Conversations()
        for i in range(8):
            found.vault(f"old{i}", 0.0, 1.0)
        found.vault("new", 5.0, 1.0)
        assert repr(found) == "<Conversations: 1>"
