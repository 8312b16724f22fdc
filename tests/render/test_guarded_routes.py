"""What Envoy does without the filter where security policies hold."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from extproc.render.routes import CLOSED_PREFIX, OPEN_PREFIX, STALE_PREFIX, digest, route_configuration
from extproc.resources.base import decode_hook
from extproc.resources.kinds.security import LLMSecurityPolicy
from extproc.resources.snapshot import Snapshot
from tests.render.harness import snapshot

TEXT = """
pool p: {endpoints: [{address: '10.0.0.1:80'}]}
pool q: {endpoints: [{address: '10.0.0.2:80'}]}
provider x: {host: api.example.com}
route one:
  host: one
  rules: [{name: a, matches: [{path: {prefix: /a}}], backendRefs: [{pool: p}]}, {backendRefs: [{pool: q}]}]
route two: {host: two, rules: [{backendRefs: [{provider: x}]}]}
"""


def guarded(*specs: dict[str, Any]) -> Snapshot:
    documents = [
        {"apiVersion": "sluice.dev/v1alpha1", "kind": "LLMSecurityPolicy", "metadata": {"name": f"s{i}"}, "spec": spec}
        for i, spec in enumerate(specs)
    ]
    policies = [msgspec.convert(each, LLMSecurityPolicy, dec_hook=decode_hook) for each in documents]
    return msgspec.structs.replace(snapshot(TEXT), security={each.metadata.name: each for each in policies})


def hosts(found: Snapshot) -> dict[str, list[dict[str, Any]]]:
    return {each["name"]: each["routes"] for each in route_configuration(found)["virtual_hosts"]}


def closed(route: dict[str, Any]) -> bool:
    """Whether an answer breaks off without the filter, if the route leads anywhere."""
    if route["name"].startswith(STALE_PREFIX):
        return True
    [override] = route.get("typed_per_filter_config", {"": {}}).values()
    return override.get("overrides", {}).get("failure_mode_allow") is False


def leading(found: Snapshot) -> list[dict[str, Any]]:
    """All routes but the last of each host, which is for requests that Envoy knows no destination of."""
    return [route for routes in hosts(found).values() for route in routes[:-1]]


def told(route: dict[str, Any]) -> str:
    """What Envoy tells the filter of a route, without the digest."""
    [override] = route["typed_per_filter_config"].values()
    [header] = override["overrides"]["grpc_initial_metadata"]
    return str(header["value"]).partition("/")[2]


def passing(routes: list[dict[str, Any]]) -> list[str]:
    """Routes of requests that no filter has seen and that go on all the same."""
    return [each["name"] for each in routes if each["name"].startswith(OPEN_PREFIX)]


WATCHING = {"inspect": {"response": True}}


def test_nothing_is_closed_without_a_policy() -> None:
    assert not any(map(closed, leading(guarded())))
    assert passing(hosts(guarded())["one"]) == ["open/one/0", "open/one/1"]


@pytest.mark.parametrize(
    ("targets", "open_"),
    [
        ({"hosts": ["one"]}, []),
        ({"hosts": ["ONE"]}, []),
        ({"routes": ["one"]}, []),
        ({"routes": ["one/a"]}, ["open/one/1"]),
        ({"pools": ["p"]}, ["open/one/1"]),
        ({"pools": ["q"]}, ["open/one/0"]),
        ({"hosts": ["two"]}, ["open/one/0", "open/one/1"]),
        ({}, []),
    ],
)
def test_a_guarded_request_never_passes_unseen(targets: dict[str, Any], open_: list[str]) -> None:
    assert passing(hosts(guarded({"targets": targets}))["one"]) == open_


def test_a_policy_for_requests_leaves_answers_alone() -> None:
    assert not any(map(closed, leading(guarded({}))))


def test_watched_answers_break_off_without_the_filter() -> None:
    found = hosts(guarded({"targets": {"hosts": ["two"]}, **WATCHING}))
    assert all(map(closed, found["two"]))
    assert not any(map(closed, found["one"][:-1]))


def test_only_the_watched_target_of_a_host() -> None:
    """The way of unprocessed requests is closed as well: Envoy takes the setting of the route a request begins with."""
    routes = hosts(guarded({"targets": {"pools": ["p"]}, **WATCHING}))["one"]
    closed_ = {each["name"] for each in routes if closed(each)}
    assert {"pool/p stream", "pool/p unary"} <= closed_
    assert not closed_ & {"pool/q stream", "pool/q unary"}
    assert all(closed(each) for each in routes if each["name"].startswith((OPEN_PREFIX, CLOSED_PREFIX)))


def test_one_policy_of_several_is_enough() -> None:
    assert all(map(closed, hosts(guarded({"targets": {"hosts": ["two"]}}, WATCHING))["two"]))


def test_a_dry_run_closes_nothing() -> None:
    found = hosts(guarded({"dryRun": True, **WATCHING}))
    assert not any(map(closed, (route for routes in found.values() for route in routes[:-1])))
    assert passing(found["one"]) == ["open/one/0", "open/one/1"]
    assert passing(hosts(guarded({"dryRun": True}, {}))["one"]) == []


def test_envoy_tells_the_filter_what_it_does_without_it() -> None:
    found = hosts(guarded({"targets": {"routes": ["one/a"]}}, {"targets": {"hosts": ["two"]}, **WATCHING}))
    assert [told(route) for route in found["one"] if route["name"].startswith((OPEN_PREFIX, CLOSED_PREFIX))] == [
        "closed",
        "open",
    ]
    assert told(found["two"][-2]) == "answers"


def test_the_digest_is_of_what_envoy_depends_on() -> None:
    plain = digest(guarded())
    assert digest(guarded()) == plain
    assert digest(guarded({"denyPatterns": ["a"]})) == digest(guarded({"denyPatterns": ["b"]})) != plain
    moved = snapshot(TEXT.replace("api.example.com", "other.example.com"))
    assert digest(moved) != plain
