"""Which endpoint of a pool serves a request, and in which order Envoy tries others."""

from __future__ import annotations

from extproc.exchange.endings import Ending
from extproc.exchange.values import LocalReply
from extproc.payload.document import Document
from extproc.payload.errors import PayloadError
from extproc.pool.policy import PickRequest
from extproc.pool.pool import NoEndpoints, Pick, Pool
from extproc.pool.prompt import Prompt
from extproc.pool.waiting import PoolQueueFull, Saturated
from extproc.steps.request import Request, refuse
from extproc.steps.wait import Waiting

DESTINATION = "x-gateway-destination-endpoint"
PREFILLER = "x-prefiller-host-port"
"""Tells the engine that decodes which one has computed the prompt."""
_PROMPT_PIECES = ("tools", "functions", "system", "instructions", "messages", "prompt", "input")
"""In the order in which engines' templates put them, so that equal beginnings are equal prefixes."""
OBJECTIVE = "x-gateway-inference-objective"
"""Names the objective that a request serves, in the words of the Gateway API inference extension."""


def steer(request: Request) -> Waiting[LocalReply | None]:
    """Fills `endpoints` and `lease`; does nothing for a provider."""
    pool = request.backend.pool if request.backend is not None else None
    if pool is None:
        return None
    try:
        outcome = yield from _admit(request, pool)
    except NoEndpoints as error:
        return refuse(Ending.NO_ENDPOINTS, f"Pool {pool.name!r} has no endpoint to send this to: {error.reason}.")
    except PoolQueueFull:
        return refuse(
            Ending.QUEUE_FULL, f"Every endpoint of pool {pool.name!r} is busy and {pool.waiting} requests wait already."
        )
    if not isinstance(outcome, Pick):
        return outcome
    request.lease = outcome.lease
    request.endpoints = ",".join(outcome.candidates)
    request.set_headers.append((DESTINATION, request.endpoints.encode()))
    if outcome.prefill is not None:
        request.set_headers.append((PREFILLER, outcome.prefill.encode()))
    return None


def misfit(request: Request | None) -> str:
    """A warning where the gateway's subset hint fits no endpoint at all: it is set up wrongly. Else empty."""
    if request is None or request.subset is None or request.backend is None or request.backend.pool is None:
        return ""
    pool = request.backend.pool
    return (
        ""
        if any(map(pool.find, request.subset))
        else f"the gateway's subset hint names no endpoint of pool {pool.name!r}"
    )


def follow(request: Request, served_by: str, now: float, *, failed_there: bool) -> str:
    """Counts the load where the answer comes from. Gives that endpoint if it is not the one first chosen, else "".

    Whatever was tried before may have gone, or may just have been busy: its pool takes a look. So it does at the
    endpoint itself where Envoy answered in its place.
    """
    if not served_by or request.lease is None:
        return ""
    tried = request.endpoints.split(",")
    if served_by == tried[0] and not failed_there:
        return ""
    if served_by in tried:
        tried = tried[: tried.index(served_by)]
    if failed_there:
        tried.append(served_by)
    request.lease.suspect(tried)
    if served_by == request.endpoints.partition(",")[0]:
        return ""
    request.lease.move(served_by, now)
    return served_by


def _admit(request: Request, pool: Pool) -> Waiting[LocalReply | Pick]:
    wanted = _wanted(request, reads_body=pool.policy.reads_body)
    if _is_sheddable(request):
        return _pick_or_shed(pool, wanted, request.now)
    place = pool.admit(wanted, request.now)
    if isinstance(place, Pick):
        return place
    if not place.over:
        yield place
    if (pick := place.take()) is not None:
        return pick
    if place.error is not None:
        raise place.error
    waited = place.deadline - place.since
    return refuse(Ending.QUEUE_TIMEOUT, f"Every endpoint of pool {pool.name!r} stayed busy for {waited:g} s.")


def _wanted(request: Request, *, reads_body: bool) -> PickRequest:
    backend, document, model = request.backend, request.document, request.target_model
    prompt_tokens, output_tokens = request.expect(model, request.prompt_bytes)
    if not reads_body:
        return PickRequest(
            model=model,
            prompt_tokens=prompt_tokens,
            expected_output_tokens=output_tokens,
            lora=model if backend and model in backend.adapters else "",
            subset=request.subset,
            tells_first_token=request.stream,
        )
    session = request.head.text(backend.session_header) if backend and backend.session_header else None
    if backend is None or document is None:
        return PickRequest(model=model, session=session or "", subset=request.subset)
    pieces = [piece for name in _PROMPT_PIECES if (piece := document.raw(name)) is not None]
    return PickRequest(
        model=model,
        prompt_tokens=prompt_tokens,
        expected_output_tokens=output_tokens,
        prompt=Prompt(pieces, model=model, salt=_text(document, "cache_salt")),
        session=session or _text(document, "user"),
        lora=model if model in backend.adapters else "",
        subset=request.subset,
        tells_first_token=request.stream,
    )


def _text(document: Document, name: str) -> str:
    """A string of the body; empty where it is none, as that is for the engine to complain about."""
    try:
        return document.text(name) or ""
    except PayloadError:
        return ""


def _is_sheddable(request: Request) -> bool:
    backend = request.backend
    return backend is not None and bool(backend.sheddable) and request.head.text(OBJECTIVE) in backend.sheddable


def _pick_or_shed(pool: Pool, wanted: PickRequest, now: float) -> LocalReply | Pick:
    """A sheddable request neither waits nor overtakes those that do."""
    if not pool.waiting:
        try:
            return pool.pick(wanted, now)
        except Saturated:
            pass
    return refuse(Ending.QUEUE_FULL, f"Every endpoint of pool {pool.name!r} is busy: try again later.", code="shed")
