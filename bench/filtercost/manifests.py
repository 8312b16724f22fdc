"""What Sluice is given, and the same Envoy configuration without Sluice."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

REWRITE_HOST = "rewrite.bench"
STEER_HOST = "steer.bench"
KEY = "bench-key"
CLIENT_MODEL = "client-model"
TARGET_MODEL = "target-model"

_MANIFESTS = """\
apiVersion: sluice.dev/v1alpha1
kind: Gateway
metadata: {{name: bench}}
spec:
  listener: {{port: {listener}}}
  admin: {{port: {admin}}}
  accessLog: {{enabled: false}}
  usage: filter
---
apiVersion: sluice.dev/v1alpha1
kind: LLMProvider
metadata: {{name: provider}}
spec:
  host: 127.0.0.1
  port: {provider}
  protocol: http
  path: /api/v1/chat/completions
  configs: {{defaultConfig: {{openAIConfig: {{model: {model}, apiKey: "${{BENCH_KEY}}"}}}}}}
---
apiVersion: sluice.dev/v1alpha1
kind: LLMRoute
metadata: {{name: rewrite}}
spec:
  host: {rewrite_host}
  rules: [{{name: rewrite, backendRefs: [{{providerHost: 127.0.0.1}}]}}]
---
apiVersion: sluice.dev/v1alpha1
kind: InferencePool
metadata: {{name: pool}}
spec:
  endpoints: [{endpoints}]
  policy: least-request
---
apiVersion: sluice.dev/v1alpha1
kind: LLMRoute
metadata: {{name: steer}}
spec:
  host: {steer_host}
  rules: [{{name: steer, backendRefs: [{{pool: pool, model: {model}}}]}}]
"""

_EXT_PROC = "envoy.filters.http.ext_proc"


def write_manifests(directory: Path, *, listener: int, admin: int, provider: int, endpoints: Sequence[int]) -> None:
    """One provider behind `REWRITE_HOST`, one pool behind `STEER_HOST`, both plain HTTP on this machine."""
    text = _MANIFESTS.format(
        listener=listener,
        admin=admin,
        provider=provider,
        endpoints=", ".join(f'{{address: "127.0.0.1:{port}"}}' for port in endpoints),
        model=TARGET_MODEL,
        rewrite_host=REWRITE_HOST,
        steer_host=STEER_HOST,
    )
    (directory / "bench.yaml").write_text(text, encoding="utf-8")


def on_ports(config: dict[str, Any], *, listener: int, admin: int, filter_address: str | None = None) -> dict[str, Any]:
    """The same Envoy configuration on other ports, and with a filter elsewhere if one is given."""
    config = copy.deepcopy(config)
    config["admin"]["address"]["socket_address"]["port_value"] = admin
    resources = config["static_resources"]
    resources["listeners"][0]["address"]["socket_address"]["port_value"] = listener
    if filter_address is not None:
        cluster = next(each for each in resources["clusters"] if each["name"] == _filter_cluster(_manager(resources)))
        endpoint = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]
        endpoint["address"] = _address(filter_address)
    return config


def without_sluice(config: dict[str, Any], *, listener: int, admin: int, filter_address: str | None) -> dict[str, Any]:
    """Sluice's Envoy configuration on other ports, for another filter (`HOST:PORT` or `unix:PATH`), or for none.

    Routes no longer wait for the metadata that only Sluice writes; all else stays as it is.
    """
    config = on_ports(config, listener=listener, admin=admin, filter_address=filter_address)
    manager = _manager(config["static_resources"])
    for host in manager["route_config"]["virtual_hosts"]:
        host["routes"] = _open_routes(host["routes"])
    if filter_address is None:
        manager["http_filters"] = [each for each in manager["http_filters"] if each["name"] != _EXT_PROC]
    return config


def _manager(resources: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = resources["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    return found


def _open_routes(routes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The route of decided requests that are not streamed, for every request; hosts without one keep theirs."""
    for route in routes:
        if route["name"].endswith(" unary"):
            match = {key: value for key, value in route["match"].items() if key != "dynamic_metadata"}
            return [{**route, "match": match}]
    return routes


def _filter_cluster(manager: dict[str, Any]) -> str:
    ext_proc = next(each for each in manager["http_filters"] if each["name"] == _EXT_PROC)
    name: str = ext_proc["typed_config"]["grpc_service"]["envoy_grpc"]["cluster_name"]
    return name


def _address(text: str) -> dict[str, Any]:
    if text.startswith("unix:"):
        return {"pipe": {"path": text.removeprefix("unix:")}}
    host, _, port = text.rpartition(":")
    return {"socket_address": {"address": host, "port_value": int(port)}}
