"""Timeouts, retries, connection pools and outlier detection, as the documents set them for language models."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import dataclass, field
from http.client import IncompleteRead
from typing import Any

import pytest

from bench.provider import ProviderServer
from tests.e2e.talk import Reply, Scripted, hello, send, sending
from tests.support.far_side import FarSide
from tests.support.gateway import Gateway, Gateways, Manifest, provider

PRINTED_POOL = {
    "maxConnections": 100,
    "connectTimeout": "5s",
    "tcpKeepaliveTime": "7200s",
    "tcpKeepaliveInterval": "75s",
    "maxPendingRequests": 50,
    "maxRequests": 100,
    "maxRequestsPerConnection": 10,
    "idleTimeout": "90s",
}
PRINTED_OUTLIERS = {
    "consecutive5xxErrors": 3,
    "interval": "30s",
    "baseEjectionTime": "60s",
    "maxEjectionPercent": 50,
}
PRINTED_BREAKER = {
    "consecutive5xxErrors": 5,
    "consecutiveGatewayErrors": 3,
    "interval": "60s",
    "baseEjectionTime": "120s",
    "maxEjectionPercent": 100,
}

SPECS: dict[str, Manifest] = {
    "printed": {"connectionPool": PRINTED_POOL, "outlierDetection": PRINTED_OUTLIERS},
    "patient": {"retries": {"attempts": 2, "on": ["gateway-error", "connect-failure"]}},
    "busy": {"retries": {"attempts": 1, "statusCodes": [429]}},
    "hasty": {"timeouts": {"unary": "3s", "perTry": "300ms"}, "retries": {"attempts": 1}},
    "breaker": {
        "connectionPool": {"maxPendingRequests": 20, "maxRetries": 1},
        "outlierDetection": PRINTED_BREAKER,
        "retries": {"attempts": 0},
    },
    "limited": {"outlierDetection": {"consecutive5xxErrors": 3, "maxEjectionPercent": 100}, "retries": {"attempts": 0}},
    "narrow": {"connectionPool": {"maxConnections": 1, "maxPendingRequests": 1}, "retries": {"attempts": 0}},
}
"""Providers whose answers follow a script."""
SLOW: Manifest = {
    "timeouts": {"unary": "400ms", "perTry": "400ms", "stream": "600ms", "idle": "300ms"},
    "retries": {"attempts": 0},
}


@dataclass
class World:
    gateway: Gateway
    slow: ProviderServer
    scripted: dict[str, Scripted] = field(default_factory=dict)

    def play(self, name: str, *statuses: int) -> Scripted:
        """The provider's next answers; after them, 200."""
        found = self.scripted[name]
        found.paths.clear()
        found.script = lambda number: statuses[number - 1] if number <= len(statuses) else 200
        return found

    def send(self, name: str, **fields: Any) -> Reply:
        return send(self.gateway, hello(model="m", **fields), host=f"{name}.test")


@pytest.fixture(scope="module")
def world(far_side: FarSide, gateways: Gateways) -> Iterator[World]:
    with ExitStack() as stack:
        scripted = {name: stack.enter_context(Scripted().serving()) for name in SPECS}
        slow = far_side.provider()
        manifests = [provider(name, f"{name}.test", port=80, protocol="http", **spec) for name, spec in SPECS.items()]
        aliases = {f"{name}.test": found.address for name, found in scripted.items()}
        gateway = gateways.start(
            *manifests,
            provider("slow", "slow.test", port=80, protocol="http", **SLOW),
            hostAliases=aliases | {"slow.test": slow.address},
            split=True,  # with one thread of Envoy: limits of connections are loose across several
        )
        yield World(gateway, slow, scripted)


class TestRetries:
    @pytest.mark.parametrize("status", [502, 503, 504])
    def test_a_gateway_error_is_tried_again(self, world: World, status: int) -> None:
        found = world.play("patient", status, status)
        reply = world.send("patient")
        assert (reply.status, reply.json["attempt"], len(found.paths)) == (200, 3, 3)

    def test_but_not_for_ever(self, world: World) -> None:
        found = world.play("patient", *[503] * 9)
        assert world.send("patient").status == 503
        assert len(found.paths) == 3

    @pytest.mark.parametrize("status", [400, 429, 500])
    def test_other_errors_are_not_tried_again(self, world: World, status: int) -> None:
        found = world.play("patient", status)
        assert (world.send("patient").status, len(found.paths)) == (status, 1)

    def test_unless_configured(self, world: World) -> None:
        found = world.play("busy", 429)
        assert (world.send("busy").status, len(found.paths)) == (200, 2)

    @pytest.mark.parametrize("status", [503, 429])
    def test_a_stream_is_never_tried_again(self, world: World, status: int) -> None:
        for name in ("patient", "busy"):
            found = world.play(name, status)
            assert (world.send(name, stream=True).status, len(found.paths)) == (status, 1)

    def test_an_attempt_that_takes_too_long_is_tried_again(self, world: World) -> None:
        found = world.scripted["hasty"]
        found.paths.clear()
        end = threading.Event()
        found.script = lambda number: 200 if number > 1 or end.wait(20) else 500
        reply = world.send("hasty")
        end.set()
        assert (reply.status, len(found.paths)) == (200, 2)


class TestTimeouts:
    def test_unary(self, world: World) -> None:
        reply = send(world.gateway, hello(model="m"), host="slow.test", x_sim="delay:5000")
        assert (reply.status, reply.error["code"]) == (504, "upstream_timeout")

    def test_a_stream_that_does_not_begin(self, world: World) -> None:
        reply = send(world.gateway, hello(model="m", stream=True), host="slow.test", x_sim="delay:5000")
        assert (reply.status, reply.error["code"]) == (504, "upstream_timeout")

    @pytest.mark.parametrize("sim", ["slow-stream:5000", "slow-stream:50,events:1000"])
    def test_a_stream_that_falls_silent_or_does_not_end(self, world: World, sim: str) -> None:
        """It is broken off, visibly: the client must not take what it has for the whole answer."""
        with sending(world.gateway, hello(model="m", stream=True), host="slow.test", x_sim=sim) as response:
            assert response.status == 200
            with pytest.raises(IncompleteRead) as raised:
                response.read()
        assert raised.value.partial.startswith(b"data: ")
        assert b"[DONE]" not in raised.value.partial


class TestLimits:
    def test_what_the_documents_print_is_served(self, world: World) -> None:
        world.play("printed")
        assert [world.send("printed").status for _ in range(3)] == [200] * 3

    def test_too_many_at_once(self, world: World) -> None:
        found = world.scripted["narrow"]
        gate = threading.Event()
        found.script = lambda _number: 200 if gate.wait(20) else 500
        with ThreadPoolExecutor(6) as threads:
            all_ = [threads.submit(world.send, "narrow") for _ in range(6)]
            answers = as_completed(all_, timeout=20)
            refused = [next(answers).result() for _ in range(4)]
            gate.set()
            served = [answer.result() for answer in answers]
        assert {reply.status for reply in served} == {200}
        for reply in refused:
            assert (reply.status, reply.error["code"]) == (503, "upstream_overloaded")
            assert reply.headers["retry-after"] == "1"

    @pytest.mark.parametrize(("name", "status", "errors"), [("limited", 429, 3), ("breaker", 503, 3)])
    def test_a_provider_that_keeps_failing_is_left_alone(
        self, world: World, name: str, status: int, errors: int
    ) -> None:
        """429 counts as well, and gateway errors have a limit of their own."""
        found = world.play(name, *[status] * 9)
        assert [world.send(name).status for _ in range(errors)] == [status] * errors
        reply = world.send(name)
        assert (reply.status, reply.error["code"]) == (503, "upstream_unavailable")
        assert len(found.paths) == errors
