"""Flow control in a request's way: it may pass, wait, be refused, or be answered from the cache."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial

from extproc.exchange.endings import REFUSALS, Ending, error_body
from extproc.exchange.values import HeaderList, LocalReply, ResponsePlan
from extproc.payload.document import Document
from extproc.payload.guard.answer import guard_answer
from extproc.payload.replay import to_events
from extproc.payload.stream_edit import edit_json_answer
from extproc.prediction.features import Features, features
from extproc.prediction.predictor import LengthPrediction
from extproc.scheduling.cache import cache_key, forbids_storing
from extproc.scheduling.job import Job
from extproc.scheduling.outcome import Reason, Refused
from extproc.scheduling.state.claims import CacheEntry
from extproc.scheduling.ticket import FlowPlace, Hit, Prepared
from extproc.steps.admission import Admission, RequestFlow
from extproc.steps.answers import CACHE_HEADER, response_plan
from extproc.steps.labels import TENANT, labels_of
from extproc.steps.prediction_input import asked, choices, output_limit, sent_body, sent_fields
from extproc.steps.request import JSON_TYPE, Request
from extproc.steps.wait import Waiting, beside

EVENTS_TYPE = ("content-type", b"text/event-stream; charset=utf-8")
_INLINE = 4096
"""Bytes of a kept answer that is filtered or streamed at once; more are in a thread."""
_ENDINGS: Mapping[Reason, Ending] = {
    "ramped_out": Ending.RAMPED_OUT,
    "rate_limited": Ending.RATE_LIMITED,
    "too_many_in_flight": Ending.TOO_MANY_IN_FLIGHT,
    "exceeds_quota": Ending.EXCEEDS_QUOTA,
    "queue_full": Ending.QUEUE_FULL,
    "queue_timeout": Ending.QUEUE_TIMEOUT,
    "evicted": Ending.EVICTED,
    "left": Ending.QUEUE_TIMEOUT,  # which nobody reads any more
}
_TYPES = {403: "permission_error", 429: "rate_limit_error"}
_TEXTS: Mapping[Reason, str] = {
    "ramped_out": "is being introduced and does not serve this request yet",
    "rate_limited": "allows no more of these requests at the moment",
    "too_many_in_flight": "allows no more of these requests at one time",
    "exceeds_quota": "will never allow a request of this size: ask for fewer tokens",
    "queue_full": "has as many requests waiting as it may have",
    "queue_timeout": "did not get to this request in the time that it may wait",
    "evicted": "has given this request's place to one with a higher priority",
    "left": "was not asked to the end",
}


def admit(request: Request) -> Waiting[LocalReply | None]:
    """Fills `admission`; does nothing where there are no policies."""
    flow = request.flow
    if flow is None:
        return None
    state = request.admission = _enter(request, flow)
    outcome = state.outcome
    if isinstance(outcome, Prepared):
        outcome = state.outcome = yield from beside(partial(flow.ask, outcome))
    if isinstance(outcome, FlowPlace):
        state.queued = True
        if not outcome.over:
            yield outcome
        if outcome.result is None:
            raise AssertionError("who has left does not go on")
        outcome = state.outcome = outcome.result
    state.passed = flow.clock()
    if isinstance(outcome, Refused):
        return _refusal(outcome)
    if isinstance(outcome, Hit):
        return (yield from _answer(request, flow, outcome))
    return None


def _enter(request: Request, flow: RequestFlow) -> Admission:
    entered = flow.clock()
    fields = sent_fields(request)
    operation = request.head.operation
    prompt_tokens, usual = request.expect(request.target_model, request.prompt_bytes)
    if not operation.estimated:
        usual = 0
    limit = None if fields is None else output_limit(operation, fields)
    wanted = 1 if fields is None else choices(operation, fields)
    found: list[tuple[Features, LengthPrediction]] = []

    def predict(labels: Mapping[str, str]) -> float:
        if fields is None or not flow.predicts or not operation.predictable:
            return float(usual)
        seen = features(asked(request, fields, labels[TENANT], prompt_tokens, limit))
        found.append((seen, flow.predict(seen)))
        return found[0][1].median * wanted

    labels = labels_of(request, flow.labelling, predict)
    if not found:
        predict(labels)
    job = Job(
        id=flow.new_id(),
        labels=labels,
        prompt_tokens=prompt_tokens,
        output_tokens=math.ceil(found[0][1].high) * wanted if found else usual,
        max_tokens=None if limit is None else limit * wanted,
        open_ended=limit is None and bool(operation.limits),
        endpoint=f"{request.backend.target if request.backend else ''} {request.target_model}",
        cache_key=_cache_key(request) if flow.caches(labels) else "",
    )
    outcome = flow.enter(job)
    return Admission(flow, job, found[0][0] if found else None, wanted, request.head.operation, outcome, entered)


def _cache_key(request: Request) -> str:
    """Empty where the answer must come from the destination: the client says so, it is of a kind that cannot be given
    again, or values in it are placeholders that stand for something else in every conversation."""
    head, backend, guarding = request.head, request.backend, request.guarding
    if request.document is None or backend is None or head.method != "POST" or not head.operation.cacheable:
        return ""
    if forbids_storing(head.text("cache-control") or "") or (guarding is not None and guarding.vault is not None):
        return ""
    target = f"{backend.target} {request.target_model}"
    return cache_key(sent_body(request), target=target, operation=head.operation.name)


def _refusal(refused: Refused) -> LocalReply:
    """With the reason as code and header, and when to come back where that is known."""
    ending = _ENDINGS[refused.reason]
    kind = _TYPES.get(refused.status, "server_error")
    text = f"The policy {refused.policy!r} {_TEXTS[refused.reason]}."
    headers: HeaderList = (JSON_TYPE, ("x-sluice-reason", ending.value.encode()))
    known = REFUSALS[ending].retry_after
    seconds = refused.retry_after if refused.retry_after is not None else known
    if seconds is not None and math.isfinite(seconds):
        headers += (("retry-after", b"%d" % max(1, math.ceil(seconds))),)
    if refused.reason == "exceeds_quota":
        headers += (("x-should-retry", b"false"),)
    if refused.position is not None:
        headers += (("x-sluice-queue-position", b"%d" % refused.position),)
    if refused.expected_wait is not None and math.isfinite(refused.expected_wait):
        headers += (("x-sluice-expected-wait", b"%d" % math.ceil(refused.expected_wait)),)
    return LocalReply(ending, refused.status, error_body(ending, text, kind=kind), headers)


def _answer(request: Request, flow: RequestFlow, hit: Hit) -> Waiting[LocalReply]:
    """The kept answer, in the form and under the model name that the client expects, as its own filters leave it."""
    plan = response_plan(request)
    usage = _asks_usage(request)
    stream = request.stream

    def work() -> LocalReply:
        return replay(hit.entry, plan, stream=stream, usage=usage)

    if len(hit.entry.body) <= _INLINE or not (plan.open_filter is not None or stream):
        return work()
    return (yield from beside(lambda: flow.beside(work)))


def replay(entry: CacheEntry, plan: ResponsePlan, *, stream: bool, usage: bool) -> LocalReply:
    """`usage`: a stream ends with its usage. Raises ValueError for an entry that is no completion, where a stream is
    asked for."""
    ending, body = Ending.CACHED, edit_json_answer(entry.body, plan.model)
    if plan.open_filter is not None:
        guarded = guard_answer(body, plan.open_filter, refusal=plan.refusal, dialect=plan.operation.dialect)
        body = guarded.body
        if guarded.denied:
            ending = Ending.ANSWER_DENIED
    kind = JSON_TYPE
    if stream:
        events = to_events(body, include_usage=usage)
        if events is None:
            raise ValueError("the kept answer cannot be streamed")
        body, kind = events, EVENTS_TYPE
    headers = tuple(pair for pair in plan.set_headers if pair[0] not in (CACHE_HEADER, "content-type"))
    return LocalReply(ending, 200, body, (kind, (CACHE_HEADER, b"hit"), *headers))


def _asks_usage(request: Request) -> bool:
    """Whether the client itself asked for the usage of a stream."""
    options = None if request.document is None else request.document.get("stream_options")
    if request.strip_usage or options is None or options[:1] != b"{":
        return False
    return Document.parse(options).boolean("include_usage") is True
