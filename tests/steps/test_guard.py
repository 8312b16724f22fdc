"""The guard step: refusals, masks, reports, the judge, and what is looked at again."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from detectors.findings import Finding
from detectors.guard import Guard
from detectors.judge import Opinion
from detectors.masking import Vault
from detectors.patterns import PatternSet, UserPattern
from detectors.policy import Budget, FailureMode, Policy
from detectors.text import Text
from extproc.exchange.values import Decision, LocalReply
from extproc.live.conversations import Conversations
from extproc.payload.guard.request import PassageKind
from extproc.steps.guard import COMPATIBLE_JUDGE, COMPATIBLE_TEXT
from extproc.steps.head import RequestHead
from extproc.steps.pipeline import decide
from extproc.steps.request import Request
from extproc.steps.route import open_route
from extproc.steps.routes import Backend, HostRoutes, RouteRule, RouteTable
from extproc.steps.watch import Result, Watch
from tests.support.courses import worked

WORDS = {"ann@b.c": "EMAIL", "Bob": "PERSON", "sk-1": "SECRET"}


class Words:
    name = "words"

    def __init__(self) -> None:
        self.texts: list[str] = []

    def find(self, text: Text) -> list[Finding]:
        self.texts.append(text.original)
        if "boom" in text.original:
            raise RuntimeError("boom")
        return [
            Finding(at, at + len(word), category, 1.0, self.name)
            for word, category in WORDS.items()
            if (at := text.original.find(word)) >= 0
        ]


async def at_once(work: Callable[[], Result], _seconds: float) -> Result:
    return work()


async def too_late(_work: Callable[[], Result], _seconds: float) -> Result:
    raise TimeoutError


def watch(
    policy: Policy | None = None,
    *,
    words: Words | None = None,
    patterns: PatternSet | None = None,
    mode: FailureMode = "closed",
    **changes: Any,
) -> Watch:
    guard = Guard(policy or Policy(), [(words or Words(), mode)], patterns=patterns)
    values: dict[str, Any] = {"name": "p", "guard": guard, "examine": at_once, "longest": 1.0, **changes}
    return Watch(**values)


def chat(*contents: str, role: str = "user") -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": role, "content": content} for content in contents]}


async def ran(
    body: Mapping[str, Any] | bytes, *watches: Watch, **headers: str
) -> tuple[Request, Decision | LocalReply]:
    head = RequestHead(
        {
            ":method": b"POST",
            ":path": b"/v1/chat/completions",
            ":authority": b"api",
            **{name.replace("_", "-"): value.encode() for name, value in headers.items()},
        }
    )
    rule = RouteRule("r/0", (Backend("provider/p", 1, is_provider=True, watches=watches),), pass_non_json=True)
    opened = open_route(RouteTable({"api": HostRoutes("api", (rule,))}), head)
    assert not isinstance(opened, LocalReply)
    request = Request(head, *opened, body_limit=300_000, now=0.0, expect=lambda _model, size: (size, 0))
    request.raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return request, await worked(decide(request))


async def denied(body: Mapping[str, Any] | bytes, *watches: Watch, **headers: str) -> tuple[int, str]:
    _, answer = await ran(body, *watches, **headers)
    assert isinstance(answer, LocalReply), answer
    return answer.status, json.loads(answer.body)["error"]["code"]


async def sent(body: Mapping[str, Any], *watches: Watch, **headers: str) -> Any:
    _, decision = await ran(body, *watches, **headers)
    assert isinstance(decision, Decision), decision
    return json.loads(decision.body) if decision.body is not None else None


async def test_what_is_denied_gets_403_and_a_reason_without_the_text() -> None:
    request, answer = await ran(chat("key sk-1"), watch())
    assert isinstance(answer, LocalReply)
    error = json.loads(answer.body)["error"]
    assert answer.status == 403
    assert error["code"] == "secret"
    assert b"sk-1" not in answer.body
    assert dict(answer.headers)["x-sluice-reason"] == b"secret"
    assert request.guarding is not None
    assert request.guarding.denied_by == "p/SECRET"


async def test_the_refusal_of_the_documents() -> None:
    _, answer = await ran(chat("key sk-1"), watch(plain_refusal=True))
    assert isinstance(answer, LocalReply)
    assert (answer.status, answer.body) == (403, COMPATIBLE_TEXT)
    assert dict(answer.headers)["content-type"].startswith(b"text/plain")


async def test_values_are_masked_and_everything_else_stays() -> None:
    body = {**chat("Bob writes to ann@b.c", "ann@b.c again"), "temperature": 0.5}
    after = await sent(body, watch(Policy(actions={"PERSON": "mask"})))
    assert [each["content"] for each in after["messages"]] == ["<PERSON_1> writes to <EMAIL_1>", "<EMAIL_1> again"]
    assert after["temperature"] == 0.5


async def test_placeholders_in_tool_arguments_leave_the_json_whole() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"to": "ann@b.c"}'}}
    body = {"messages": [{"role": "assistant", "content": None, "tool_calls": [call]}]}
    after = await sent(body, watch())
    arguments = after["messages"][0]["tool_calls"][0]["function"]["arguments"]
    assert json.loads(arguments) == {"to": "<EMAIL_1>"}


async def test_reports_are_counted_and_change_nothing() -> None:
    request, decision = await ran(chat("Bob"), watch())
    assert isinstance(decision, Decision)
    assert decision.body is None
    assert request.guarding is not None
    assert dict(request.guarding.seen) == {("p", "PERSON", "report", "request"): 1}


async def test_a_dry_run_counts_what_it_would_have_done() -> None:
    request, decision = await ran(chat("sk-1 ann@b.c"), watch(dry_run=True))
    assert isinstance(decision, Decision)
    assert decision.body is None
    assert request.guarding is not None
    assert set(request.guarding.seen) == {
        ("p", "SECRET", "would_deny", "request"),
        ("p", "EMAIL", "would_mask", "request"),
    }


@pytest.mark.parametrize(
    ("kinds", "status"),
    [
        (frozenset(PassageKind), 403),
        (frozenset((PassageKind.LAST_USER,)), 403),
        (frozenset((PassageKind.USER,)), 0),
        (frozenset(), 0),
    ],
)
async def test_only_what_the_policy_names_is_looked_at(kinds: frozenset[PassageKind], status: int) -> None:
    _, outcome = await ran(chat("hi", "sk-1"), watch(kinds=kinds))
    assert (outcome.status if isinstance(outcome, LocalReply) else 0) == status


def said(role: str, content: str) -> dict[str, Any]:
    return {"role": role, "content": content}


CALL = {"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{}"}}]}
LATER = [
    [said("user", "my key sk-1"), said("user", "hello")],  # refused before, so the assistant never answered
    [said("user", "my key sk-1"), said("assistant", "do not share it"), said("user", "hello")],
    [said("user", "hello"), said("assistant", "write sk-1 there"), said("user", "thanks")],
    [said("user", "read it"), CALL, said("tool", "it holds sk-1"), said("assistant", "done"), said("user", "hello")],
    [said("user", "use sk-1"), CALL, {"role": "tool", "tool_call_id": "1", "content": "ok"}],
    [said("user", "hello"), said("assistant", "the key is sk-1")],
]


@pytest.mark.parametrize("messages", LATER)
async def test_no_earlier_turn_and_no_assistant_denies_a_later_turn_but_all_is_masked(
    messages: list[dict[str, Any]],
) -> None:
    after = json.dumps(await sent({"model": "m", "messages": messages}, watch()))
    assert "sk-1" not in after
    assert "<SECRET_1>" in after


@pytest.mark.parametrize(
    "messages",
    [
        [said("user", "hello"), said("assistant", "yes?"), said("user", "my key sk-1")],
        [said("user", "read it"), CALL, said("tool", "it holds sk-1")],
        [said("user", "my key sk-1"), said("assistant", "Sure, the")],  # the client begins the answer itself
        [said("system", "the key is sk-1"), said("user", "hello"), said("assistant", "yes?"), said("user", "bye")],
    ],
)
async def test_the_newest_turn_and_the_system_prompt_are_denied(messages: list[dict[str, Any]]) -> None:
    assert await denied({"model": "m", "messages": messages}, watch()) == (403, "secret")


async def test_a_deny_pattern_in_the_history_does_not_leave() -> None:
    deny = PatternSet(deny=[UserPattern("d", "(?i)project aurora")])
    messages = [said("user", "about Project Aurora"), said("assistant", "no"), said("user", "hello")]
    after = await sent({"model": "m", "messages": messages}, watch(patterns=deny))
    assert after["messages"][0]["content"] == "about <DENY_PATTERN_1>"


async def test_what_the_judge_denied_does_not_leave_with_the_history() -> None:
    class Strict(Judge):
        async def __call__(self, texts: list[str]) -> list[Opinion | None]:
            self.asked += texts
            return [Opinion("plan" in text) for text in texts]

    messages = [said("user", "our plan"), said("user", "hello")]
    judge = Strict(None)
    after = await sent({"model": "m", "messages": messages}, watch(judge=judge, judge_always=True))
    assert [each["content"] for each in after["messages"]] == ["<JUDGE_1>", "hello"]
    assert judge.asked == ["our plan", "hello"]


async def test_a_value_found_once_is_masked_wherever_it_stands_as_a_whole_word() -> None:
    class Once(Words):
        def find(self, text: Text) -> list[Finding]:
            return [each for each in super().find(text) if text.original.startswith("from")]

    policy = Policy(actions={"PERSON": "mask"})
    messages = [
        said("user", "Bobby met Bob."),
        said("assistant", "Bob, Bob_2"),
        said("user", "from Bob"),
        said("user", "問Bob吧"),
    ]
    after = await sent({"model": "m", "messages": messages}, watch(policy, words=Once()))
    assert [each["content"] for each in after["messages"]] == [
        "Bobby met <PERSON_1>.",
        "<PERSON_1>, <PERSON_1>_2",
        "from <PERSON_1>",
        "問<PERSON_1>吧",
    ]


async def test_a_longer_chat_costs_its_new_message_only() -> None:
    words = Words()
    guarded = watch(words=words)
    await ran(chat("one"), guarded)
    await ran(chat("one", "two"), guarded)
    await ran(chat("one", "two", "one"), guarded)
    assert words.texts == ["m", "one", "two"]


async def test_two_policies_both_hold() -> None:
    strict = watch(Policy(actions={"PERSON": "deny"}), name="q")
    assert await denied(chat("Bob"), watch(), strict) == (403, "person")
    assert await denied(chat("Bob"), strict, watch()) == (403, "person")


async def test_one_allow_pattern_must_match_one_of_the_messages() -> None:
    allow = PatternSet(allow=[UserPattern("a", "ticket")], deny=[UserPattern("d", "(?i)aurora")])
    assert await denied(chat("hi"), watch(patterns=allow)) == (403, "allow_pattern")
    assert await sent(chat("hi", "ticket 4"), watch(patterns=allow)) is None
    assert await denied(chat("ticket AURORA"), watch(patterns=allow)) == (403, "deny_pattern")


@pytest.mark.parametrize(("mode", "status"), [("closed", 403), ("open", 0)])
async def test_a_detector_that_fails(mode: FailureMode, status: int) -> None:
    request, outcome = await ran(chat("boom"), watch(mode=mode))
    assert (outcome.status if isinstance(outcome, LocalReply) else 0) == status
    assert request.guarding is not None
    assert dict(request.guarding.failures) == {("p", "words"): 1}


@pytest.mark.parametrize(("exceeded", "status"), [("deny", 403), ("report", 0)])
async def test_a_detector_that_takes_too_long(exceeded: str, status: int) -> None:
    policy = Policy(budget=Budget(exceeded=exceeded))  # type: ignore[arg-type]
    request, outcome = await ran(chat("hi"), watch(policy, examine=too_late))
    assert (outcome.status if isinstance(outcome, LocalReply) else 0) == status
    assert request.guarding is not None
    assert dict(request.guarding.failures) == {("p", "budget"): 2}


async def test_the_budget_of_characters_is_that_of_a_request() -> None:
    policy = Policy(budget=Budget(characters=10))
    words = Words()
    assert await denied(chat("a" * 8, "b" * 8), watch(policy, words=words)) == (403, "unchecked")
    assert words.texts == ["m", "a" * 8]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, "unchecked"),
        ({"prompt": [1, 2]}, "unchecked"),
    ],
)
async def test_media_may_be_refused(body: dict[str, Any], code: str) -> None:
    body = {"messages": [{"role": "user", "content": "hi"}], **body}
    assert await denied(body, watch(media=False)) == (403, code)
    assert await sent(body, watch()) is None


async def test_a_body_that_is_no_json_may_be_refused() -> None:
    assert await denied(b"\x00", watch(media=False), content_type="audio/wav") == (403, "unchecked")


class Judge:
    def __init__(self, opinion: Opinion | None) -> None:
        self.opinion = opinion
        self.asked: list[str] = []

    async def __call__(self, texts: list[str]) -> list[Opinion | None]:
        self.asked += texts
        return [self.opinion] * len(texts)


async def test_a_judge_that_is_always_asked() -> None:
    judge = Judge(Opinion(True, "it is internal"))
    _, answer = await ran(chat("our plan"), watch(judge=judge, judge_always=True))
    assert isinstance(answer, LocalReply)
    error = json.loads(answer.body)["error"]
    assert (error["code"], error["message"]) == ("judge", "it is internal")
    assert judge.asked == ["our plan"]


async def test_the_judges_refusal_in_the_words_of_the_documents() -> None:
    judge = Judge(Opinion(True, "会议"))
    _, answer = await ran(chat("x"), watch(judge=judge, judge_always=True, plain_refusal=True))
    assert isinstance(answer, LocalReply)
    assert answer.body == COMPATIBLE_JUDGE + '{"result": "deny", "reason": "会议"}'.encode()


async def test_a_judge_is_not_asked_where_it_would_change_nothing() -> None:
    judge = Judge(Opinion(False))
    await ran(chat("plain text"), watch(judge=judge))
    await ran(chat("sk-1"), watch(judge=judge, judge_always=True))
    await ran(chat("only a tool", role="tool"), watch(judge=judge, judge_always=True))
    assert judge.asked == []


@pytest.mark.parametrize(("closed", "status"), [(True, 403), (False, 0)])
async def test_a_judge_that_cannot_be_reached(closed: bool, status: int) -> None:
    request, outcome = await ran(chat("x"), watch(judge=Judge(None), judge_always=True, judge_closed=closed))
    assert (outcome.status if isinstance(outcome, LocalReply) else 0) == status
    assert request.guarding is not None
    assert dict(request.guarding.failures) == {("p", "judge"): 1}


async def test_a_conversation_keeps_its_placeholders() -> None:
    vaults: dict[str, Vault] = {}
    guarded = watch(conversation_header="x-chat", vaults=lambda key, _now: vaults.setdefault(key, Vault()))
    await ran(chat("ann@b.c"), guarded, x_chat="7", authorization="Bearer a")
    WORDS["eve@b.c"] = "EMAIL"
    try:
        after = await sent(chat("eve@b.c"), guarded, x_chat="7", authorization="Bearer a")
        other = await sent(chat("eve@b.c"), guarded, x_chat="8", authorization="Bearer a")
    finally:
        del WORDS["eve@b.c"]
    assert after["messages"][0]["content"] == "<EMAIL_2>"
    assert other["messages"][0]["content"] == "<EMAIL_1>"


async def test_literals_of_later_messages_are_kept_apart_from_placeholders() -> None:
    """A number that a later message uses literally is not given to a value of an earlier one."""
    after = await sent(chat("ann@b.c", "what does <EMAIL_1> mean?"), watch())
    assert [each["content"] for each in after["messages"]] == ["<EMAIL_2>", "what does <EMAIL_1> mean?"]


async def test_a_value_found_once_is_masked_in_every_writing() -> None:
    note = json.dumps({"to": "\u0061nn@b.c", "deep": json.dumps({"x": "ann@b.c"})})
    call = {
        "id": "call_1",
        "type": "function",
        "function": {"name": "f", "arguments": note.replace("ann", "\\u0061nn")},
    }
    body = {"messages": [{"role": "user", "content": "ann@b.c"}, {"role": "assistant", "tool_calls": [call]}]}
    after = await sent(body, watch())
    arguments = json.loads(after["messages"][1]["tool_calls"][0]["function"]["arguments"])
    assert (arguments["to"], json.loads(arguments["deep"])) == ("<EMAIL_1>", {"x": "<EMAIL_1>"})


async def test_a_long_body_is_read_and_masked_in_a_thread() -> None:
    works: list[str] = []

    async def noted(work: Callable[[], Result], _seconds: float) -> Result:
        works.append(type(found := work()).__name__)
        return found

    after = await sent(chat("ann@b.c " + "x " * 8000), watch(examine=noted))
    assert after["messages"][0]["content"].startswith("<EMAIL_1> x")
    assert works == ["NoneType", "list", "NoneType"]


async def test_a_conversation_belongs_to_its_caller() -> None:
    """Naming another's conversation gives none of its values, and without an identity nothing is kept."""
    kept = Conversations()
    options: dict[str, Any] = {"conversation_header": "x-talk", "vaults": lambda key, now: kept.vault(key, now, 60.0)}

    async def vault(**headers: str) -> Vault:
        request, _ = await ran(chat("ann@b.c"), watch(**options), x_talk="t", **headers)
        assert request.guarding is not None and request.guarding.vault is not None
        return request.guarding.vault

    first = await vault(authorization="Bearer one")
    assert await vault(authorization="bearer  one ") is first
    assert await vault(authorization="Bearer two") is not first
    assert await vault(x_api_key="one") is not first
    assert await vault() is not await vault()
