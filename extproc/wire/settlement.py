"""The one place where what an exchange took is given back, and what it showed is passed on."""

from __future__ import annotations

import logging

from extproc.accounting.record import ExchangeRecord
from extproc.exchange.endings import Ending
from extproc.exchange.exchange import Exchange
from extproc.exchange.values import Headers
from extproc.payload.replay import can_stream
from extproc.scheduling.ticket import End, Hit
from extproc.steps.admission import Admission
from extproc.steps.request import Request
from extproc.wire.facts import complete
from extproc.wire.service import Service

log = logging.getLogger(__name__)


def settle(service: Service, record: ExchangeRecord, exchange: Exchange, request: Request | None) -> None:
    """The exchange is over. Called exactly once; never raises."""
    complete(record, exchange, request, service.clock())
    if request is not None and request.lease is not None:
        if record.ending is Ending.CLIENT_GONE:  # or the endpoint has gone: Envoy does not say which
            request.lease.suspect([record.endpoint])
        request.lease.release(record.ended)
    service.metrics.exchange_ended()
    service.settle(record)
    if request is not None and request.admission is not None:
        try:
            _settle_flow(request.admission, record, exchange)
            request.admission.flow.changed()
        except Exception:
            log.exception("fault while settling an exchange with flow control")


def look_at_headers(admission: Admission, headers: Headers) -> None:
    """Whether the answer whose headers these are may be kept at all. `no-cache` does not forbid it: every event stream
    has it, and whoever configures a cache policy means to keep answers for a while."""
    said = headers.get("cache-control", b"").lower()
    if b"no-store" in said or b"private" in said:
        admission.storable = False


def _settle_flow(admission: Admission, record: ExchangeRecord, exchange: Exchange) -> None:
    ticket, now = admission.ticket, record.ended
    if ticket is None:
        return
    if isinstance(admission.outcome, Hit):
        ticket.settle(now, End(completed=True))
    elif not exchange.sent:
        ticket.undo(now)
    else:
        completed = record.ending is Ending.COMPLETED and 200 <= record.status < 300
        since = admission.passed if admission.passed is not None else record.started
        end = End(
            usage=record.usage,
            latency=now - since,
            ttft=None if record.first_token is None else record.first_token - since,
            failed=record.status >= 500 or record.ending is Ending.UNREADABLE_ANSWER,
            completed=completed,
            answer=_answer(admission, exchange) if completed and record.status == 200 else None,
        )
        ticket.settle(now, end)
        if completed and record.usage is not None and not record.usage_estimated and admission.features is not None:
            tokens = record.usage.completion_tokens // admission.choices
            admission.flow.learn(admission.features, tokens, now)


def _answer(admission: Admission, exchange: Exchange) -> bytes | None:
    """What the cache gets: an answer that can be given again in either form."""
    if not admission.keep or not admission.storable:
        return None
    answer = exchange.kept
    streams = admission.operation.replayable and not exchange.events
    if answer is None or (streams and not can_stream(answer)):
        return None
    return answer
