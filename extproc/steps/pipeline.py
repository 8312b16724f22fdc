"""The whole order of processing, in one list."""

from __future__ import annotations

from collections.abc import Callable, Generator

import msgspec

from extproc.exchange.endings import Ending
from extproc.exchange.values import Decision, LocalReply
from extproc.payload.operations.openai import MODELS
from extproc.steps.admit import admit
from extproc.steps.answers import response_plan
from extproc.steps.guard import guard
from extproc.steps.parse import parse
from extproc.steps.request import JSON_TYPE, Request
from extproc.steps.route import route
from extproc.steps.steer import DESTINATION, steer
from extproc.steps.transform import transform
from extproc.steps.wait import Waiting

Step = Callable[[Request], LocalReply | Waiting[LocalReply | None] | None]
"""Reads and completes the request; a generator where it may have to wait. A reply ends the request here."""

STEPS: tuple[Step, ...] = (parse, route, guard, transform, admit, steer)


def decide(request: Request, steps: tuple[Step, ...] = STEPS) -> Waiting[Decision | LocalReply]:
    """Takes a request through the steps.

    Whoever runs it releases `request.lease` and settles `request.admission`, whatever the outcome.
    """
    if request.head.operation is MODELS:
        return list_models(request)
    for step in steps:
        found = step(request)
        if found is None:
            continue
        outcome = (yield from found) if isinstance(found, Generator) else found
        if outcome is not None:
            return outcome
    return _decision(request)


def list_models(request: Request) -> LocalReply:
    """OpenAI's list of models: what the rules that this client may use serve."""
    models = [{"id": name, "object": "model", "created": 0, "owned_by": "sluice"} for name in request.routes.models]
    body = msgspec.json.encode({"object": "list", "data": models})
    return LocalReply(Ending.ANSWERED, 200, body, (JSON_TYPE,))


def _decision(request: Request) -> Decision:
    rule, backend = request.rule, request.backend
    if rule is None or backend is None:
        raise AssertionError("a decision comes after route")
    facts: dict[str, str | float | bool] = {
        "target": backend.target,
        "kind": "stream" if request.stream else "unary",
        "route": rule.name,
        "source": request.head.source,
        "requested_model": request.requested_model,
        "model": request.target_model,
    }
    if backend.is_provider:
        facts["provider"] = backend.target.removeprefix("provider/")
    metadata: dict[str, dict[str, str | float | bool]] = {"sluice": facts}
    if request.endpoints:
        facts["endpoint"] = request.endpoints.partition(",")[0]
        metadata["envoy.lb"] = {DESTINATION: request.endpoints}
    admission = request.admission
    if admission is not None and admission.cache:
        facts["cache"] = admission.cache
    plan = response_plan(request)
    if plan.envoy_counts:
        facts["envoy_counts"] = True
        if plan.strip_usage:
            facts["strip_usage"] = True
    return Decision(
        metadata=metadata,
        set_headers=tuple(request.set_headers),
        remove_headers=tuple(request.remove_headers),
        body=request.new_body,
        plan=plan,
    )
