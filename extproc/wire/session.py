"""One ext_proc stream: carries Envoy's messages into an exchange and the steps, and their values back.

Everything here is synchronous; the server around it reads and writes. What an exchange took is given back in `close`,
which runs exactly once whatever happened before.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any, ClassVar

from extproc.accounting.record import ExchangeRecord
from extproc.exchange.endings import Ending
from extproc.exchange.exchange import Exchange, Phase, UnexpectedEventError
from extproc.exchange.values import Answer, Metadata
from extproc.pool.pool import Pick
from extproc.pool.waiting import Place
from extproc.steps.live import Live
from extproc.steps.parse import refuse_announced
from extproc.steps.pipeline import decide
from extproc.steps.request import Request, RequestHead, refuse
from extproc.steps.route import open_route
from extproc.telemetry.metrics import Metrics
from extproc.wire import codec

log = logging.getLogger(__name__)

HOLD_SLACK = 5.0
"""Seconds beyond a queue's own time limit before Envoy takes the filter for dead."""


@dataclass(slots=True)
class Service:
    """What all streams share. `live` is replaced as a whole when the configuration changes."""

    live: Live
    settle: Callable[[ExchangeRecord], None]
    """Takes the record of an exchange that is over, and completes its usage."""
    estimate: Callable[[str, int], int]
    """Prompt tokens that a model makes of so many bytes."""
    metrics: Metrics
    clock: Callable[[], float]


class Session:
    """State of one stream. `handle` takes each message in turn; `done` says that no further one will come."""

    __slots__ = ("_exchange", "_has_body", "_live", "_record", "_request", "_service", "_settled", "done", "waiting")

    def __init__(self, service: Service) -> None:
        self._service = service
        self._live = service.live
        self._exchange = Exchange(self._live.response_limit)
        self._record = ExchangeRecord(started=service.clock())
        self._request: Request | None = None
        self._settled = False
        self._has_body = True
        self.waiting: Place[Pick] | None = None
        """The queue's place that the exchange waits for; `resume` is due when it is settled."""
        service.metrics.exchange_started()
        self.done = False

    def handle(self, data: bytes) -> bytes:
        """The reply to one message of Envoy. Raises UnexpectedEventError for one that has no place here, after which
        the stream cannot go on."""
        began = perf_counter()
        kind, message = codec.decode(data)
        handler = self._HANDLERS.get(kind)
        if handler is None:
            raise UnexpectedEventError(f"a message with {kind or 'nothing'} in it")
        self._record.messages += 1
        reply = handler(self, message)
        self._service.metrics.phase(kind).observe(perf_counter() - began)
        return reply

    def resume(self) -> bytes:
        """The reply that a request had to wait for, once its place is settled."""
        return self._decide()

    def fail(self) -> bytes | None:
        """After a fault of our own: an error for the client where it can still get one, else None."""
        if self._exchange.phase not in (Phase.REQUEST_BODY, Phase.DECISION):
            return None
        return self._answer(refuse(Ending.INTERNAL, "Sluice failed on this request; its log says more."))

    def close(self) -> None:
        """The stream is over."""
        self._exchange.closed()
        if self.waiting is not None:
            self._give_up(self.waiting)
        self._settle()

    def _give_up(self, place: Place[Pick]) -> None:
        """Frees the place in the queue, or what the queue gave while nobody was left to take it."""
        place.leave()
        if place.pick is not None:
            place.pick.lease.release(self._service.clock())

    def _request_headers(self, message: Any) -> bytes:
        part = message.request_headers
        claims = codec.metadata_of(message, codec.JWT_NAMESPACE) if self._live.reads_claims else None
        head = RequestHead(codec.headers_of(part), _flatten(claims))
        self._has_body = not (part.end_of_stream or head.is_websocket)
        self._exchange.request_headers(end=not self._has_body)
        self._live.identity.identify(head)
        record = self._record
        record.host, record.operation, record.source = head.host, head.operation.value, head.source
        opened = open_route(self._live.table, head)
        if isinstance(opened, Answer):
            return self._answer(opened)
        if (too_large := refuse_announced(head, self._live.body_limit)) is not None:
            return self._answer(too_large)
        self._request = Request(
            head, *opened, body_limit=self._live.body_limit, now=record.started, estimate=self._service.estimate
        )
        if not self._has_body:
            return self._decide()
        return codec.CONTINUE_REQUEST

    def _request_body(self, message: Any) -> bytes:
        self._exchange.request_body()
        if self._request is None:
            raise UnexpectedEventError("a request body without its headers")
        self._request.raw = message.request_body.body
        return self._decide()

    def _decide(self) -> bytes:
        request = self._request
        if request is None:
            raise UnexpectedEventError("a decision without a request")
        decision = decide(request)
        if isinstance(decision, Place):
            self.waiting = decision
            return codec.encode_hold(decision.deadline - self._service.clock() + HOLD_SLACK)
        self.waiting = None
        self._note(request)
        if isinstance(decision, Answer):
            return self._answer(decision)
        self._exchange.decided(decision)
        return codec.encode_decision(decision, with_body=self._has_body)

    def _note(self, request: Request) -> None:
        record = self._record
        record.requested_model = request.requested_model
        record.target_model = request.target_model
        record.prompt_bytes = request.prompt_bytes
        record.stream = request.stream
        if request.rule is not None:
            record.route = request.rule.name
        if request.backend is not None:
            record.target = request.backend.target
        if request.endpoints:
            record.endpoint = request.endpoints.partition(",")[0]

    def _answer(self, answer: Answer) -> bytes:
        self._exchange.answered(answer)
        self.done = True
        self._settle()
        record = self._record
        facts = {
            "reason": answer.ending.value,
            "route": record.route,
            "source": record.source,
            "requested_model": record.requested_model,
        }
        return codec.encode_answer(answer, {"sluice": {name: value for name, value in facts.items() if value}})

    def _response_headers(self, message: Any) -> bytes:
        part = message.response_headers
        headers = codec.headers_of(part)
        reply = self._exchange.response_headers(headers, end=part.end_of_stream)
        moved_to = self._follow(codec.served_by(message)) if self._request and self._request.lease else ""
        if self._exchange.phase is Phase.ENDED:
            self.done = True
            self._settle()
        return codec.encode_headers_reply(reply, moved_to)

    def _follow(self, served_by: str) -> str:
        """Counts the load where the answer comes from. Gives that endpoint if it is not the one first chosen.

        Whatever was tried before may have gone, or may just have been busy: its pool takes a look.
        """
        request = self._request
        if request is None or request.lease is None or request.backend is None or request.backend.pool is None:
            return ""
        tried = request.endpoints.split(",")
        if served_by in tried:
            tried = tried[: tried.index(served_by)]
        if self._exchange.ending is Ending.REPLIED_BY_ENVOY:
            tried.append(served_by)
        for address in tried:
            request.backend.pool.suspect(address)
        if not served_by or served_by == self._record.endpoint:
            return ""
        request.lease.move(served_by)
        self._record.endpoint = served_by
        return served_by

    def _response_body(self, message: Any) -> bytes:
        part = message.response_body
        now = self._service.clock()
        if self._exchange.first_token is None and self._request is not None and self._request.lease is not None:
            self._request.lease.served(now)
        reply = self._exchange.response_body(part.body, end=part.end_of_stream, now=now)
        if self._exchange.phase is not Phase.ENDED:
            return codec.encode_body_reply(reply)
        self.done = True
        self._settle()
        if reply.broken:  # Envoy answers so where nothing was sent yet, and breaks the connection where something was
            refusal = refuse(Ending.UNREADABLE_ANSWER, "The destination's answer cannot be decoded.")
            return codec.encode_answer(refusal, log_facts(self._record))
        return codec.encode_body_reply(reply, log_facts(self._record))

    def _response_trailers(self, _message: Any) -> bytes:
        self._exchange.response_trailers()
        self.done = True
        return codec.CONTINUE_TRAILERS

    def _request_trailers(self, _message: Any) -> bytes:
        return codec.CONTINUE_REQUEST_TRAILERS

    def _settle(self) -> None:
        if self._settled:
            return
        self._settled = True
        exchange, record = self._exchange, self._record
        record.ended = self._service.clock()
        record.status = exchange.status
        record.ending = exchange.ending or Ending.CLIENT_GONE
        record.usage = exchange.usage
        record.completion_bytes, record.events = exchange.completion_bytes, exchange.events
        record.first_token, record.last_token = exchange.first_token, exchange.last_token
        if self._request is not None and self._request.lease is not None:
            self._request.lease.release(record.ended)
        self._service.metrics.exchange_ended()
        self._service.settle(record)

    _HANDLERS: ClassVar[dict[str, Callable[[Session, Any], bytes]]] = {
        "request_headers": _request_headers,
        "request_body": _request_body,
        "request_trailers": _request_trailers,
        "response_headers": _response_headers,
        "response_body": _response_body,
        "response_trailers": _response_trailers,
    }


def _flatten(claims: Any) -> Any:
    """Claims of every JWT provider in one mapping; each provider's payload sits under the provider's name."""
    if not claims:
        return None
    return {name: value for payload in claims.values() if isinstance(payload, dict) for name, value in payload.items()}


def log_facts(record: ExchangeRecord) -> Metadata:
    """What the access log says of a finished answer."""
    facts: dict[str, str | float | bool] = {"reason": record.ending.value}
    usage = record.usage
    if usage is not None:
        facts["prompt_tokens"] = usage.prompt_tokens
        facts["completion_tokens"] = usage.completion_tokens
        facts["cached_tokens"] = usage.cached_tokens
        facts["usage_estimated"] = record.usage_estimated
    if record.stream and record.first_token is not None:
        facts["time_to_first_token_ms"] = round((record.first_token - record.started) * 1000, 1)
    return {"sluice": facts}
