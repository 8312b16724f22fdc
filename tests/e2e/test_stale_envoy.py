"""`sluice serve` behind an Envoy that was rendered from older manifests: nothing passes that it cannot protect."""

from __future__ import annotations

import pytest

from tests.support.chat import chat
from tests.support.far_side import FarSide
from tests.support.gateway import Gateway, Gateways, Manifest, manifest, pool, provider, route
from tests.support.processes import http_status
from tests.support.raw import Reply
from tests.support.traffic import host, rate

OPEN, OTHER = "pool.example", "other.example"
NO_CLASSIFIER = {"classifier": {"enabled": False}}


@pytest.fixture
def engines(far_side: FarSide) -> list[str]:
    return [far_side.engine().address]


def manifests(engines: list[str], *more: Manifest) -> list[Manifest]:
    hosts = [route(name.partition(".")[0], name, {"backendRefs": [{"pool": "gpus"}]}) for name in (OPEN, OTHER)]
    return [pool("gpus", engines), *hosts, *more]


def ask(gateway: Gateway, host: str) -> Reply:
    return chat(gateway.port, host, model="qwen3-8b")


def start(gateways: Gateways, engines: list[str], *more: Manifest) -> Gateway:
    gateway = gateways.start(*manifests(engines, *more), split=True)
    assert ask(gateway, OPEN).status == 200
    return gateway


def test_no_request_with_a_key_reaches_a_pool_of_unprocessed_requests(gateways: Gateways, far_side: FarSide) -> None:
    """The filter sends it to a provider that this Envoy does not know."""
    engine = far_side.engine()
    gateway = start(gateways, [engine.address])
    later = [
        provider("cloud", "api.example.com", port=80, protocol="http"),
        route("pool", OPEN, {"backendRefs": [{"provider": "cloud"}]}),
    ]
    gateway.configure(pool("gpus", [engine.address]), *later)
    answer = ask(gateway, OPEN)
    assert (answer.status, answer.error["code"]) == (503, "stale_envoy")
    assert "sluice render envoy" in answer.error["message"]
    assert gateway.log_line(reason="stale_envoy")["upstream_host"] is None


def test_a_policy_that_came_later_is_fail_closed(gateways: Gateways, engines: list[str]) -> None:
    gateway = start(gateways, engines)
    denied = manifest("LLMSecurityPolicy", "p", targets={"hosts": [OPEN]}, denyPatterns=["plum"], **NO_CLASSIFIER)
    gateway.configure(*manifests(engines, denied))
    answer = ask(gateway, OPEN)
    assert (answer.status, answer.error["code"]) == (503, "stale_envoy")
    assert ask(gateway, OTHER).status == 200, "nothing is wrong with the others"
    assert "stale_envoy" in gateway.filter.output()
    assert "stale_envoy" in gateway.admin_text("/readyz")
    gateway.configure(*manifests(engines))
    assert ask(gateway, OPEN).status == 200
    assert gateway.admin_text("/readyz") == "ready\n"


def test_what_envoy_knows_needs_no_rendering(gateways: Gateways, engines: list[str]) -> None:
    """Also a change of a policy that was there."""
    policy = manifest("LLMSecurityPolicy", "p", targets={"hosts": [OPEN]}, denyPatterns=["plum"], **NO_CLASSIFIER)
    gateway = start(gateways, engines, policy)
    policy["spec"]["denyPatterns"] = ["pear"]
    gateway.configure(*manifests(engines, policy))
    assert ask(gateway, OPEN).status == 200
    assert gateway.admin_text("/readyz") == "ready\n"


def test_a_traffic_policy_says_what_happens_without_the_filter(gateways: Gateways, engines: list[str]) -> None:
    closed = rate("closed", 100, 100, host(OPEN))
    closed["spec"]["filterAway"] = "closed"
    gateway = start(gateways, engines, closed, rate("open", 100, 100, host(OTHER)))
    gateway.filter.kill()
    answer = ask(gateway, OPEN)
    assert (answer.status, answer.error["code"]) == (503, "filter_unavailable")
    assert ask(gateway, OTHER).status == 200
    gateways.start_filter(gateway)
    assert http_status(f"{gateway.admin}/readyz") == 200


def test_such_a_policy_is_refused_by_an_envoy_that_does_not_know_it(gateways: Gateways, engines: list[str]) -> None:
    gateway = start(gateways, engines)
    closed = rate("closed", 100, 100, host(OPEN))
    closed["spec"]["filterAway"] = "closed"
    gateway.configure(*manifests(engines, closed))
    assert ask(gateway, OPEN).error["code"] == "stale_envoy"
    assert ask(gateway, OTHER).status == 200
