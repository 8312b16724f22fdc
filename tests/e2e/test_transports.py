"""What both transports carry alike. All other end-to-end tests run on the one that `SLUICE_TRANSPORT` names."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.e2e.talk import send
from tests.support.chat import Chat
from tests.support.far_side import FarSide
from tests.support.gateway import Gateway, Gateways, pool, provider, route
from tests.support.held import Held
from tests.support.processes import wait_until

HOST = "api.example.com"


@pytest.fixture(scope="module")
def held(far_side: FarSide) -> Iterator[Held]:
    with Held(far_side) as one:
        yield one


@pytest.fixture(scope="module", params=["http2", "grpcio"])
def gateway(request: pytest.FixtureRequest, gateways: Gateways, far_side: FarSide, held: Held) -> Gateway:
    """`gpus` answers at once, `api` needs every body rewritten, `queue` takes one request at a time."""
    found = gateways.start(
        pool("gpus", [far_side.engine().address]),
        pool("one", [held.address], saturation={"maxInFlight": 1}, queue={"timeout": "60s"}),
        provider("api", HOST, port=80, protocol="http", model="theirs"),
        route("gpus", "gpus", {"backendRefs": [{"pool": "gpus"}]}),
        route("one", "one", {"backendRefs": [{"pool": "one"}]}),
        route("api", "api", {"backendRefs": [{"provider": "api"}]}),
        hostAliases={HOST: far_side.provider().address},
        environ={"SLUICE_TRANSPORT": request.param},
    )
    assert f"by {request.param}" in found.filter.output()
    return found


def test_answers_whole_and_streamed(gateway: Gateway) -> None:
    for stream in (False, True):
        reply = send(
            gateway,
            {"model": "qwen3-8b", "stream": stream, "messages": [{"role": "user", "content": "hi"}]},
            host="gpus",
        )
        assert reply.status == 200
        assert (reply.events[-1] == "[DONE]") if stream else reply.json["usage"]
    assert gateway.log_line(model="qwen3-8b")["completion_tokens"]


@pytest.mark.parametrize("size", [16_300, 70_000, 3_000_000])
def test_large_bodies_are_rewritten(gateway: Gateway, size: int) -> None:
    reply = send(gateway, {"model": "ours", "messages": [{"role": "user", "content": "x" * size}]}, host="api")
    assert reply.status == 200, reply.body[:300]


def test_many_at_once(gateway: Gateway) -> None:
    body = {"model": "qwen3-8b", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
    with ThreadPoolExecutor(40) as threads:
        replies = list(threads.map(lambda _: send(gateway, body, host="gpus"), range(200)))
    assert {reply.status for reply in replies} == {200}
    assert all(reply.events[-1] == "[DONE]" for reply in replies)


def test_a_request_waits_and_one_that_leaves_is_noticed(gateway: Gateway, held: Held) -> None:
    def waiting(count: int) -> None:
        wait_until(lambda: gateway.metric("sluice_pool_waiting", pool="one") == count, f"{count} waiting", 20)

    with Chat(gateway.port, "one", model="first") as first:
        call = held.next()
        with Chat(gateway.port, "one", model="gone"):
            waiting(1)
        waiting(0)
        with Chat(gateway.port, "one", model="next") as following:
            waiting(1)
            call.answer()
            assert first.reply().status == 200
            call = held.next()
            assert call.json["model"] == "next"
            call.answer()
            assert following.reply().status == 200
    wait_until(lambda: gateway.metric("sluice_endpoint_in_flight", pool="one") == 0, "the load given back", 20)


def test_stopping_lets_a_running_request_finish(gateway: Gateway, held: Held) -> None:
    """Last, as nothing runs after it."""
    with Chat(gateway.port, "one", model="last") as chat:
        call = held.next()
        gateway.filter.signal(signal.SIGTERM)
        wait_until(lambda: "stopping" in gateway.filter.output(), "the stop", 20)
        call.answer()
        assert chat.reply().status == 200
    assert gateway.filter.wait() == 0
