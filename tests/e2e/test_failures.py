"""The filter dies or hangs in every phase of a request: what open and closed routes do then."""

from __future__ import annotations

import json
import queue
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from tests.support.chat import Chat, chat
from tests.support.far_side import FarSide
from tests.support.gateway import Gateway, Gateways, pool, provider, route
from tests.support.held import Call, Held
from tests.support.processes import http_status, wait_until
from tests.support.raw import Reply

OPEN, CLOSED = "pool.example", "api.example.com"
KEY = "Bearer sk-simulated"
FORGED = {
    "x-gateway-destination-endpoint": "127.0.0.1:1",
    "x-sluice-target": "pool/gpus",
    "x-sluice-kind": "stream",
    "x-sluice-anything": "forged",
}


@dataclass
class Setup:
    """A split gateway with an open pool of two endpoints and a closed provider."""

    gateway: Gateway
    gateways: Gateways
    engines: tuple[Held, Held]
    provider: Held

    def chat(self, host: str, **options: object) -> Chat:
        return Chat(self.gateway.port, host, **options)  # type: ignore[arg-type]

    def next_at_engine(self) -> Call:
        return self.engines[0].next()  # both put them into one queue

    def serve_open(self, turns: int, **options: object) -> list[Call]:
        """Sends requests to the open route all at once, answers them, and gives what arrived."""
        with ExitStack() as stack:
            clients = [stack.enter_context(self.chat(OPEN, **options)) for _ in range(turns)]
            calls = [self.next_at_engine() for _ in clients]
            for call in calls:
                call.answer()
            assert [client.reply().status for client in clients] == [200] * turns
        return calls

    def in_flight(self) -> int:
        (found,) = json.loads(self.gateway.admin_text("/endpoints"))
        return sum(endpoint["in_flight"] for endpoint in found["endpoints"])


def rewritten(call: Call) -> bool:
    return call.headers.get("authorization") == KEY and call.json["model"] == "qwen-max"


def refused(reply: Reply) -> bool:
    """The documented answer of a closed route."""
    return (reply.status, reply.error["code"], reply.headers["retry-after"]) == (503, "filter_unavailable", "1")


@pytest.fixture(scope="module")
def setup(far_side: FarSide, gateways: Gateways) -> Iterator[Setup]:
    calls: queue.Queue[Call] = queue.Queue()
    with Held(far_side, calls) as first, Held(far_side, calls) as second, Held(far_side) as cloud:
        gateway = gateways.start(
            pool("gpus", [first.address, second.address]),
            provider("cloud", CLOSED, port=80, protocol="http", model="qwen-max"),
            route("open", OPEN, {"backendRefs": [{"pool": "gpus"}]}),
            route("closed", CLOSED, {"backendRefs": [{"provider": "cloud"}]}),
            split=True,
            hostAliases={CLOSED: cloud.address},
            limits={"messageTimeout": "1s"},
        )
        yield Setup(gateway, gateways, (first, second), cloud)


class Fault:
    """Something that befalls the filter once, and passes with the test."""

    def __init__(self, setup: Setup, kind: str) -> None:
        self._setup = setup
        self.kind = kind
        self._struck = False

    def strike(self) -> None:
        self._struck = True
        if self.kind == "killed":
            self._setup.gateway.filter.kill()
        else:
            self._setup.gateway.filter.signal(signal.SIGSTOP)

    def pass_by(self) -> None:
        if not self._struck:
            return
        self._struck = False
        gateway = self._setup.gateway
        if self.kind == "killed":
            self._setup.gateways.start_filter(gateway)
        else:
            gateway.filter.signal(signal.SIGCONT)
            wait_until(lambda: http_status(f"{gateway.admin}/readyz") == 200, "the filter to go on")


@pytest.fixture(params=["killed", "hanging"])
def fault(request: pytest.FixtureRequest, setup: Setup) -> Iterator[Fault]:
    found = Fault(setup, request.param)
    yield found
    found.pass_by()


def test_before_the_request(setup: Setup, fault: Fault) -> None:
    arrived = setup.provider.arrived
    fault.strike()
    calls = setup.serve_open(4)
    assert {call.json["model"] for call in calls} == {"m"}, "passes unmodified"
    assert Counter(call.at for call in calls) == {engine.address: 2 for engine in setup.engines}, "round robin"
    with setup.chat(CLOSED) as unary, setup.chat(CLOSED, stream=True) as stream:
        assert refused(unary.reply())
        assert refused(stream.reply())
    assert setup.provider.arrived == arrived


def test_while_the_body_is_being_sent(setup: Setup, fault: Fault) -> None:
    gateway = setup.gateway
    arrived = setup.provider.arrived
    seen = gateway.metric("sluice_messages_total", phase="request_headers")
    with setup.chat(CLOSED, half=True) as closed, setup.chat(OPEN, half=True) as open_:
        wait_until(lambda: gateway.metric("sluice_messages_total", phase="request_headers") == seen + 2, "both headers")
        fault.strike()
        open_.send_rest()
        closed.send_rest()
        call = setup.next_at_engine()
        assert call.json["messages"] == [{"role": "user", "content": "hi"}], "the body is whole"
        call.answer()
        assert open_.reply().status == 200
        assert refused(closed.reply())
    assert setup.provider.arrived == arrived


@pytest.mark.parametrize("stream", [False, True])
def test_while_the_destination_thinks(setup: Setup, fault: Fault, stream: bool) -> None:
    with setup.chat(OPEN, stream=stream) as open_, setup.chat(CLOSED, stream=stream) as closed:
        calls = [setup.next_at_engine(), setup.provider.next()]
        fault.strike()
        for client, call in zip((open_, closed), calls, strict=True):
            if stream:
                call.event("held")
                call.end()
                assert client.head()[0] == 200
                assert client.remaining() == "held"
            else:
                call.answer()
                assert client.reply().json["choices"][0]["message"]["content"] == "held"
        assert rewritten(calls[1])


def test_in_the_middle_of_a_streamed_answer(setup: Setup, fault: Fault) -> None:
    with setup.chat(OPEN, stream=True) as open_, setup.chat(CLOSED, stream=True) as closed:
        pairs = [(open_, setup.next_at_engine()), (closed, setup.provider.next())]
        for client, call in pairs:
            call.event("one ")
            assert client.head()[0] == 200
            assert client.text() == "one "
        fault.strike()
        for _, call in pairs:
            call.event("two ")
            call.event("three")
            call.end()
        assert [client.remaining() for client, _ in pairs] == ["two three"] * 2
        assert rewritten(pairs[1][1])


def test_between_two_requests_of_one_connection(setup: Setup, fault: Fault) -> None:
    with setup.chat(CLOSED) as client:
        setup.provider.next().answer()
        assert client.reply().status == 200
        arrived = setup.provider.arrived
        fault.strike()
        client.send(b"POST /v1/chat/completions HTTP/1.1\r\nhost: %b\r\ncontent-length: 2\r\n\r\n{}" % CLOSED.encode())
        assert refused(client.reply())
        assert setup.provider.arrived == arrived


def test_what_comes_back_is_processed_again(setup: Setup, fault: Fault) -> None:
    fault.strike()
    assert refused(chat(setup.gateway.port, CLOSED))
    fault.pass_by()
    with setup.chat(CLOSED) as client:
        call = setup.provider.next()
        call.answer()
        assert client.reply().status == 200
        assert rewritten(call)
    with setup.chat(OPEN, stream=True) as stream:
        call = setup.next_at_engine()
        for _ in range(4):
            (served,) = setup.serve_open(1)
            assert served.at != call.at, "least loaded again: the busy endpoint gets nothing"
        call.event("x")
        call.end()
        assert stream.head()[0] == 200
        assert stream.remaining() == "x"
    wait_until(lambda: setup.in_flight() == 0, "all load to be given back")


class TestForgedHeaders:
    def test_do_not_steer_or_arrive_while_the_filter_works(self, setup: Setup) -> None:
        with setup.chat(OPEN, stream=True) as stream:
            busy = setup.next_at_engine()
            for _ in range(3):
                (served,) = setup.serve_open(1, headers=FORGED | {"x-gateway-destination-endpoint": busy.at})
                assert served.at != busy.at
                assert served.headers["x-gateway-destination-endpoint"] == f"{served.at},{busy.at}"
                assert not [name for name in served.headers if name.startswith("x-sluice-")]
            busy.event("x")
            busy.end()
            assert stream.head()[0] == 200
        with setup.chat(CLOSED, headers=FORGED) as client:
            call = setup.provider.next()
            call.answer()
            assert client.reply().status == 200
            assert not FORGED.keys() & call.headers.keys()

    def test_do_not_steer_or_arrive_while_the_filter_is_away(self, setup: Setup, fault: Fault) -> None:
        arrived = setup.provider.arrived
        fault.strike()
        calls = setup.serve_open(4, headers=FORGED | {"x-gateway-destination-endpoint": setup.engines[0].address})
        assert Counter(call.at for call in calls) == {engine.address: 2 for engine in setup.engines}
        assert not [call for call in calls if FORGED.keys() & call.headers.keys()]
        forged = FORGED | {"x-sluice-target": "provider/cloud", "x-sluice-kind": "unary"}
        assert refused(chat(setup.gateway.port, CLOSED, headers=forged))
        assert setup.provider.arrived == arrived
