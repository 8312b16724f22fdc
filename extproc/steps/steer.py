"""Which endpoint of a pool serves a request, and in which order Envoy tries others."""

from __future__ import annotations

from extproc.exchange.endings import Ending
from extproc.exchange.values import Answer
from extproc.pool.policy import PickRequest
from extproc.pool.pool import NoEndpoints
from extproc.steps.request import Request, refuse

DESTINATION = "x-gateway-destination-endpoint"


def steer(request: Request) -> Answer | None:
    """Fills `endpoints` and `lease`; does nothing for a provider."""
    pool = request.backend.pool if request.backend is not None else None
    if pool is None:
        return None
    try:
        tokens = request.estimate(request.target_model, request.prompt_bytes)
        pick = pool.pick(PickRequest(model=request.target_model, prompt_tokens=tokens), request.now)
    except NoEndpoints as error:
        return refuse(Ending.NO_ENDPOINTS, f"Pool {pool.name!r} has no endpoint to send this to: {error}.")
    request.lease = pick.lease
    request.endpoints = ",".join(pick.candidates)
    request.set_headers.append((DESTINATION, request.endpoints.encode()))
    return None
