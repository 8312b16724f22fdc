"""One HTTP request and its response as a state table.

The driver feeds in what Envoy reports and the decision that the steps made; every method checks the table, changes the
state and returns the reply. Nothing here awaits, logs or reads a clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto

from extproc.exchange.bodies import Counted, ResponseBody
from extproc.exchange.endings import Ending
from extproc.exchange.response import open_response
from extproc.exchange.values import UNCHANGED, BodyMode, BodyReply, Decision, Headers, HeadersReply, LocalReply
from extproc.payload.usage import Usage

REASON_HEADER = "x-sluice-reason"
"""Marks replies that Sluice or Envoy gave in place of the destination."""


class Phase(Enum):
    """What the exchange waits for."""

    __hash__ = object.__hash__  # members are singletons; Enum's own hash is a Python function

    REQUEST_HEADERS = auto()
    REQUEST_BODY = auto()
    DECISION = auto()
    RESPONSE_HEADERS = auto()
    RESPONSE_BODY = auto()
    UNREAD = auto()
    """The answer flows past the filter; only its end is of interest."""
    ENDED = auto()


class Event(Enum):
    """What can happen."""

    __hash__ = object.__hash__

    REQUEST_HEADERS = auto()
    REQUEST_HEADERS_ONLY = auto()
    REQUEST_CHUNK = auto()
    REQUEST_BODY = auto()
    DECIDED = auto()
    ANSWERED = auto()
    RESPONSE_HEADERS = auto()
    RESPONSE_HEADERS_ONLY = auto()
    RESPONSE_UNREAD = auto()
    RESPONSE_CHUNK = auto()
    RESPONSE_END = auto()
    CLOSED = auto()


TRANSITIONS: Mapping[Phase, Mapping[Event, Phase]] = {
    Phase.REQUEST_HEADERS: {
        Event.REQUEST_HEADERS: Phase.REQUEST_BODY,
        Event.REQUEST_HEADERS_ONLY: Phase.DECISION,
        # A filter in front (rbac, local_ratelimit, jwt_authn) answered by itself: the stream opens with that reply.
        Event.RESPONSE_HEADERS: Phase.RESPONSE_BODY,
        Event.RESPONSE_HEADERS_ONLY: Phase.ENDED,
        Event.RESPONSE_UNREAD: Phase.UNREAD,
        Event.CLOSED: Phase.ENDED,
    },
    Phase.REQUEST_BODY: {
        Event.REQUEST_CHUNK: Phase.REQUEST_BODY,
        Event.REQUEST_BODY: Phase.DECISION,
        Event.ANSWERED: Phase.ENDED,  # refused by its headers alone
        # Envoy's own reply, such as 413, comes through the response phases without a decision.
        Event.RESPONSE_HEADERS: Phase.RESPONSE_BODY,
        Event.RESPONSE_HEADERS_ONLY: Phase.ENDED,
        Event.RESPONSE_UNREAD: Phase.UNREAD,
        Event.CLOSED: Phase.ENDED,
    },
    Phase.DECISION: {
        Event.DECIDED: Phase.RESPONSE_HEADERS,
        Event.ANSWERED: Phase.ENDED,
        Event.CLOSED: Phase.ENDED,
    },
    Phase.RESPONSE_HEADERS: {
        Event.RESPONSE_HEADERS: Phase.RESPONSE_BODY,
        Event.RESPONSE_HEADERS_ONLY: Phase.ENDED,
        Event.RESPONSE_UNREAD: Phase.UNREAD,
        Event.CLOSED: Phase.ENDED,
    },
    Phase.RESPONSE_BODY: {
        Event.RESPONSE_CHUNK: Phase.RESPONSE_BODY,
        Event.RESPONSE_END: Phase.ENDED,
        Event.CLOSED: Phase.ENDED,
    },
    Phase.UNREAD: {Event.RESPONSE_END: Phase.ENDED, Event.CLOSED: Phase.ENDED},
    Phase.ENDED: {Event.CLOSED: Phase.ENDED},
}


class UnexpectedEventError(Exception):
    """The other side sent something that has no place in this phase. The exchange is unchanged."""


class Exchange:
    """State of one exchange. Times are seconds of the caller's clock."""

    __slots__ = (
        "__weakref__",
        "_body",
        "_decision",
        "_mode",
        "_own_envoy",
        "_response_limit",
        "bodies",
        "ending",
        "first_token",
        "last_token",
        "phase",
        "status",
    )

    def __init__(self, response_limit: int, *, own_envoy: bool = False) -> None:
        """`response_limit`: bytes of a JSON answer that may be held for editing. `own_envoy`: the gateway is a rendered
        Envoy, which lets no destination send `REASON_HEADER`; behind any other it says nothing."""
        self.phase = Phase.REQUEST_HEADERS
        self.ending: Ending | None = None
        self.status = 0
        self.first_token: float | None = None
        self.last_token: float | None = None
        self.bodies: BodyMode | None = None
        """How Envoy sends the bodies of answers whatever it is asked for: STREAMED or NONE. None: as it is asked."""
        self._decision: Decision | None = None
        self._body: ResponseBody | None = None
        self._mode = BodyMode.NONE
        self._response_limit = response_limit
        self._own_envoy = own_envoy

    def __repr__(self) -> str:
        return f"<Exchange {self.phase.name} ending={self.ending} status={self.status}>"

    @property
    def usage(self) -> Usage | None:
        """What the answer reported so far."""
        if self._body is None or self._decision is None or not self._decision.plan.count:
            return None
        return self._body.usage

    @property
    def completion_bytes(self) -> int:
        """Bytes of the answer seen so far that count as completion."""
        return self._body.completion_bytes if self._body else 0

    @property
    def sent(self) -> bool:
        """Whether the request was let go to its destination."""
        return self._decision is not None

    @property
    def kept(self) -> bytes | None:
        """The answer as unstreamed JSON, as the destination sent it, if it was wanted, came whole and was let
        through."""
        body = self._body
        if body is None or self._decision is None or self.ending is not Ending.COMPLETED:
            return None
        answer = body.kept
        return answer if answer is not None and len(answer) <= self._decision.plan.keep else None

    @property
    def events(self) -> bool:
        """Whether the answer is an event stream that is looked into."""
        return self._body is not None and self._body.events

    def request_headers(self, *, end: bool) -> None:
        """The request's headers are in; `end`: no body follows."""
        self._advance(Event.REQUEST_HEADERS_ONLY if end else Event.REQUEST_HEADERS)

    def request_body(self, *, end: bool = True) -> None:
        """A piece of the request body is in; `end`: all of it."""
        self._advance(Event.REQUEST_BODY if end else Event.REQUEST_CHUNK)

    def decided(self, decision: Decision) -> None:
        """The request goes on as decided."""
        self._advance(Event.DECIDED)
        self._decision = decision

    def answered(self, answer: LocalReply) -> None:
        """The exchange ends with Sluice's own answer."""
        self._advance(Event.ANSWERED)
        self.ending = answer.ending
        self.status = answer.status

    def response_headers(self, headers: Headers, *, end: bool) -> HeadersReply:
        """The answer begins; `end`: it has no body."""
        by_envoy = self._decision is None or (self._own_envoy and REASON_HEADER in headers)
        body, mode, reply = None, BodyMode.NONE, HeadersReply()
        if self._decision is not None and not by_envoy:
            body, mode, reply = open_response(self._decision.plan, headers, self._response_limit, self.bodies)
        if end:
            self._advance(Event.RESPONSE_HEADERS_ONLY)
        else:
            mode = self.bodies or mode
            self._advance(Event.RESPONSE_UNREAD if mode is BodyMode.NONE else Event.RESPONSE_HEADERS)
            self._body, self._mode = body, mode
        self.status = int(headers.get(":status", b"0"))
        if by_envoy:
            self.ending = Ending.REPLIED_BY_ENVOY
        elif self.phase is not Phase.RESPONSE_BODY and not self.counted_by_envoy:
            self.ending = Ending.COMPLETED
        return reply

    def response_body(self, chunk: bytes, *, end: bool, now: float) -> BodyReply:
        """A piece of the answer; `end`: the last one."""
        end = end or self._mode is BodyMode.BUFFERED  # before trailers, Envoy marks even a whole body as unfinished
        self._advance(Event.RESPONSE_END if end else Event.RESPONSE_CHUNK)
        if chunk and self._body is not None:
            if self.first_token is None:
                self.first_token = now
            self.last_token = now
        reply = UNCHANGED if self._body is None else self._body.feed(chunk, end=end)
        if reply.broken:
            if not end:
                self._advance(Event.RESPONSE_END)
            self.ending = Ending.UNREADABLE_ANSWER
        elif end:
            self.ending = self.ending or self._completed()
        return reply

    @property
    def counted_by_envoy(self) -> bool:
        """Whether the answer passes by while Envoy counts its tokens."""
        return isinstance(self._body, Counted)

    def response_trailers(self, usage: Usage | None = None) -> BodyReply:
        """Trailers follow the last piece of a streamed answer, which was not marked as such. The reply's body is what
        was held back until the end. `usage` is what Envoy has counted."""
        self._advance(Event.RESPONSE_END)
        if isinstance(self._body, Counted):
            self._body.usage = usage
        reply = UNCHANGED if self._body is None else self._body.feed(b"", end=True)
        self.ending = Ending.UNREADABLE_ANSWER if reply.broken else self.ending or self._completed()
        return reply

    @property
    def costly(self) -> bool:
        """Whether a long piece of the answer takes time: it passes through filters, or is kept for others."""
        if self._body is None or self._decision is None:
            return False
        plan = self._decision.plan
        return plan.open_filter is not None or plan.keep > 0

    def _completed(self) -> Ending:
        return Ending.ANSWER_DENIED if self._body is not None and self._body.denied else Ending.COMPLETED

    def closed(self) -> None:
        """Envoy closed the stream: the exchange is over, whatever it waited for."""
        self._advance(Event.CLOSED)
        if self.ending is None:
            # a client that has read the end of a denied answer need not wait for what the destination still says
            self.ending = self._completed() if self._body is not None and self._body.denied else Ending.CLIENT_GONE
            if self._body is not None:
                self._body.abandon()

    def _advance(self, event: Event) -> None:
        try:
            self.phase = TRANSITIONS[self.phase][event]
        except KeyError:
            raise UnexpectedEventError(f"{event.name} while waiting for {self.phase.name}") from None
