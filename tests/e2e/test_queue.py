"""Every endpoint is busy: requests wait in the gateway, in order and within limits."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.chat import Chat
from tests.support.far_side import FarSide
from tests.support.gateway import Gateway, Gateways, pool, route
from tests.support.held import Held
from tests.support.processes import wait_until

ONE = {"maxInFlight": 1}


@pytest.fixture(scope="module")
def held(far_side: FarSide) -> Iterator[Held]:
    with Held(far_side) as one:
        yield one


@pytest.fixture(scope="module")
def gateway(gateways: Gateways, held: Held) -> Gateway:
    """`x` waits long, `hasty` hardly at all, `full` has no room to wait. All have one endpoint with room for one."""
    queues = {"x": {"timeout": "60s"}, "hasty": {"timeout": "100ms"}, "full": {"maxSize": 0}}
    manifests = [pool(name, [held.address], saturation=ONE, queue=queue) for name, queue in queues.items()]
    routes = [route(name, name, {"backendRefs": [{"pool": name}]}) for name in queues]
    # An exchange that waits must outlive Envoy's own patience with the filter.
    return gateways.start(*manifests, *routes, limits={"messageTimeout": "1s"})


def queued(gateway: Gateway, name: str, count: int) -> None:
    wait_until(lambda: gateway.metric("sluice_pool_waiting", pool=name) == count, f"{count} waiting in {name}", 20)


def test_requests_wait_their_turn_and_longer_than_envoy_would(gateway: Gateway, held: Held) -> None:
    with Chat(gateway.port, "x", model="first") as first:
        call = held.next()
        with Chat(gateway.port, "x", model="second") as second:
            queued(gateway, "x", 1)
            with Chat(gateway.port, "x", model="third") as third:
                queued(gateway, "x", 2)
                waited = "sluice_pool_oldest_wait_seconds"
                wait_until(lambda: gateway.metric(waited, pool="x") > 1.5, "more time than Envoy grants the filter", 20)
                call.answer()
                assert first.reply().status == 200
                for chat, model in ((second, "second"), (third, "third")):
                    call = held.next()
                    assert call.json["model"] == model
                    call.answer()
                    assert chat.reply().status == 200
    queued(gateway, "x", 0)


def test_a_client_that_leaves_the_queue_makes_room(gateway: Gateway, held: Held) -> None:
    with Chat(gateway.port, "x", model="first") as first:
        call = held.next()
        with Chat(gateway.port, "x", model="gone"):
            queued(gateway, "x", 1)
        queued(gateway, "x", 0)
        with Chat(gateway.port, "x", model="next") as following:
            queued(gateway, "x", 1)
            call.answer()
            assert first.reply().status == 200
            call = held.next()
            assert call.json["model"] == "next"
            call.answer()
            assert following.reply().status == 200


@pytest.mark.parametrize(("host", "status", "code"), [("hasty", 503, "queue_timeout"), ("full", 429, "queue_full")])
def test_limits_of_the_queue_are_clear_errors(gateway: Gateway, held: Held, host: str, status: int, code: str) -> None:
    with Chat(gateway.port, host) as first:
        call = held.next()
        with Chat(gateway.port, host) as second:
            reply = second.reply()
        assert (reply.status, reply.error["code"]) == (status, code)
        assert reply.headers["retry-after"] == "1"
        assert reply.headers["x-sluice-reason"] == code
        call.answer()
        assert first.reply().status == 200
