"""Why a request would pass, wait or be refused: its way through the steps up to flow control, without going it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from extproc.exchange.values import Decision, LocalReply
from extproc.prediction.features import Features
from extproc.prediction.predictor import LengthPrediction, LengthPredictor
from extproc.scheduling.job import Job
from extproc.scheduling.outcome import Refused
from extproc.scheduling.status import Explanation
from extproc.scheduling.ticket import Outcome, Prepared
from extproc.steps.admission import RequestFlow
from extproc.steps.admit import admit
from extproc.steps.head import RequestHead
from extproc.steps.labels import Labelling
from extproc.steps.live import Live
from extproc.steps.parse import parse
from extproc.steps.pipeline import Step, decide
from extproc.steps.request import Request
from extproc.steps.route import open_route, route
from extproc.steps.transform import transform
from extproc.steps.wait import Waiting

Expect = Callable[[str, int], tuple[int, int]]
_STEPS: tuple[Step, ...] = (parse, route, transform, admit)
"""Not `guard`, which takes its time and may ask others, and not `steer`, which takes an endpoint."""


class WrittenRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request as somebody writes it down."""

    method: str = "POST"
    path: str = "/v1/chat/completions"
    host: str = ""
    """Empty: the only host that there is a route for, if there is one."""
    headers: dict[str, str] = {}
    claims: dict[str, Any] = {}
    """Of the token that Envoy would have verified."""
    body: msgspec.Raw = msgspec.Raw(b"")
    """JSON; a string is a body that is no JSON."""


class Explained(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What becomes of it."""

    refused: str = ""
    """Why it does not get as far as the policies, `STATUS CODE: MESSAGE`; empty where it does, or needs not."""
    route: str = ""
    target: str = ""
    """Where it goes if its rule's destinations stay in turn."""
    model: str = ""
    prompt_tokens: int = 0
    """Estimated."""
    predicted_tokens: int = 0
    """Of the answer, as much as is reserved for it."""
    labels: dict[str, str] = {}
    """Those that some policy uses."""
    policies: list[Explanation] = []
    """In the order in which they are asked."""


class _Witness:
    """A `RequestFlow` at which a request shows what it is, and goes no further."""

    predicts = True

    def __init__(self, flow: RequestFlow | None, now: float) -> None:
        self._flow = flow
        self._now = now
        self.labelling = flow.labelling if flow is not None else Labelling()
        self.job: Job | None = None

    def clock(self) -> float:
        return self._now

    def predict(self, found: Features) -> LengthPrediction:
        return self._flow.predict(found) if self._flow is not None else LengthPredictor().predict(found)

    def caches(self, labels: Mapping[str, str]) -> bool:
        return True

    def new_id(self) -> str:
        return self._flow.new_id() if self._flow is not None else "explained"

    def enter(self, job: Job) -> Outcome:
        self.job = job
        return Refused(policy="", kind="ramp", reason="left", status=503)

    def ask(self, prepared: Prepared) -> Awaitable[Outcome]:
        raise AssertionError(f"nothing was prepared: {prepared}")

    def learn(self, found: Features, tokens: int, now: float) -> None:
        """Nothing is learned from what was not sent."""

    def changed(self) -> None:
        """Nothing was."""

    def beside(self, work: Callable[[], LocalReply]) -> Awaitable[LocalReply]:
        raise AssertionError(f"nothing is answered: {work}")


def explained(live: Live, asked: WrittenRequest, expect: Expect, now: float) -> tuple[Explained, Job | None]:
    """All but what the policies say, and what to ask them about; no job where the request does not get to them.

    Changes nothing. `expect` as in `Request`. Never raises for bad input.
    """
    head = _head(live, asked)
    live.identity.identify(head)
    opened = open_route(live.table, head)
    if isinstance(opened, LocalReply):
        return Explained(refused=_reason(opened)), None
    routes, rules = opened
    own_rules = tuple(rule.copy() for rule in rules)
    request = Request(head, routes, own_rules, body_limit=live.body_limit, now=now, expect=expect)
    request.raw = _body(asked)
    witness = request.flow = _Witness(live.flow, now)
    outcome = _run(decide(request, _STEPS))
    job = witness.job
    found = Explained(
        refused=_reason(outcome) if isinstance(outcome, LocalReply) and job is None and outcome.status >= 400 else "",
        route=request.rule.name if request.rule is not None else "",
        target=request.backend.target if request.backend is not None else "",
        model=request.target_model,
        prompt_tokens=job.prompt_tokens if job is not None else 0,
        predicted_tokens=job.expected_output if job is not None else 0,
        labels=dict(job.labels) if job is not None else {},
    )
    return found, job


def _run(course: Waiting[Decision | LocalReply]) -> Decision | LocalReply:
    """To its end: none of these steps waits, as the witness lets nobody in."""
    try:
        wait = next(course)
    except StopIteration as end:
        outcome: Decision | LocalReply = end.value
        return outcome
    raise AssertionError(f"an explained request has to wait: {wait!r}")


def _head(live: Live, asked: WrittenRequest) -> RequestHead:
    headers = {name.lower(): value.encode() for name, value in asked.headers.items()}
    host = asked.host or headers.pop("host", b"").decode() or _only_host(live)
    headers |= {":method": asked.method.encode(), ":path": asked.path.encode(), ":authority": host.encode()}
    return RequestHead(headers, asked.claims)


def _only_host(live: Live) -> str:
    hosts = live.table.exact
    return next(iter(hosts)) if len(hosts) == 1 else ""


def _body(asked: WrittenRequest) -> bytes:
    raw = bytes(asked.body)
    return msgspec.json.decode(raw, type=str).encode() if raw[:1] == b'"' else raw


def _reason(answer: LocalReply) -> str:
    error: Mapping[str, Any] = msgspec.json.decode(answer.body).get("error", {})
    return f"{answer.status} {error.get('code')}: {error.get('message')}"
