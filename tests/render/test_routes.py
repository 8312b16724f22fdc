"""Virtual hosts and what requests may ask of a destination."""

from __future__ import annotations

from typing import Any

import pytest

from extproc.render.routes import route_configuration
from tests.render.harness import snapshot

RESOURCES = """
gateway edge: {limits: {requestBody: 7MiB}}
pool p: {endpoints: [{address: '10.0.0.1:80'}], retryCount: 3, timeouts: {stream: 5m, unary: 40s, perTry: 9s, idle: 8s}}
provider x: {host: API.example.com, port: 8443, retries: {attempts: 4, 'on': [reset], statusCodes: [429, 409]}}
provider y: {host: y.example.com, retries: {attempts: 0}}
"""


def hosts(text: str = "") -> dict[str, Any]:
    return {host["name"]: host for host in route_configuration(snapshot(RESOURCES + text))["virtual_hosts"]}


def routes(host: str, text: str = "") -> dict[str, Any]:
    return {route["name"]: route for route in hosts(text)[host]["routes"]}


def test_every_host_has_only_what_its_rules_reach() -> None:
    text = "route r: {host: r.example, rules: [{backendRefs: [{pool: p}, {provider: y}]}]}"
    found = {name: [route["name"] for route in host["routes"]] for name, host in hosts(text).items()}
    assert all(names.pop() == f"stale/{name}" for name, names in found.items())
    assert found == {
        "*": ["closed/*/0"],
        "api.example.com": ["provider/x stream", "provider/x unary", "closed/api.example.com/0"],
        "y.example.com": ["provider/y stream", "provider/y unary", "closed/y.example.com/0"],
        "r.example": [
            "pool/p stream",
            "pool/p unary",
            "provider/y stream",
            "provider/y unary",
            "closed/r.example/0",
        ],
    }


def test_every_route_has_the_body_limit() -> None:
    for host in hosts("route r: {host: r, rules: [{backendRefs: [{pool: p}]}]}").values():
        assert {route["request_body_buffer_limit"] for route in host["routes"]} == {7 * 2**20}


def test_a_target_route_matches_only_what_the_filter_wrote() -> None:
    match = routes("api.example.com")["provider/x unary"]["match"]
    assert match["prefix"] == "/"
    found = {item["path"][0]["key"]: (item["filter"], item["value"]) for item in match["dynamic_metadata"]}
    assert found == {
        "target": ("sluice", {"string_match": {"exact": "provider/x"}}),
        "kind": ("sluice", {"string_match": {"exact": "unary"}}),
    }


def test_streams_at_a_provider_are_never_retried() -> None:
    action = routes("api.example.com")["provider/x stream"]["route"]
    assert "retry_policy" not in action
    assert (action["timeout"], action["idle_timeout"]) == ("300s", "300s")


def test_unary_requests_at_a_provider() -> None:
    action = routes("api.example.com")["provider/x unary"]["route"]
    assert action["host_rewrite_literal"] == "API.example.com:8443"
    assert (action["timeout"], action["idle_timeout"]) == ("120s", "125s")
    assert action["retry_policy"] == {
        "num_retries": 4,
        "per_try_timeout": "60s",
        "retriable_status_codes": [429, 409],
        "retry_on": "reset,retriable-status-codes",
        "rate_limited_retry_back_off": {
            "reset_headers": [{"name": "retry-after", "format": "SECONDS"}],
            "max_interval": "10s",
        },
    }
    assert "retry_policy" not in routes("y.example.com")["provider/y unary"]["route"]
    assert routes("y.example.com")["provider/y unary"]["route"]["host_rewrite_literal"] == "y.example.com"


@pytest.mark.parametrize("codes", ["", "statusCodes: [503]"])
def test_only_a_retried_429_is_waited_for(codes: str) -> None:
    text = f"provider z: {{host: z.example, retries: {{attempts: 2, {codes}}}}}"
    assert "rate_limited_retry_back_off" not in routes("z.example", text)["provider/z unary"]["route"]["retry_policy"]


@pytest.mark.parametrize(("kind", "timeout", "idle"), [("stream", "300s", "37s"), ("unary", "40s", "45s")])
def test_both_kinds_are_retried_in_a_pool(kind: str, timeout: str, idle: str) -> None:
    action = routes("*", "route r: {host: '*', rules: [{backendRefs: [{pool: p}]}]}")[f"pool/p {kind}"]["route"]
    assert (action["timeout"], action["idle_timeout"]) == (timeout, idle)
    policy = action["retry_policy"]
    assert (policy["num_retries"], policy["retriable_status_codes"]) == (3, [429, 503])
    assert "rate_limited_retry_back_off" not in policy, "another endpoint need not be waited for"
    assert policy.get("per_try_timeout") == ("9s" if kind == "unary" else None)
    assert policy.get("per_try_idle_timeout") == ("8s" if kind == "stream" else None)


def test_conditions_become_envoys() -> None:
    text = """
route r:
  host: '*'
  rules:
  - matches:
    - headers: {X-Tier: {exact: gold}, x-user: {prefix: a}, x-app: {regex: 'b.*'}, x-any: {prefix: ''}}
      path: {exact: /v1/chat/completions}
    - path: {regex: '/v1/.*'}
    - path: {prefix: /v2}
    backendRefs: [{pool: p}]
"""
    found = [dict(route["match"]) for name, route in routes("*", text).items() if name.startswith("open/")]
    only_unprocessed = [match.pop("dynamic_metadata") for match in found]
    assert all(metadata["invert"] for (metadata,) in only_unprocessed)
    assert found == [
        {
            "path": "/v1/chat/completions",
            "headers": [
                {"name": "x-tier", "string_match": {"exact": "gold"}},
                {"name": "x-any", "present_match": True},
                {"name": "x-app", "string_match": {"safe_regex": {"regex": "b.*"}}},
                {"name": "x-user", "string_match": {"prefix": "a"}},
            ],
        },
        {"safe_regex": {"regex": "/v1/.*"}},
        {"prefix": "/v2"},
    ]


def test_what_is_for_other_gateways_is_left_out() -> None:
    text = """
route here: {host: here, gateways: [edge, mesh], rules: [{backendRefs: [{pool: p}]}]}
route there: {host: there, gateways: [mesh], rules: [{backendRefs: [{pool: p}]}]}
route parts:
  host: parts
  rules:
  - {matches: [{gateways: [mesh]}], backendRefs: [{provider: y}]}
  - {matches: [{gateways: [edge], path: {prefix: /v1}}, {gateways: [mesh]}], backendRefs: [{pool: p}]}
"""
    found = hosts(text)
    assert "here" in found
    assert "there" not in found
    assert [route["name"] for route in found["parts"]["routes"]] == [
        "pool/p stream",
        "pool/p unary",
        "open/parts/0",
        "closed/parts/1",
        "stale/parts",
    ]
