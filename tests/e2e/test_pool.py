"""Pools on a real Envoy: who gets a request, what is counted, and what a failing endpoint means for clients."""

from __future__ import annotations

import json
import queue
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from bench.engine.server import EngineServer
from tests.support.chat import Chat, chat
from tests.support.far_side import FarSide
from tests.support.gateway import Gateway, Gateways, pool, route
from tests.support.held import Call, Held
from tests.support.processes import free_port, wait_until

GONE = (f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}")
QUICK = {"metrics": {"interval": "100ms", "timeout": "300ms"}}


@dataclass
class Setup:
    """One gateway with a pool for every question, each behind a host of the same name."""

    far: FarSide
    gateway: Gateway
    held: list[Held]
    engines: list[EngineServer]

    def chat(self, host: str, **options: Any) -> Chat:
        return Chat(self.gateway.port, host, **options)

    def next(self) -> Call:
        """The next request at one of the held endpoints, which share a queue."""
        return self.held[0].next()

    def endpoints(self, name: str) -> dict[str, dict[str, Any]]:
        pools = json.loads(self.gateway.admin_text("/endpoints"))
        (found,) = [one for one in pools if one["name"] == name]
        return {endpoint["address"]: endpoint for endpoint in found["endpoints"]}

    def in_flight(self, name: str) -> dict[str, int]:
        """Endpoints of a pool that have something in flight."""
        return {address: found["in_flight"] for address, found in self.endpoints(name).items() if found["in_flight"]}

    def states(self, name: str) -> list[str]:
        return [found["state"] for found in self.endpoints(name).values()]


@pytest.fixture(scope="module")
def setup(far_side: FarSide, gateways: Gateways) -> Iterator[Setup]:
    calls: queue.Queue[Call] = queue.Queue()
    with ExitStack() as stack:
        held = [stack.enter_context(Held(far_side, calls)) for _ in range(3)]
        engines = [far_side.engine() for _ in range(2)]
        sglang = far_side.engine(dialect="sglang")
        manifests = [
            pool("held", [one.address for one in held]),
            pool("turns", [one.address for one in held], policy="round-robin"),
            pool("foreign", [one.address for one in engines], **QUICK),
            pool("named", [f"localhost:{engines[0].port}"]),
            pool("dialects", [engines[0].address, sglang.address]),
            pool("gone", GONE, **QUICK),
            pool("single", [engines[0].address], retryCount=0),
        ]
        routes = [route(one["metadata"]["name"], f"{one['metadata']['name']}.example", rule(one)) for one in manifests]
        gateway = gateways.start(*manifests, *routes)
        setup = Setup(far_side, gateway, held, engines)
        wait_until(lambda: set(setup.states("foreign")) == {"healthy"}, "the engines to be known")
        yield setup


def rule(one: dict[str, Any]) -> dict[str, Any]:
    return {"backendRefs": [{"pool": one["metadata"]["name"]}]}


class TestChoice:
    def test_the_least_loaded_endpoint_is_next(self, setup: Setup) -> None:
        with ExitStack() as stack:
            busy, calls = [], []
            for _ in range(3):
                busy.append(stack.enter_context(setup.chat("held.example", stream=True)))
                calls.append(setup.next())
            assert len({call.at for call in calls}) == 3, "each took the idle one"
            assert setup.in_flight("held") == {call.at: 1 for call in calls}
            calls[1].event("x")
            calls[1].end()
            assert busy[1].head()[0] == 200
            assert busy[1].remaining() == "x"
            wait_until(lambda: calls[1].at not in setup.in_flight("held"), "the ended stream to be given back")
            for _ in range(3):
                with setup.chat("held.example") as client:
                    call = setup.next()
                    assert call.at == calls[1].at
                    call.answer()
                    assert client.reply().status == 200

    def test_round_robin_takes_turns_whatever_the_load(self, setup: Setup) -> None:
        with ExitStack() as stack:
            stack.enter_context(setup.chat("turns.example", stream=True))
            calls = [setup.next()]
            for _ in range(8):
                client = stack.enter_context(setup.chat("turns.example"))
                calls.append(setup.next())
                calls[-1].answer()
                assert client.reply().status == 200
            assert [call.at for call in calls] == [call.at for call in calls[:3]] * 3

    def test_load_of_others_counts_too(self, setup: Setup) -> None:
        """Requests that reach an engine past the gateway show in its metrics only."""
        busy, idle = setup.engines
        long = {"model": "qwen3-8b", "stream": True, "max_tokens": 5000, "ignore_eos": True}
        with ExitStack() as stack:
            for _ in range(4):
                stack.enter_context(Chat(busy.port, **long))  # type: ignore[arg-type]
            wait_until(lambda: setup.endpoints("foreign")[busy.address]["running"] == 4, "the scrape to show it")
            before = busy.recorder.seen, idle.recorder.seen
            for _ in range(4):
                assert chat(setup.gateway.port, "foreign.example", model="qwen3-8b", max_tokens=4).status == 200
            assert (busy.recorder.seen, idle.recorder.seen) == (before[0], before[1] + 4)

    def test_a_name_stands_for_its_addresses(self, setup: Setup) -> None:
        assert chat(setup.gateway.port, "named.example", model="qwen3-8b").status == 200
        assert f"127.0.0.1:{setup.engines[0].port}" in setup.endpoints("named")

    def test_engines_are_recognised_by_their_metrics(self, setup: Setup) -> None:
        def engines() -> list[str]:
            return sorted(str(found["engine"]) for found in setup.endpoints("dialects").values())

        wait_until(lambda: engines() == ["sglang", "vllm"], f"both dialects, not {engines()}")


def completed(client: Chat, call: Call) -> None:
    call.answer()
    assert client.reply().status == 200


def failed(client: Chat, call: Call) -> None:
    call.answer(400)
    assert client.reply().status == 400


def streamed(client: Chat, call: Call) -> None:
    call.event("x")
    call.end()
    assert client.head()[0] == 200
    assert client.remaining() == "x"


def left_while_waiting(client: Chat, call: Call) -> None:
    client.reset()
    assert call.gone.wait(20)


def left_in_the_middle(client: Chat, call: Call) -> None:
    call.event("x")
    assert client.head()[0] == 200
    client.reset()
    assert call.gone.wait(20)


def broken_in_the_middle(client: Chat, call: Call) -> None:
    call.event("x")
    assert client.head()[0] == 200
    assert client.text() == "x"
    call.reset()
    assert client.rest() == b"", "no proper end"


@pytest.mark.parametrize(
    "end", [completed, failed, streamed, left_while_waiting, left_in_the_middle, broken_in_the_middle]
)
def test_load_is_given_back_however_it_ends(setup: Setup, end: Callable[[Chat, Call], None]) -> None:
    wait_until(lambda: not setup.in_flight("held"), "nothing in flight")
    with setup.chat("held.example", stream=end not in (completed, failed)) as client:
        call = setup.next()
        assert setup.in_flight("held") == {call.at: 1}
        end(client, call)
        wait_until(lambda: not setup.in_flight("held"), "the load to be given back")


class TestRetries:
    @pytest.mark.parametrize("how", ["503", "429", "reset"])
    @pytest.mark.parametrize("stream", [False, True])
    def test_load_counts_at_the_endpoint_that_serves(self, setup: Setup, how: str, stream: bool) -> None:
        with setup.chat("held.example", stream=stream, model=f"moved-{how}-{stream}") as client:
            first = setup.next()
            first.reset() if how == "reset" else first.answer(int(how))
            second = setup.next()
            assert second.at != first.at
            if stream:
                second.event("x")
                assert client.head()[0] == 200
                assert setup.in_flight("held") == {second.at: 1}
                second.end()
                assert client.remaining() == "x"
            else:
                second.answer()
                assert client.reply().status == 200
        line = setup.gateway.log_line(model=f"moved-{how}-{stream}")
        assert (line["endpoint"], line["upstream_host"], line["attempts"]) == (second.at, second.at, 2)
        wait_until(lambda: not setup.in_flight("held"), "the load to be given back")

    def test_the_last_answer_counts_when_all_are_busy(self, setup: Setup) -> None:
        with setup.chat("held.example") as client:
            calls = []
            for _ in range(3):
                calls.append(setup.next())
                calls[-1].answer(429, error={"message": "busy"})
            assert client.reply().status == 429
        assert len({call.at for call in calls}) == 3, "two retries, each elsewhere"
        assert setup.states("held") == ["healthy"] * 3, "busy is not gone"
        wait_until(lambda: not setup.in_flight("held"), "the load to be given back")

    def test_an_answer_that_breaks_off_before_the_client_has_any_of_it_is_an_error(self, setup: Setup) -> None:
        setup.engines[0].set_faults(reset="mid-stream")
        reply = chat(setup.gateway.port, "single.example", model="qwen3-8b")
        setup.engines[0].set_faults(reset=None)
        assert (reply.status, reply.error["code"]) == (502, "upstream_unavailable")
        wait_until(lambda: not setup.in_flight("single"), "the load to be given back")

    def test_a_lost_endpoint_with_many_requests_fails_none_of_them(self, setup: Setup) -> None:
        with ExitStack() as stack:
            clients = [stack.enter_context(setup.chat("held.example")) for _ in range(300)]
            calls = [setup.next() for _ in clients]
            lost = [call for call in calls if call.at == setup.held[0].address]
            assert len(lost) == 100
            for call in lost:
                call.reset()
            again = [setup.next() for _ in lost]
            assert setup.held[0].address not in {call.at for call in again}
            for call in calls + again:
                if call not in lost:
                    call.answer()
            assert Counter(client.reply().status for client in clients) == {200: 300}
        wait_until(lambda: not setup.in_flight("held"), "the load to be given back")

    def test_without_endpoints_there_is_a_clear_refusal(self, setup: Setup) -> None:
        wait_until(lambda: set(setup.states("gone")) == {"unreachable"}, "the endpoints to be missed")
        reply = chat(setup.gateway.port, "gone.example")
        assert (reply.status, reply.error["code"], reply.headers["retry-after"]) == (503, "no_endpoints", "1")
