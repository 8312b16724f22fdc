"""Manifests to live routing tables."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

from extproc.live.build import build
from extproc.pool.policies import make_policy
from extproc.pool.pool import Pool
from extproc.resources.base import decode_hook
from extproc.resources.kinds.gateway import Gateway
from extproc.resources.kinds.pool import InferencePool
from extproc.resources.kinds.provider import LLMProvider
from extproc.resources.kinds.route import LLMRoute
from extproc.resources.secrets import SecretStore
from extproc.resources.snapshot import Resource, Snapshot
from extproc.steps.head import RequestHead
from extproc.steps.live import Live
from tests.support.gateway import Manifest, manifest, pool, provider, route

KINDS: dict[str, type[Resource]] = {
    "LLMProvider": LLMProvider,
    "LLMRoute": LLMRoute,
    "InferencePool": InferencePool,
    "Gateway": Gateway,
}


def live(*manifests: Manifest, environ: dict[str, str] | None = None) -> Live:
    found: dict[str, dict[str, Any]] = {kind: {} for kind in KINDS}
    for one in manifests:
        resource = msgspec.convert(one, KINDS[one["kind"]], dec_hook=decode_hook)
        found[one["kind"]][resource.metadata.name] = resource
    settings = {"gateway": next(iter(found["Gateway"].values()))} if found["Gateway"] else {}
    snapshot = Snapshot(
        providers=found["LLMProvider"], routes=found["LLMRoute"], pools=found["InferencePool"], **settings
    )
    pools = {
        name: Pool(name, make_policy("least-request"), retry_count=2, stale_after=1.0, random=Random(0))
        for name in snapshot.pools
    }
    return build(snapshot, SecretStore(environ or {}, Path()), pools)


def test_a_provider_without_a_route_serves_its_own_host() -> None:
    found = live(provider("p", "api.example.com", port=443, model="m"), environ={"KEY": "k"})
    routes = found.table.find("api.example.com")
    assert routes is not None
    (backend,) = routes.rules[0].backends
    assert (backend.target, backend.model, backend.key_header) == ("provider/p", "m", "authorization")
    assert backend.key is not None
    assert backend.key() == b"Bearer k"
    assert routes.models == ("m",)
    assert found.table.find("elsewhere") is None


def test_a_key_that_is_not_there_is_none() -> None:
    routes = live(provider("p", "h", port=443)).table.find("h")
    assert routes is not None
    key = routes.rules[0].backends[0].key
    assert key is not None
    assert key() is None


def test_rule_specific_settings_win_over_the_defaults() -> None:
    acme = provider("p", "h", port=443, model="small", stream=False)
    acme["spec"]["configs"]["routeSpecificConfigs"] = {"vip": {"openAIConfig": {"model": "large"}}}
    vip = {"name": "vip", "matches": [{"headers": {"Tier": {"exact": "gold"}}}], "backendRefs": [{"providerHost": "h"}]}
    found = live(acme, route("r", "h", vip, {"backendRefs": [{"provider": "p"}]})).table.find("h")
    assert found is not None
    first, second = found.rules
    assert (first.backends[0].model, first.backends[0].stream) == ("large", False)
    assert second.backends[0].model == "small"
    assert first.head_fits(RequestHead({"tier": b"gold"}))
    assert not first.head_fits(RequestHead({"tier": b"silver"}))
    assert found.models == ("large", "small")


def test_a_model_of_the_destination_wins_over_fill_only_mode() -> None:
    acme = provider("p", "h", port=443, model="theirs", mode="default")
    found = live(acme, route("r", "*", {"backendRefs": [{"provider": "p", "model": "mine"}]})).table.default
    assert found is not None
    assert (found.rules[0].backends[0].model, found.rules[0].backends[0].fill_only) == ("mine", False)


@pytest.mark.parametrize(("gateways", "served"), [([], True), (["test"], True), (["other"], False)])
def test_routes_and_matches_for_other_gateways_do_not_count(gateways: list[str], served: bool) -> None:
    own = manifest("Gateway", "test")
    gpus = pool("gpus", ["127.0.0.1:1"])
    as_route = route("r", "h", {"backendRefs": [{"pool": "gpus"}]})
    as_route["spec"]["gateways"] = gateways
    assert (live(own, gpus, as_route).table.find("h") is not None) is served
    rule = {"matches": [{"gateways": gateways}], "backendRefs": [{"pool": "gpus"}]}
    as_match = live(own, gpus, route("r", "h", rule)).table.find("h")
    assert as_match is not None
    assert as_match.rules[0].head_fits(RequestHead({})) is served


def test_models_come_from_matches_then_destinations() -> None:
    gpus = pool("gpus", ["127.0.0.1:1"], models=["a", "b"])
    exact = {"matches": [{"model": {"exact": "x"}}], "backendRefs": [{"pool": "gpus"}]}
    prefix = {"matches": [{"model": {"prefix": "a"}}], "backendRefs": [{"pool": "gpus"}]}
    found = live(gpus, route("r", "*", exact, prefix)).table.default
    assert found is not None
    assert found.models == ("x", "a", "b")


def test_hosts_with_wildcards_are_tried_longest_first() -> None:
    gpus = pool("gpus", ["127.0.0.1:1"])
    rule = {"backendRefs": [{"pool": "gpus"}]}
    table = live(gpus, *(route(f"r{i}", host, rule) for i, host in enumerate(["*.b", "*.a.b", "*"]))).table
    assert [suffix for suffix, _ in table.suffixes] == [".a.b", ".b"]
    assert table.default is not None


def test_key_files_are_known_before_the_first_request(tmp_path: Path) -> None:
    """Else nobody would watch them."""
    one = provider("p", "api.example.com", port=443, key="${file:key}")
    secrets = SecretStore({}, tmp_path)
    build(Snapshot(providers={"p": msgspec.convert(one, LLMProvider, dec_hook=decode_hook)}), secrets, {})
    assert secrets.files() == {tmp_path / "key"}
