"""The step from one configuration to the next."""

from __future__ import annotations

from extproc.render import EnvoyConfig, render, transition
from tests.render.harness import snapshot

POOLS = """
pool a: {endpoints: [{address: '10.0.0.1:80'}]}
pool b: {endpoints: [{address: '10.0.0.2:80'}]}
"""


def config(text: str) -> EnvoyConfig:
    return render(snapshot(text), "unix:/f.sock")


def routes(found: EnvoyConfig) -> dict[str, list[str]]:
    hosts = found.route_configuration["virtual_hosts"]
    return {host["name"]: [route["name"].removesuffix(" unary") for route in host["routes"][1:]] for host in hosts}


def to(host: str, pool: str) -> str:
    return f"route {pool}{len(host)}: {{host: '{host}', rules: [{{backendRefs: [{{pool: {pool}}}]}}]}}\n"


def names(found: EnvoyConfig) -> set[str]:
    return {cluster["name"] for cluster in found.clusters}


def test_between_the_same_nothing_changes() -> None:
    same = config(POOLS + to("*", "a"))
    assert transition(same, same) == same


def test_retired_targets_stay_before_the_unprocessed_routes() -> None:
    old, new = config(POOLS + to("h", "a")), config(POOLS + to("h", "b"))
    (host,) = [item for item in transition(old, new).route_configuration["virtual_hosts"] if item["name"] == "h"]
    assert [route["name"] for route in host["routes"]] == [
        "pool/a stream",
        "pool/a unary",
        "pool/b stream",
        "pool/b unary",
        "open/h/0",
        "stale/h",
    ]
    assert host["routes"][-2]["route"]["cluster"] == "pool/b"


def test_retired_clusters_stay_and_changed_ones_are_new() -> None:
    old = config("pool a: {endpoints: [{address: '10.0.0.1:80'}]}\npool b: {endpoints: [{address: '10.0.0.2:80'}]}")
    new = config("pool b: {endpoints: [{address: '10.0.0.9:80'}]}")
    both = transition(old, new)
    assert names(both) == {"sluice", "sluice-closed", "pool/a", "pool/b"}
    assert [item for item in both.clusters if item["name"] == "pool/b"] == [
        item for item in new.clusters if item["name"] == "pool/b"
    ]


def test_a_host_that_comes_or_goes_is_served_by_either_side() -> None:
    """While it has no rules of its own, `h` is served by `*`, so requests decided there must find their way."""
    alone, extra = config(POOLS + to("*", "a")), config(POOLS + to("*", "a") + to("h", "b"))
    for old, new in ((alone, extra), (extra, alone)):
        found = routes(transition(old, new))
        assert {"pool/a", "pool/b"} <= set(found["h"])
        assert "pool/b" not in found["*"]


def test_a_wildcard_covers_the_hosts_below_it() -> None:
    old = config(POOLS + to("*.example.com", "a"))
    new = config(POOLS + to("x.example.com", "b") + to("example.com", "b"))
    found = routes(transition(old, new))
    assert {"pool/a", "pool/b"} <= set(found["x.example.com"])
    assert "pool/a" not in found["example.com"]
    assert {"pool/a"} <= set(found["*.example.com"])
