"""The step of flow control: jobs, refusals, waits, kept answers."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.masking import Vault
from extproc.exchange.endings import Ending
from extproc.exchange.values import Decision, LocalReply, ResponsePlan
from extproc.payload.usage import Usage
from extproc.prediction.features import Features
from extproc.prediction.predictor import LengthPrediction, LengthPredictor
from extproc.scheduling.flow import Flow
from extproc.scheduling.job import Job
from extproc.scheduling.policy import (
    Caching,
    ConcurrencyLimiting,
    ConcurrencyScheduling,
    LoadRamping,
    Policies,
    QuotaScheduling,
    RampStep,
    RateLimiting,
)
from extproc.scheduling.state.claims import CacheEntry
from extproc.scheduling.ticket import End, FlowPlace, Outcome, Prepared
from extproc.scheduling.workloads import Scheduler
from extproc.spec import Duration
from extproc.steps.admission import Admission
from extproc.steps.admit import replay
from extproc.steps.head import RequestHead
from extproc.steps.labels import FIXED, Labelling
from extproc.steps.pipeline import decide as course_of
from extproc.steps.request import Request
from extproc.steps.routes import Backend, HostRoutes, RouteRule
from extproc.steps.watch import Guarding
from tests.support.courses import at_once, worked

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
KEPT = {
    "object": "chat.completion",
    "id": "1",
    "model": "theirs",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 4, "completion_tokens": 2},
}


class Gate:
    """Policies with a clock that the test moves."""

    def __init__(self, *, remote: bool = False, predicts: bool = True, **policies: Any) -> None:
        self.now = 0.0
        self.flow = Flow(Policies(**policies), 0.0, remote=remote)
        self.labelling = Labelling((("model", FIXED["model"]),), predicts=True)
        self.predicts = predicts
        self.predictor = LengthPredictor()
        self.jobs: list[Job] = []
        self.remote = remote

    def clock(self) -> float:
        return self.now

    def predict(self, found: Features) -> LengthPrediction:
        return self.predictor.predict(found)

    def caches(self, labels: Mapping[str, str]) -> bool:
        return any(cache.match(labels) for cache in self.flow.caches)

    def new_id(self) -> str:
        return str(len(self.jobs))

    def enter(self, job: Job) -> Outcome | Prepared:
        self.jobs.append(job)
        return self.flow.prepare(job, self.now) if self.remote else self.flow.enter(job, self.now)

    async def ask(self, prepared: Prepared) -> Outcome:
        return self.flow.finish(prepared, self.flow.store.ask(prepared.ask, self.now), self.now)

    def learn(self, found: Features, tokens: int, now: float) -> None:
        self.predictor.learn(found, tokens, now)

    def changed(self) -> None:
        """Nobody else waits."""

    def beside(self, work: Callable[[], LocalReply]) -> Awaitable[LocalReply]:
        raise AssertionError(f"nothing here is long: {work}")


def request(gate: Gate | None, body: dict[str, Any] | bytes = CHAT, **headers: str) -> Request:
    rule = RouteRule("r/0", (Backend("pool/p", 1),), restore_model=True, response_set=(("x-a", b"1"),))
    head = {
        ":method": b"POST",
        ":path": b"/v1/chat/completions",
        ":authority": b"h",
        **{name.replace("_", "-"): value.encode() for name, value in headers.items()},
    }
    routes = HostRoutes("h", (rule,))
    found = Request(RequestHead(head), routes, (rule,), body_limit=1 << 20, now=0.0, expect=lambda _m, n: (n // 4, 9))
    found.raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    found.flow = gate
    return found


def decide(one: Request) -> Decision | LocalReply:
    return at_once(course_of(one))


def answered(outcome: Decision | LocalReply) -> LocalReply:
    assert isinstance(outcome, LocalReply), outcome
    return outcome


def refused(outcome: Decision | LocalReply) -> tuple[int, str, str]:
    answer = answered(outcome)
    error = json.loads(answer.body)["error"]
    assert dict(answer.headers)["x-sluice-reason"] == error["code"].encode()
    assert answer.ending.value == error["code"]
    return answer.status, error["type"], error["code"]


def admission(one: Request) -> Admission:
    assert one.admission is not None
    return one.admission


def test_without_policies_nothing_happens() -> None:
    one = request(None)
    assert isinstance(decide(one), Decision)
    assert one.admission is None


def test_a_job_tells_all_that_policies_look_at() -> None:
    gate = caching()
    assert isinstance(decide(request(gate, {**CHAT, "max_tokens": 70, "max_completion_tokens": 50, "n": 2})), Decision)
    (job,) = gate.jobs
    assert (job.max_tokens, job.endpoint, job.prompt_tokens) == (100, "pool/p m", 8)
    assert job.labels["model"] == "m"
    assert 0 < float(job.labels["predicted_tokens"]) <= 100
    assert 0 < job.output_tokens <= 100
    assert job.cache_key


def test_what_a_policy_does_not_need_is_not_predicted() -> None:
    gate = Gate(predicts=False)
    decide(request(gate))
    assert (gate.jobs[0].output_tokens, gate.jobs[0].labels["predicted_tokens"]) == (9, "9")


@pytest.mark.parametrize(
    ("policies", "expected", "after"),
    [
        (
            {"ramps": (LoadRamping(name="r", steps=(RampStep(0, Duration(1)),)),)},
            (403, "permission_error", "ramped_out"),
            None,
        ),
        (
            {"rates": (RateLimiting(name="r", bucket_capacity=1, fill_amount=1, interval=8, delay_initial_fill=True),)},
            (429, "rate_limit_error", "rate_limited"),
            b"8",
        ),
        (
            {"rates": (RateLimiting(name="r", bucket_capacity=0.5, fill_amount=1),)},
            (429, "rate_limit_error", "exceeds_quota"),
            None,
        ),
        (
            {"quotas": (QuotaScheduling(name="r", bucket_capacity=0.5, fill_amount=1),)},
            (429, "rate_limit_error", "exceeds_quota"),
            None,
        ),
    ],
)
def test_a_refusal_says_why_and_when(policies: Any, expected: tuple[int, str, str], after: bytes | None) -> None:
    answer = answered(decide(request(Gate(**policies))))
    assert refused(answer) == expected
    assert dict(answer.headers).get("retry-after") == after
    assert (dict(answer.headers).get("x-should-retry") == b"false") is (expected[2] == "exceeds_quota")


def test_a_full_queue_tells_the_place_and_the_wait() -> None:
    gate = Gate(slots=(ConcurrencyScheduling(name="s", max_concurrency=1, scheduler=Scheduler(max_size=1)),))
    first, second, third = request(gate), request(gate), request(gate)
    assert isinstance(decide(first), Decision)
    course = course_of(second)
    place = next(course)
    assert isinstance(place, FlowPlace)
    answer = answered(decide(third))
    assert refused(answer) == (503, "server_error", "queue_full")
    assert dict(answer.headers)["x-sluice-queue-position"] == b"2"
    gate.now = 3.0
    ticket = admission(first).ticket
    assert ticket is not None
    ticket.settle(gate.now)
    assert place.outcome == "admitted"
    assert isinstance(at_once(course), Decision)
    assert admission(second).waited(9.0) == 3.0
    assert admission(first).waited(9.0) == 0.0


def test_who_waited_too_long_is_refused_after_the_wait() -> None:
    gate = Gate(slots=(ConcurrencyScheduling(name="s", max_concurrency=1),))
    decide(request(gate))
    one = request(gate)
    course = course_of(one)
    place = next(course)
    gate.now = 11.0
    place.retry(gate.now)
    assert refused(at_once(course)) == (503, "server_error", "queue_timeout")
    assert admission(one).policy == "s"
    assert admission(one).waited(11.0) == 11.0


async def test_a_remote_store_is_asked_beside_the_loop() -> None:
    gate = Gate(remote=True, concurrency=(ConcurrencyLimiting(name="c", max_concurrency=1),))
    for expected in (Decision, LocalReply):
        assert isinstance(await worked(course_of(request(gate))), expected)


def caching() -> Gate:
    return Gate(caches=(Caching(name="c", scope_label_keys=()),))


def keep(gate: Gate, one: Request) -> None:
    ticket = admission(one).ticket
    assert ticket is not None
    ticket.settle(0.0, End(usage=Usage(4, 2), completed=True, answer=json.dumps(KEPT).encode()))


def test_a_kept_answer_comes_back_as_it_is_asked_for() -> None:
    gate = caching()
    one = request(gate)
    decision = decide(one)
    assert isinstance(decision, Decision)
    assert (dict(decision.plan.set_headers)["x-sluice-cache"], decision.plan.keep) == (b"miss", 1 << 20)
    keep(gate, one)
    answer = answered(decide(request(gate)))
    assert (answer.ending, answer.status) == (Ending.CACHED, 200)
    assert json.loads(answer.body) == KEPT
    headers = dict(answer.headers)
    assert (headers["content-type"], headers["x-sluice-cache"], headers["x-a"]) == (b"application/json", b"hit", b"1")
    stream = request(gate, {**CHAT, "stream": True})
    events = answered(decide(stream))
    assert dict(events.headers)["content-type"].startswith(b"text/event-stream")
    assert events.body.endswith(b"data: [DONE]\n\n")
    assert b'"usage"' not in events.body
    usage = answered(decide(request(gate, {**CHAT, "stream": True, "stream_options": {"include_usage": True}})))
    assert b'"completion_tokens":2' in usage.body


@pytest.mark.parametrize("said", ["no-store", "max-age=0, no-cache"])
def test_a_client_that_wants_it_fresh_gets_it_fresh(said: str) -> None:
    gate = caching()
    first = request(gate)
    assert isinstance(decide(first), Decision)
    keep(gate, first)
    decision = decide(request(gate, cache_control=said))
    assert isinstance(decision, Decision)
    assert (dict(decision.plan.set_headers)["x-sluice-cache"], decision.plan.keep) == (b"bypass", 0)


def test_masked_values_are_not_shared() -> None:
    gate = caching()
    one = request(gate)
    one.guarding = Guarding((), vault=Vault())
    assert isinstance(decide(one), Decision)
    assert admission(one).cache == "bypass"


class Loud:
    """A filter that shouts, and denies what has a `!` in it."""

    def feed(self, text: str, *, end: bool) -> Any:
        from extproc.steps.answers import _Piece

        return _Piece(text.upper(), "!" in text)


def test_a_kept_answer_passes_through_the_filters_of_whoever_gets_it() -> None:
    plan = ResponsePlan(open_filter=lambda _channel: Loud(), refusal="no", model="mine")
    entry = CacheEntry(json.dumps(KEPT).encode(), 4, 2, 0.0, 9.0)
    found = json.loads(replay(entry, plan, stream=False, usage=False).body)
    assert (found["choices"][0]["message"]["content"], found["model"]) == ("HELLO", "mine")
    shouted = CacheEntry(entry.body.replace(b"hello", b"hello!"), 4, 2, 0.0, 9.0)
    assert replay(shouted, plan, stream=False, usage=False).ending is Ending.ANSWER_DENIED


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(
        st.sampled_from(["max_tokens", "max_completion_tokens", "n", "tools", "stream_options", "user", "input"]),
        json_values,
    ),
    st.sampled_from(["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses", "/v1/messages"]),
    st.lists(
        st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant", "x"])}, optional={"content": json_values})
    ),
)
def test_no_body_breaks_the_step(fields: dict[str, Any], path: str, messages: list[Any]) -> None:
    gate = caching()
    one = request(gate, {"model": "m", "messages": messages, "prompt": "x", "input": "y", **fields})
    one.head = RequestHead({":method": b"POST", ":path": path.encode(), ":authority": b"h"})
    assert isinstance(decide(one), Decision | LocalReply)
