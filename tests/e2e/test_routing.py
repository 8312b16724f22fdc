"""Which destination a request goes to: rules in order, conditions, weights."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import pytest

from bench.provider import ProviderServer
from tests.e2e.talk import hello, last, send
from tests.support.far_side import FarSide
from tests.support.gateway import Gateway, Gateways, Manifest, provider, route

HOST = "api.example.com"


def to(model: str, *matches: Manifest, **more: int) -> Manifest:
    """A rule that can be told by the model which the provider gets."""
    return {"matches": list(matches), "backendRefs": [{"provider": "p", "model": model, **more}]}


ROUTES = [
    route(
        "headers",
        "headers.test",
        to("both", {"headers": {"x-a": {"exact": "1"}, "X-B": {"exact": "2"}}}),
        to("exact", {"headers": {"x-a": {"exact": "1"}}}),
        to("prefix", {"headers": {"x-a": {"prefix": "team-"}}}),
        to("regex", {"headers": {"x-a": {"regex": "[0-9]{3}"}}}),
        to("either", {"headers": {"x-a": {"exact": "x"}}}, {"headers": {"x-c": {"prefix": ""}}}),
        to("default"),
    ),
    route(
        "paths",
        "paths.test",
        to("exact", {"path": {"exact": "/v1/chat/completions"}}),
        to("regex", {"path": {"regex": "/v[0-9]+/rerank"}}),
        to("prefix", {"path": {"prefix": "/v1/"}}),
    ),
    route(
        "models",
        "models.test",
        to("exact", {"model": {"exact": "gpt-4o"}}),
        to("prefix", {"model": {"prefix": "gpt-"}}),
        to("regex", {"model": {"regex": "(qwen|llama)[0-9].*"}}),
        to("vip", {"model": {"exact": "mine"}, "headers": {"user-type": {"exact": "vip"}}}),
    ),
    route(
        "weights",
        "weights.test",
        {
            "backendRefs": [
                {"provider": "p", "model": model, "weight": weight}
                for model, weight in (("three", 3), ("none", 0), ("one", 1))
            ]
        },
    ),
    route("suffix", "*.models.test", to("subdomain")),
    route("rest", "*", to("anywhere", {"model": {"exact": "served"}})),
]


@dataclass(frozen=True)
class World:
    gateway: Gateway
    provider: ProviderServer

    def chosen(self, host: str, path: str = "/v1/chat/completions", model: str = "m", **headers: str) -> str:
        """The model of the rule that took the request, or the code of the error."""
        body = {"model": model, "input": "hi"} if path.endswith("rerank") else hello(model=model)
        reply = send(self.gateway, body, path, host=host, **headers)
        if reply.status != 200:
            return f"{reply.status} {reply.error['code']}"
        chosen: str = last(self.provider).json["model"]
        return chosen


@pytest.fixture(scope="module")
def world(far_side: FarSide, gateways: Gateways) -> World:
    acme = far_side.provider()
    gateway = gateways.start(provider("p", HOST, port=80, protocol="http"), *ROUTES, hostAliases={HOST: acme.address})
    return World(gateway, acme)


@pytest.mark.parametrize(
    ("headers", "chosen"),
    [
        ({"x_a": "1", "x_b": "2"}, "both"),
        ({"x_a": "1"}, "exact"),
        ({"X_A": "1"}, "exact"),
        ({"x_a": "12"}, "default"),
        ({"x_a": "team-search"}, "prefix"),
        ({"x_a": "123"}, "regex"),
        ({"x_a": "1234"}, "default"),
        ({"x_a": "x"}, "either"),
        ({"x_c": "anything"}, "either"),
        ({}, "default"),
    ],
)
def test_headers(world: World, headers: dict[str, str], chosen: str) -> None:
    assert world.chosen("headers.test", **headers) == chosen


@pytest.mark.parametrize(
    ("path", "chosen"),
    [
        ("/v1/chat/completions", "exact"),
        ("/v1/chat/completions?x=1", "exact"),
        ("/v2/rerank", "regex"),
        ("/v1/rerank", "regex"),
        ("/v1/other/rerank", "prefix"),
        ("/x/rerank", "404 route_not_found"),
    ],
)
def test_paths(world: World, path: str, chosen: str) -> None:
    assert world.chosen("paths.test", path) == chosen


@pytest.mark.parametrize(
    ("model", "chosen"),
    [
        ("gpt-4o", "exact"),
        ("gpt-4o-mini", "prefix"),
        ("qwen3-8b", "regex"),
        ("my-qwen3-8b", "404 model_not_found"),
        ("mine", "404 model_not_found"),
    ],
)
def test_models(world: World, model: str, chosen: str) -> None:
    assert world.chosen("models.test", model=model) == chosen


def test_all_conditions_of_a_match_must_hold(world: World) -> None:
    assert world.chosen("models.test", model="mine", user_type="vip") == "vip"


def test_weights_need_not_sum_to_100(world: World) -> None:
    assert Counter(world.chosen("weights.test") for _ in range(12)) == {"three": 9, "one": 3}


@pytest.mark.parametrize("host", ["headers.test:8080", "HEADERS.test"])
def test_port_and_case_of_the_host_do_not_matter(world: World, host: str) -> None:
    assert world.chosen(host) == "default"


def test_hosts_with_wildcards(world: World) -> None:
    assert world.chosen("eu.models.test") == "subdomain"
    assert world.chosen("a.eu.models.test") == "subdomain"
    assert world.chosen("other.test", model="served") == "anywhere"


def test_what_nobody_serves_is_named(world: World) -> None:
    reply = send(world.gateway, hello(model="m"), "/x/y", host="paths.test")
    assert reply.status == 404
    assert "paths.test" in reply.error["message"]
    assert "/x/y" in reply.error["message"]
    nameless = send(world.gateway, hello(), host="models.test")
    assert (nameless.status, nameless.error["code"]) == (400, "missing_model")


def test_the_list_of_models_is_that_of_the_host(world: World) -> None:
    def listed(host: str) -> list[str]:
        reply = send(world.gateway, path="/v1/models", host=host, method="GET")
        return [model["id"] for model in reply.json["data"]]

    assert listed("models.test") == ["gpt-4o", "prefix", "regex", "mine"]
    assert listed("weights.test") == ["three", "none", "one"]
    assert listed("other.test") == ["served"]
