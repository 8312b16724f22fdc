"""The state table, enumerated; whole exchanges as transcripts."""

from __future__ import annotations

import gzip
import itertools

import pytest

from extproc.exchange.endings import REFUSALS, Ending, error_body
from extproc.exchange.exchange import TRANSITIONS, Event, Exchange, Phase, UnexpectedEventError
from extproc.exchange.values import BodyMode, Decision, LocalReply, ResponsePlan

REFUSAL = LocalReply(Ending.ROUTE_NOT_FOUND, 404, b"{}")
JSON = {":status": b"200", "content-type": b"application/json", "content-length": b"40"}
SSE = {":status": b"200", "content-type": b"text/event-stream"}
FRAME = b'data: {"choices":[{"delta":{"content":"hi"}}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":5}}\n\n'


def exchange_in(phase: Phase) -> Exchange:
    """An exchange that waits for `phase`, reached by ordinary events."""
    exchange = Exchange(1000)
    if phase is Phase.REQUEST_HEADERS:
        return exchange
    exchange.request_headers(end=False)
    if phase is Phase.REQUEST_BODY:
        return exchange
    exchange.request_body()
    if phase is Phase.DECISION:
        return exchange
    exchange.decided(Decision({}))
    if phase is Phase.RESPONSE_HEADERS:
        return exchange
    if phase is Phase.UNREAD:
        exchange.response_headers({":status": b"204"}, end=False)
    else:
        exchange.response_headers(SSE, end=False)
    if phase is Phase.ENDED:
        exchange.response_body(b"", end=True, now=0.0)
    return exchange


def send(exchange: Exchange, event: Event) -> None:
    """Makes `event` happen through the public methods."""
    match event:
        case Event.REQUEST_HEADERS | Event.REQUEST_HEADERS_ONLY:
            exchange.request_headers(end=event is Event.REQUEST_HEADERS_ONLY)
        case Event.REQUEST_CHUNK | Event.REQUEST_BODY:
            exchange.request_body(end=event is Event.REQUEST_BODY)
        case Event.DECIDED:
            exchange.decided(Decision({}))
        case Event.ANSWERED:
            exchange.answered(REFUSAL)
        case Event.RESPONSE_HEADERS:
            exchange.response_headers(SSE, end=False)
        case Event.RESPONSE_HEADERS_ONLY:
            exchange.response_headers(SSE, end=True)
        case Event.RESPONSE_UNREAD:
            exchange.response_headers({":status": b"500"}, end=False)
        case Event.RESPONSE_CHUNK | Event.RESPONSE_END:
            exchange.response_body(b"x", end=event is Event.RESPONSE_END, now=1.0)
        case Event.CLOSED:
            exchange.closed()


@pytest.mark.parametrize(("phase", "event"), list(itertools.product(Phase, Event)))
def test_every_event_in_every_phase_follows_the_table(phase: Phase, event: Event) -> None:
    exchange = exchange_in(phase)
    assert exchange.phase is phase
    if event is Event.RESPONSE_HEADERS and phase in (Phase.REQUEST_HEADERS, Phase.REQUEST_BODY):
        event = Event.RESPONSE_UNREAD  # without a decision every answer is Envoy's own and passes unread
        exchange.response_headers(SSE, end=False)
        assert exchange.phase is Phase.UNREAD
        return
    following = TRANSITIONS[phase].get(event)
    if following is None:
        before = (exchange.ending, exchange.status)
        with pytest.raises(UnexpectedEventError):
            send(exchange, event)
        assert exchange.phase is phase
        assert (exchange.ending, exchange.status) == before
    else:
        send(exchange, event)
        assert exchange.phase is following


def test_every_phase_ends_when_the_stream_closes() -> None:
    for phase in Phase:
        exchange = exchange_in(phase)
        exchange.closed()
        assert exchange.phase is Phase.ENDED
        assert exchange.ending is not None


def test_a_reply_of_a_filter_in_front_passes_as_it_is() -> None:
    """rbac, local_ratelimit or jwt_authn: nothing is known of the request, and the stream opens with the reply."""
    exchange = Exchange(1000)
    exchange.bodies = BodyMode.STREAMED
    reply = exchange.response_headers({":status": b"429", "content-length": b"18"}, end=False)
    assert (reply.remove_headers, reply.set_headers) == ((), ())
    assert exchange.response_body(b"local_rate", end=False, now=1.0).body is None
    assert exchange.response_body(b"_limited", end=True, now=1.0).body is None
    assert (exchange.phase, exchange.ending, exchange.status) == (Phase.ENDED, Ending.REPLIED_BY_ENVOY, 429)
    assert (exchange.usage, exchange.first_token) == (None, None)


def test_a_streamed_answer_is_counted_without_being_changed() -> None:
    exchange = exchange_in(Phase.RESPONSE_HEADERS)
    reply = exchange.response_headers({**SSE, "content-length": b"99"}, end=False)
    assert reply.mode is BodyMode.STREAMED
    assert reply.remove_headers == ("content-length",)
    assert exchange.response_body(FRAME, end=False, now=2.0).body is None
    assert exchange.response_body(USAGE, end=False, now=3.0).body is None
    assert exchange.usage is not None
    assert exchange.usage.prompt_tokens == 3
    assert exchange.response_body(b"", end=True, now=9.0).body is None
    assert (exchange.first_token, exchange.last_token, exchange.ending) == (2.0, 3.0, Ending.COMPLETED)


def test_a_client_that_leaves_early_is_still_counted() -> None:
    exchange = exchange_in(Phase.RESPONSE_BODY)
    exchange.response_body(FRAME + USAGE, end=False, now=2.0)
    exchange.closed()
    assert exchange.ending is Ending.CLIENT_GONE
    assert exchange.usage is not None
    assert exchange.usage.completion_tokens == 5


def test_usage_that_the_client_did_not_ask_for_is_taken_out() -> None:
    exchange = exchange_in(Phase.DECISION)
    exchange.decided(Decision({}, plan=ResponsePlan(strip_usage=True)))
    exchange.response_headers(SSE, end=False)
    pieces = [FRAME[:10], FRAME[10:] + USAGE[:30], USAGE[30:] + b"data: [DO", b"NE]\n\n"]
    seen = b""
    for i, piece in enumerate(pieces):
        reply = exchange.response_body(piece, end=i == len(pieces) - 1, now=1.0)
        seen += piece if reply.body is None else reply.body
    assert seen == FRAME + b"data: [DONE]\n\n"
    assert exchange.usage is not None


def test_a_json_answer_of_known_size_is_taken_whole() -> None:
    exchange = exchange_in(Phase.RESPONSE_HEADERS)
    assert exchange.response_headers(JSON, end=False).mode is BodyMode.BUFFERED
    body = b'{"usage":{"prompt_tokens":1,"completion_tokens":2}}'
    assert exchange.response_body(body, end=False, now=1.0).body is None  # trailers follow: not marked as the end
    assert exchange.ending is Ending.COMPLETED
    assert exchange.usage is not None


def test_a_json_answer_of_unknown_size_is_held_only_to_be_edited() -> None:
    headers = {":status": b"200", "content-type": b"application/json"}
    for plan, first in ((ResponsePlan(), None), (ResponsePlan(model="mine"), b"")):
        exchange = exchange_in(Phase.DECISION)
        exchange.decided(Decision({}, plan=plan))
        assert exchange.response_headers(headers, end=False).mode is BodyMode.STREAMED
        assert exchange.response_body(b'{"model":', end=False, now=1.0).body == first
        last = exchange.response_body(b'"theirs"}', end=True, now=1.0).body
        assert last == (None if first is None else b'{"model":"mine"}')


def test_a_json_answer_too_large_to_hold_goes_on_unedited() -> None:
    exchange = exchange_in(Phase.DECISION)
    exchange.decided(Decision({}, plan=ResponsePlan(model="mine")))
    exchange.response_headers({":status": b"200", "content-type": b"application/json"}, end=False)
    pieces = [b'{"model":"theirs","x":"' + b"a" * 500, b"b" * 600, b'"}']
    seen = b""
    for i, piece in enumerate(pieces):
        reply = exchange.response_body(piece, end=i == 2, now=1.0)
        seen += piece if reply.body is None else reply.body
    assert seen == b"".join(pieces)


UNREADABLE = {
    "corrupt": [b"not gzip"],
    "a bomb": [gzip.compress(b'{"model":"theirs","x":"' + b"a" * 2000 + b'"}')],
    "too long to hold": [b"\x1f", b"a" * 1001],
}


@pytest.mark.parametrize("pieces", UNREADABLE.values(), ids=UNREADABLE)
@pytest.mark.parametrize("kind", ["application/json", "text/event-stream"])
@pytest.mark.parametrize("length", [{}, {"content-length": b"40"}])
def test_an_answer_to_be_edited_that_cannot_be_decoded_does_not_look_complete(
    pieces: list[bytes], kind: str, length: dict[str, bytes]
) -> None:
    exchange = exchange_in(Phase.DECISION)
    exchange.decided(Decision({}, plan=ResponsePlan(model="mine")))
    headers = {":status": b"200", "content-type": kind.encode(), "content-encoding": b"gzip", **length}
    mode = exchange.response_headers(headers, end=False).mode
    if mode is BodyMode.BUFFERED:
        pieces = [b"".join(pieces)]
    replies = [exchange.response_body(piece, end=piece is pieces[-1], now=1.0) for piece in pieces]
    assert [reply.broken for reply in replies] == [False] * (len(pieces) - 1) + [True]
    assert not any(reply.body for reply in replies)
    assert (exchange.phase, exchange.ending) == (Phase.ENDED, Ending.UNREADABLE_ANSWER)


def test_an_answer_that_breaks_in_its_middle_ends_the_exchange_there() -> None:
    exchange = exchange_in(Phase.DECISION)
    exchange.decided(Decision({}, plan=ResponsePlan(model="mine")))
    exchange.response_headers({**SSE, "content-encoding": b"gzip"}, end=False)
    assert exchange.response_body(b"not gzip", end=False, now=1.0).broken
    assert (exchange.phase, exchange.ending) == (Phase.ENDED, Ending.UNREADABLE_ANSWER)


@pytest.mark.parametrize("status", [b"400", b"429", b"500"])
def test_errors_of_the_destination_pass_unread(status: bytes) -> None:
    exchange = exchange_in(Phase.RESPONSE_HEADERS)
    assert exchange.response_headers({**JSON, ":status": status}, end=False).mode is BodyMode.NONE
    assert exchange.phase is Phase.UNREAD
    assert exchange.status == int(status)


def test_envoys_own_reply_is_told_apart() -> None:
    headers = {**JSON, ":status": b"503", "x-sluice-reason": b"upstream_unavailable"}
    exchange = exchange_in(Phase.RESPONSE_HEADERS)
    exchange._own_envoy = True
    exchange.response_headers(headers, end=False)
    exchange.closed()
    assert exchange.ending is Ending.REPLIED_BY_ENVOY


def test_behind_another_gateway_no_header_of_an_answer_says_who_it_is_from() -> None:
    """A destination could send it, and have its answer pass unseen."""
    exchange = exchange_in(Phase.DECISION)
    exchange.decided(Decision({}, plan=ResponsePlan(open_filter=lambda _channel: None, fail_closed=True)))  # type: ignore[arg-type]
    headers = {**JSON, ":status": b"200", "content-length": b"2", "x-sluice-reason": b"anything"}
    reply = exchange.response_headers(headers, end=False)
    assert reply.mode is not BodyMode.NONE
    assert exchange.ending is None


def test_header_patterns_become_the_names_that_are_there() -> None:
    exchange = exchange_in(Phase.DECISION)
    plan = ResponsePlan(set_headers=(("x-a", b"1"),), remove_headers=("x-ratelimit-*", "server", "absent"))
    exchange.decided(Decision({}, plan=plan))
    headers = {**JSON, "x-ratelimit-limit": b"1", "x-ratelimit-left": b"0", "server": b"theirs"}
    reply = exchange.response_headers(headers, end=False)
    assert set(reply.remove_headers) == {"x-ratelimit-limit", "x-ratelimit-left", "server"}
    assert reply.set_headers == (("x-a", b"1"),)


def test_every_refusal_has_its_http_form() -> None:
    own = {Ending.COMPLETED, Ending.ANSWERED, Ending.CACHED, Ending.CACHED, Ending.CLIENT_GONE, Ending.REPLIED_BY_ENVOY}
    assert set(REFUSALS) == set(Ending) - own
    assert error_body(Ending.NOT_JSON, 'a "quote"', param="x") == (
        b'{"error":{"message":"a \\"quote\\"","type":"invalid_request_error","code":"not_json","param":"x"}}'
    )


class _Denied:
    text, denied = "", True

    def feed(self, _text: str, *, end: bool) -> _Denied:
        return self


def test_a_client_that_has_read_a_denied_answer_is_not_gone() -> None:
    exchange = Exchange(1000)
    exchange.request_headers(end=False)
    exchange.request_body()
    exchange.decided(Decision({}, plan=ResponsePlan(open_filter=lambda _channel: _Denied(), refusal="no")))
    exchange.response_headers(SSE, end=False)
    reply = exchange.response_body(FRAME, end=False, now=0.0)
    assert reply.body is not None and b"content_filter" in reply.body
    exchange.closed()
    assert exchange.ending is Ending.ANSWER_DENIED
