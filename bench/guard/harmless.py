"""Harmless sessions through the steps of a request, with the default policy and every detector in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from bench.flow.bars import Bar
from bench.guard.sessions import Session
from extproc.exchange.values import Decision, LocalReply
from extproc.live.security import Security
from extproc.resources.base import Metadata
from extproc.resources.kinds.security import LLMSecurityPolicy, LLMSecurityPolicySpec
from extproc.resources.secrets import SecretStore
from extproc.resources.snapshot import Snapshot
from extproc.steps.head import RequestHead
from extproc.steps.pipeline import decide
from extproc.steps.request import Request
from extproc.steps.route import open_route
from extproc.steps.routes import Backend, HostRoutes, RouteRule, RouteTable
from extproc.steps.wait import Waiting
from extproc.steps.watch import Watch


class Outcome(msgspec.Struct):
    """What became of the sessions."""

    sessions: int = 0
    requests: int = 0
    refused: dict[str, str] = {}
    """Session to the first reason for which it was refused."""
    seen: Counter[str] = msgspec.field(default_factory=Counter)
    """Findings by `CATEGORY action`."""

    def bars(self) -> list[Bar]:
        return [Bar("harmless-sessions-refused", len(self.refused), 0)]


async def watch_of(spec: LLMSecurityPolicySpec, security: Security) -> Watch:
    """A policy as the gateway puts it in force."""
    policy = LLMSecurityPolicy(
        api_version="sluice.dev/v1alpha1", kind="LLMSecurityPolicy", metadata=Metadata(name="default"), spec=spec
    )
    change = await security.prepare(Snapshot(security={"default": policy}), SecretStore({}, Path()))
    change.commit()
    return change.watches["default"]


async def run(sessions: Sequence[Session], spec: LLMSecurityPolicySpec | None = None) -> Outcome:
    """Every request of every session, one after the other."""
    security = Security()
    try:
        watch = await watch_of(spec or LLMSecurityPolicySpec(), security)
        outcome = Outcome(len(sessions))
        for session in sessions:
            for body in session.requests():
                outcome.requests += 1
                reason = await _sent(body, watch, outcome)
                if reason:
                    outcome.refused.setdefault(session.name, reason)
        return outcome
    finally:
        await security.stop()


async def _sent(body: dict[str, Any], watch: Watch, outcome: Outcome) -> str:
    """Why one request is refused; an empty string where it is not."""
    head = RequestHead({":method": b"POST", ":path": b"/v1/chat/completions", ":authority": b"api"})
    rule = RouteRule("r/0", (Backend("provider/p", 1, is_provider=True, watches=(watch,)),))
    opened = open_route(RouteTable({"api": HostRoutes("api", (rule,))}), head)
    if isinstance(opened, LocalReply):
        raise AssertionError("the only route takes every request")
    request = Request(head, *opened, body_limit=1 << 20, now=0.0, expect=lambda _model, size: (size, 0))
    request.raw = msgspec.json.encode(body)
    answer = await _worked(decide(request))
    if request.guarding is not None:
        for (_, category, action, _), count in request.guarding.seen.items():
            outcome.seen[f"{category} {action}"] += count
    if not isinstance(answer, LocalReply):
        return ""
    return dict(answer.headers).get("x-sluice-reason", b"refused").decode()


async def _worked(course: Waiting[Decision | LocalReply]) -> Decision | LocalReply:
    """The outcome, after all the work that the steps want done."""
    while True:
        try:
            wait = next(course)
        except StopIteration as end:
            outcome: Decision | LocalReply = end.value
            return outcome
        if wait.work is None:
            raise AssertionError(f"nothing here makes a request wait for {wait!r}")
        await wait.work()
