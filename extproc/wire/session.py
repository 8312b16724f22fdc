"""One ext_proc stream: carries Envoy's messages into an exchange and the steps, and their values back.

Everything here is synchronous; the server around it reads and writes. What an exchange took is given back in `close`,
which runs exactly once whatever happened before.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import perf_counter
from typing import Any, ClassVar

from extproc.accounting.record import ExchangeRecord
from extproc.exchange.endings import Ending
from extproc.exchange.exchange import Exchange, Phase, UnexpectedEventError
from extproc.exchange.values import BodyMode, BodyReply, LocalReply
from extproc.steps import protection
from extproc.steps.head import RequestHead
from extproc.steps.parse import refuse_announced
from extproc.steps.pipeline import decide
from extproc.steps.request import Request, refuse
from extproc.steps.route import open_route
from extproc.steps.steer import follow, misfit
from extproc.steps.wait import Wait, Waiting, beside
from extproc.wire import codec
from extproc.wire.duplex import Framing, Pieces, Replies, framing
from extproc.wire.facts import Facts, flatten_claims, log_facts, note_request, refusal_facts
from extproc.wire.service import Service
from extproc.wire.settlement import look_at_headers, settle

log = logging.getLogger(__name__)

INLINE = 4096
"""Bytes of a guarded answer that are looked at on the event loop; more are in a thread."""
HOLD_SLACK = 5.0
"""Seconds beyond a wait's own time limit before Envoy takes the filter for dead."""


_NO_ROOM = "The gateway holds as many bytes of request bodies as it may: try again soon."


class Session:
    """State of one stream. `handle` takes each message in turn; `done` says that no further one will come."""

    __slots__ = (
        "__weakref__",
        "_body_bytes",
        "_course",
        "_envoy",
        "_exchange",
        "_framing",
        "_has_body",
        "_has_trailers",
        "_held",
        "_live",
        "_pieces",
        "_record",
        "_request",
        "_service",
        "_settled",
        "done",
        "waiting",
    )

    def __init__(self, service: Service, rendered: str | None = None) -> None:
        """`rendered`: what Envoy says of itself, as for `steps.protection.read`."""
        self._service = service
        self._live = service.live
        self._envoy = protection.read(rendered)
        self._exchange = Exchange(self._live.response_limit, own_envoy=self._envoy is not None)
        self._record = ExchangeRecord(started=service.clock())
        self._request: Request | None = None
        self._settled = False
        self._framing = Framing()
        self._has_body = True
        self._has_trailers = False
        self._pieces = Pieces()
        self._body_bytes = 0  # taken of the budget of all streams
        self.waiting: Wait | None = None
        """What the exchange waits for; `resume` is due when it is over."""
        self._course: Waiting[Replies] | None = None
        """What `resume` goes on with."""
        self._held = False
        service.metrics.exchange_started()
        self.done = False

    def handle(self, data: bytes) -> Replies:
        """The replies to one message of Envoy. Raises UnexpectedEventError for one that has no place here, after which
        the stream cannot go on."""
        began = perf_counter()
        kind, message = codec.decode(data)
        handler = self._HANDLERS.get(kind)
        if handler is None:
            raise UnexpectedEventError(f"a message with {kind or 'nothing'} in it")
        self._record.messages += 1
        try:
            replies = handler(self, message)
        except UnexpectedEventError:
            raise
        except Exception:
            log.exception("fault while handling an exchange")
            replies = self._fail()
        self._service.metrics.phase(kind).observe(perf_counter() - began)
        return replies

    def resume(self) -> Replies:
        """The replies that had to wait, once the wait is over."""
        try:
            return self._go_on()
        except Exception:
            log.exception("fault while handling an exchange")
            return self._fail()

    def _begin(self, course: Waiting[Replies]) -> Replies:
        """Goes as far as the first wait, if there is any."""
        self._course = course
        return self._go_on()

    def _go_on(self) -> Replies:
        course, self._course, self.waiting = self._course, None, None
        if course is None:
            raise UnexpectedEventError("nothing waits here")
        try:
            self.waiting = next(course)
        except StopIteration as end:
            replies: Replies = end.value
            return replies
        self._course = course
        return ()

    def _fail(self) -> Replies:
        """After a fault of our own: an error for the client. The stream breaks where it can no longer get one."""
        if self._exchange.phase not in (Phase.REQUEST_BODY, Phase.DECISION):
            raise UnexpectedEventError("this exchange cannot go on after a fault")
        return self._answer(refuse(Ending.INTERNAL, "Sluice failed on this request; its log says more."))

    def close(self) -> None:
        """The stream is over."""
        self._exchange.closed()
        if self.waiting is not None:
            self.waiting.leave(self._service.clock())
            self.waiting = None
        if self._course is not None:
            self._course.close()
            self._course = None
        self._settle()

    @property
    def streaming(self) -> bool:
        """Whether Envoy may send on during a wait: pieces of an answer do not wait for the replies to earlier ones."""
        return self._exchange.phase is not Phase.DECISION

    def hold(self, wait: Wait) -> Replies:
        """Tells Envoy how much longer a request may take. It listens once, so the waits that may follow are in it."""
        if self._held or self.streaming:
            return ()
        self._held = True
        return self._framing.held(wait.longest + self._live.longest_wait + HOLD_SLACK)

    def _request_headers(self, message: Any) -> Replies:
        part = message.request_headers
        self._learn_framing(message)
        claims = codec.metadata_of(message, codec.JWT_NAMESPACE) if self._live.reads_claims else None
        head = RequestHead(codec.headers_of(part), flatten_claims(claims))
        self._has_body = not (part.end_of_stream or head.is_websocket)
        self._exchange.request_headers(end=not self._has_body)
        self._live.identity.identify(head)
        record = self._record
        record.host, record.operation, record.source = head.host, head.operation.name, head.source
        record.consumes, record.answers_text = head.operation.consumes, head.operation.estimated
        opened = open_route(self._live.table, head)
        if isinstance(opened, LocalReply):
            return self._answer(opened)
        if (too_large := refuse_announced(head, self._live.body_limit)) is not None:
            return self._answer(too_large)
        announced = head.headers.get("content-length", b"")
        if self._has_body and announced.isdigit() and not self._hold_body(int(announced)):
            return self._answer(refuse(Ending.TOO_MANY_BODIES, _NO_ROOM))
        self._request = Request(
            head, *opened, body_limit=self._live.body_limit, now=record.started, expect=self._service.expect
        )
        self._request.subset = codec.subset_of(message)
        self._request.flow = self._live.flow
        self._request.envoy = self._envoy
        if not self._has_body:
            return self._begin(self._decide())
        return self._framing.request_opened()

    def _learn_framing(self, message: Any) -> None:
        """From the first message of the stream."""
        self._framing = framing(*codec.body_modes(message))
        self._exchange.bodies = self._framing.bodies

    def _request_body(self, piece: Any) -> Replies:
        if self._framing.duplex_request:
            self._pieces.add(piece.body)
            if piece.end_of_stream or self._pieces.size > self._live.body_limit:
                return self._body_complete()
            self._exchange.request_body(end=False)
            return ()
        if self._framing.may_split and not piece.end_of_stream:
            return self._answer(
                refuse(Ending.INTERNAL, "The gateway must send bodies BUFFERED or FULL_DUPLEX_STREAMED.")
            )
        self._pieces.add(piece.body)
        return self._body_complete()

    def _body_complete(self) -> Replies:
        self._exchange.request_body()
        if self._request is None:
            raise UnexpectedEventError("a request body without its headers")
        if not self._hold_body(self._pieces.size):
            self._pieces.take()
            return self._answer(refuse(Ending.TOO_MANY_BODIES, _NO_ROOM))
        self._request.raw = self._pieces.take()
        return self._begin(self._decide())

    def _hold_body(self, size: int) -> bool:
        """Takes what a body needs of the budget of all streams, beyond what was taken before; False: there is none."""
        more = size - self._body_bytes
        if more > 0 and not self._service.bodies.take(more, self._live.bodies_limit):
            return False
        self._body_bytes += max(0, more)
        return True

    def _drop_body(self) -> None:
        self._service.bodies.give(self._body_bytes)
        self._body_bytes = 0

    def _decide(self) -> Waiting[Replies]:
        request = self._request
        if request is None:
            raise UnexpectedEventError("a decision without a request")
        decision = yield from decide(request)
        note_request(self._record, request)
        if isinstance(decision, LocalReply):
            return self._answer(decision)
        if decision.plan.fail_closed and self._framing.bodies is BodyMode.NONE:
            return self._answer(refuse(Ending.INTERNAL, "A policy must read the answer, and Envoy does not send it."))
        self._exchange.decided(decision)
        raw = request.raw
        request.forget_body()
        self._drop_body()
        return self._framing.decided(decision, raw, with_body=self._has_body, trailers=self._has_trailers)

    def _answer(self, answer: LocalReply) -> Replies:
        if answer.ending is Ending.NO_ENDPOINTS:
            self._service.warn_once(misfit(self._request))
        if answer.ending is Ending.STALE_ENVOY and self._envoy is not None:
            self._service.stale(self._envoy.digest, self._live.digest)
        self._exchange.answered(answer)
        self.done = True
        self._settle()
        return (codec.encode_answer(answer, refusal_facts(self._record, answer, self._request)),)

    def _response_headers(self, message: Any) -> Replies:
        part = message.response_headers
        if self._exchange.phase is Phase.REQUEST_HEADERS:  # a filter in front of this one has answered
            self._learn_framing(message)
        headers = codec.headers_of(part)
        reply = self._exchange.response_headers(headers, end=part.end_of_stream)
        moved_to = ""
        if self._request is not None and self._request.admission is not None:
            look_at_headers(self._request.admission, headers)
        if self._request is not None and self._request.lease is not None:
            by_envoy = self._exchange.ending is Ending.REPLIED_BY_ENVOY
            moved_to = follow(self._request, codec.served_by(message), self._service.clock(), failed_there=by_envoy)
            self._record.endpoint = moved_to or self._record.endpoint
        if self._exchange.phase is Phase.ENDED:
            self.done = True
            self._settle()
        return self._framing.answer_opened(reply, moved_to)

    def _response_body(self, piece: Any) -> Replies:
        chunk, end = piece.body, piece.end_of_stream
        now = self._service.clock()
        if self._exchange.costly and len(chunk) > INLINE:
            return self._begin(self._beside(chunk, end, now))
        return self._answer_piece(self._exchange.response_body(chunk, end=end, now=now), chunk, end, now)

    def _beside(self, chunk: bytes, end: bool, now: float) -> Waiting[Replies]:
        """Has a long piece looked at in a thread."""

        def work() -> BodyReply:
            return self._exchange.response_body(chunk, end=end, now=now)

        reply = yield from beside(lambda: self._service.beside(work))
        return self._answer_piece(reply, chunk, end, now)

    def _answer_piece(self, reply: BodyReply, chunk: bytes, end: bool, now: float) -> Replies:
        if self._exchange.first_token == now and self._request is not None and self._request.lease is not None:
            self._request.lease.served(now)
        if self._exchange.phase is not Phase.ENDED:
            return self._framing.answer_piece(reply, chunk, end=False, facts=self._news())
        self.done = True
        self._settle()
        if reply.broken:
            return self._break_off()
        return self._framing.answer_piece(reply, chunk, end=end, facts=log_facts(self._record))

    def _news(self) -> Facts | None:
        """Usage is told when it is seen, so that the access log has it even of a client that leaves before the end."""
        if self._record.usage is not None or (usage := self._exchange.usage) is None:
            return None
        self._record.usage = usage
        self._record.first_token = self._exchange.first_token
        return log_facts(self._record)

    def _break_off(self) -> Replies:
        """Envoy answers so where nothing was sent yet, and breaks the connection where something was."""
        refusal = refuse(Ending.UNREADABLE_ANSWER, "The destination's answer cannot be decoded.")
        return (codec.encode_answer(refusal, {"sluice": log_facts(self._record)}),)

    def _response_trailers(self, message: Any) -> Replies:
        counted = self._exchange.counted_by_envoy
        reply = self._exchange.response_trailers(codec.usage_of(message) if counted else None)
        self.done = True
        self._settle()
        if reply.broken:
            return self._break_off()
        return self._framing.answer_trailers(reply, log_facts(self._record) if counted else None)

    def _request_trailers(self, _message: Any) -> Replies:
        if not self._framing.duplex_request:
            return (codec.CONTINUE_REQUEST_TRAILERS,)
        self._has_trailers = True
        return self._body_complete()

    def _settle(self) -> None:
        if self._settled:
            return
        self._settled = True
        self._drop_body()
        settle(self._service, self._record, self._exchange, self._request)

    _HANDLERS: ClassVar[dict[str, Callable[[Session, Any], Replies]]] = {
        "request_headers": _request_headers,
        "request_body": _request_body,
        "request_trailers": _request_trailers,
        "response_headers": _response_headers,
        "response_body": _response_body,
        "response_trailers": _response_trailers,
    }
