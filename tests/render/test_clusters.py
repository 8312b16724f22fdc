"""Destinations as Envoy clusters."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest

from extproc.render import RenderError
from extproc.render import clusters as module
from extproc.render.clusters import clusters
from tests.render.harness import snapshot

HTTP = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def cluster(name: str, text: str, filter_address: str = "unix:/f.sock", directory: Path = Path()) -> dict[str, Any]:
    found = {item["name"]: item for item in clusters(snapshot(text, directory), filter_address)}
    return found[name]


def addresses(found: dict[str, Any]) -> list[Any]:
    (locality,) = found["load_assignment"]["endpoints"]
    return [item["endpoint"]["address"] for item in locality["lb_endpoints"]]


@pytest.mark.parametrize(
    ("address", "expected", "static"),
    [
        ("unix:/run/f.sock", [{"pipe": {"path": "/run/f.sock"}}], True),
        ("unix:///run/f.sock", [{"pipe": {"path": "/run/f.sock"}}], True),
        ("/run/f.sock", [{"pipe": {"path": "/run/f.sock"}}], True),
        ("10.0.0.1:80", [{"socket_address": {"address": "10.0.0.1", "port_value": 80}}], True),
        ("[::1]:80", [{"socket_address": {"address": "::1", "port_value": 80}}], True),
        (
            "a.local:1, b.local:2",
            [
                {"socket_address": {"address": "a.local", "port_value": 1}},
                {"socket_address": {"address": "b.local", "port_value": 2}},
            ],
            False,
        ),
    ],
)
def test_addresses_of_the_filter(address: str, expected: list[Any], *, static: bool) -> None:
    found = cluster("sluice", "", address)
    assert addresses(found) == expected
    assert ("type" in found, "cluster_type" in found) == (static, not static)


@pytest.mark.parametrize("address", ["", "host", "host:", ":80", "host:x", "host:0", "host:70000", "a:1,"])
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(RenderError, match="is not an address"):
        clusters(snapshot(""), address)


def test_a_provider_is_verified_by_name_at_whatever_address(tmp_path: Path) -> None:
    text = """
gateway g: {hostAliases: {a.example: '10.0.0.1:4433'}, trustedCa: ca.pem}
provider a: {host: a.example}
"""
    found = cluster("provider/a", text, directory=tmp_path)
    assert found["type"] == "STATIC"
    assert addresses(found) == [{"socket_address": {"address": "10.0.0.1", "port_value": 4433}}]
    context = found["transport_socket"]["typed_config"]
    assert context["sni"] == "a.example"
    assert context["common_tls_context"]["validation_context"] == {
        "trusted_ca": {"filename": str(tmp_path / "ca.pem")},
        "match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": "a.example"}}],
    }


def test_without_authorities_there_is_no_https(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CA_BUNDLES", ())
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: type("", (), {"cafile": None}))
    with pytest.raises(RenderError, match=r"ca-certificates.*spec\.trustedCa"):
        cluster("provider/a", "provider a: {host: a.example}")
    assert "transport_socket" not in cluster("provider/a", "provider a: {host: a.example, protocol: http}")


def test_big_services_need_not_be_known_address_by_address() -> None:
    def single(more: str) -> bool:
        found = cluster("provider/a", f"provider a: {{host: a.example, protocol: http, {more}}}")
        return bool(found["cluster_type"]["typed_config"].get("all_addresses_in_single_endpoint"))

    assert single("")
    assert not single("outlierDetection: {}")


def test_agents_fill_a_cluster_through_the_filter() -> None:
    text = """
    pool empty: {membership: agents}
    pool named: {membership: agents, endpoints: [{address: "engine:80"}]}
    pool plain: {endpoints: [{address: "10.0.0.1:80"}]}
    """
    for name in ("pool/empty", "pool/named"):
        found = cluster(name, text)
        assert found["type"] == "EDS"
        assert not {"load_assignment", "cluster_type"} & found.keys()
        source = found["eds_cluster_config"]["eds_config"]["api_config_source"]
        assert source["grpc_services"] == [{"envoy_grpc": {"cluster_name": "sluice-endpoints"}}]
    assert cluster("pool/plain", text)["type"] == "STATIC"


def test_limits_and_connections() -> None:
    text = """
pool p:
  endpoints: [{address: '10.0.0.1:80'}]
  connectionPool:
    maxConnections: 1
    maxPendingRequests: 2
    maxRequests: 3
    maxRetries: 4
    maxRequestsPerConnection: 5
    connectTimeout: 250ms
    idleTimeout: 7s
    tcpKeepaliveTime: 300s
    tcpKeepaliveInterval: 60s
"""
    found = cluster("pool/p", text)
    thresholds = {"max_connections": 1, "max_pending_requests": 2, "max_requests": 3, "max_retries": 4}
    assert found["circuit_breakers"] == {"thresholds": [thresholds]}
    assert found["connect_timeout"] == "0.25s"
    keepalive = {"keepalive_time": 300, "keepalive_interval": 60}
    assert found["upstream_connection_options"] == {"tcp_keepalive": keepalive}
    http = found["typed_extension_protocol_options"][HTTP]["common_http_protocol_options"]
    assert http == {"idle_timeout": "7s", "max_requests_per_connection": 5}


def test_outliers() -> None:
    text = """
pool p:
  endpoints: [{address: '10.0.0.1:80'}]
  outlierDetection: {consecutive5xxErrors: 3, consecutiveGatewayErrors: 2, interval: 1s, maxEjectionPercent: 20}
"""
    found = cluster("pool/p", text)
    assert found["outlier_detection"] == {
        "consecutive_5xx": 3,
        "interval": "1s",
        "base_ejection_time": "60s",
        "max_ejection_percent": 20,
        "enforcing_success_rate": 0,
        "consecutive_gateway_failure": 2,
        "enforcing_consecutive_gateway_failure": 100,
    }
