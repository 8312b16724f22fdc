"""Which rule a request follows and which destination is its turn."""

from __future__ import annotations

import msgspec

from extproc.exchange.endings import Ending
from extproc.exchange.values import LocalReply
from extproc.payload.operations.operation import Operation
from extproc.payload.operations.table import OTHER, operation_of
from extproc.steps.head import RequestHead
from extproc.steps.request import Request, refuse
from extproc.steps.routes import Backend, HostRoutes, RouteRule, RouteTable

_MANAGEMENT = frozenset(
    [
        *("stored_responses", "conversations", "stored_chats", "assistants", "files", "uploads", "vector_stores"),
        *("batches", "fine_tuning", "realtime_sessions", "delete_model", "message_batches"),
    ]
)
"""Operations that read, change or delete what is stored with the provider, or act later."""


def open_route(table: RouteTable, head: RequestHead) -> tuple[HostRoutes, tuple[RouteRule, ...]] | LocalReply:
    """What the headers alone say: the host's routes and the rules that may still fit."""
    if head.method == "CONNECT":  # its body would never end
        return refuse(Ending.ROUTE_NOT_FOUND, f"No tunnel to {head.host!r}: this gateway serves requests only.")
    routes = table.find(head.host)
    if routes is None:
        return refuse(Ending.ROUTE_NOT_FOUND, f"No route for host {head.host!r}.")
    candidates = tuple(rule for rule in routes.rules if rule.head_fits(head))
    if not candidates:
        return _no_rule(head, routes)
    return routes, candidates


def route(request: Request) -> LocalReply | None:
    """Fills `rule` and `backend`."""
    head = request.head
    for rule in request.candidates:
        if rule.fits(head, request.requested_model):
            if request.document is None and request.raw and not rule.pass_non_json:
                return refuse(Ending.NOT_JSON, f"Route {rule.name!r} takes JSON bodies only.")
            request.rule = rule
            request.backend = rule.next_backend()
            return _unprotected(request, request.backend) or _closed(head, rule, request.backend)
    if request.requested_model:
        return refuse(
            Ending.MODEL_NOT_FOUND,
            f"The model {request.requested_model!r} is not served here: `GET /v1/models` lists what is.",
            param="model",
        )
    if request.document is not None:
        return refuse(
            Ending.INVALID_BODY,
            "The request names no `model`, and this route chooses its destination by it.",
            code="missing_model",
            param="model",
        )
    return _no_rule(head, request.routes)


def _unprotected(request: Request, backend: Backend) -> LocalReply | None:
    """Refuses what must not pass without the filter, where Envoy's routes would let it pass."""
    envoy = request.envoy
    if envoy is None or envoy.protection >= backend.protection:
        return None
    return refuse(
        Ending.STALE_ENVOY,
        "Envoy was rendered before a policy of this route was there and would let requests pass it: run `sluice render "
        "envoy` again and restart Envoy with what it writes.",
    )


def _closed(head: RequestHead, rule: RouteRule, backend: Backend) -> LocalReply | None:
    """Why a provider's key is not lent for this call: the gateway's clients may ask for inference, and for whatever
    else a rule names by its path."""
    if backend.key is None or rule.names_path(head):
        return None
    path = head.path.partition("?")[0]
    if is_inference(head.operation):
        return None
    allowed = [method for method in ("GET", "POST") if is_inference(operation_of(method, head.path))]
    if allowed:
        answer = refuse(Ending.METHOD_NOT_ALLOWED, f"{head.method} is not what {path} takes.")
        return msgspec.structs.replace(answer, headers=(*answer.headers, ("allow", ", ".join(allowed).encode())))
    text = f"{head.method} {path} is no inference: a rule of the route has to name its path."
    return refuse(Ending.OPERATION_NOT_OPEN, text)


def is_inference(operation: Operation) -> bool:
    """Whether an operation asks a model, or says what there is to ask."""
    return operation is not OTHER and operation.name not in _MANAGEMENT


def _no_rule(head: RequestHead, routes: HostRoutes) -> LocalReply:
    return refuse(
        Ending.ROUTE_NOT_FOUND,
        f"No rule of host {routes.host!r} fits {head.method} {head.path.partition('?')[0]} with these headers.",
    )
