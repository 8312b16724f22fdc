"""What the answer to a request needs, decided with the request."""

from __future__ import annotations

from extproc.exchange.values import HeaderList, ResponsePlan
from extproc.steps.answers import REFUSAL, answer_filter, fails_closed, watches_only
from extproc.steps.request import Request

CACHE_HEADER = "x-sluice-cache"


def response_plan(request: Request) -> ResponsePlan:
    """After `route` and `guard`; with what `admit` says of the cache, if it has been asked already."""
    rule = request.rule
    if rule is None:
        raise AssertionError("a plan comes after route")
    guarding, admission = request.guarding, request.admission
    restore = rule.restore_model and request.requested_model not in ("", request.target_model)
    cache: HeaderList = ()
    if admission is not None and admission.cache:
        cache = ((CACHE_HEADER, admission.cache.encode()),)
    return ResponsePlan(
        model=request.requested_model if restore else None,
        strip_usage=request.strip_usage,
        set_headers=rule.response_set + cache,
        remove_headers=rule.response_remove,
        open_filter=None if guarding is None else answer_filter(guarding),
        fail_closed=guarding is not None and fails_closed(guarding),
        watch_only=guarding is not None and watches_only(guarding),
        refusal=REFUSAL,
        operation=request.head.operation,
        keep=0 if admission is None else admission.keep,
    )
