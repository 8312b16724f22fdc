"""Destinations to Envoy clusters: providers, pools, and the filter itself."""

from __future__ import annotations

import ssl
from pathlib import Path
from urllib.parse import urlsplit

from extproc.render.parts import (
    CLOSED_CLUSTER,
    DESTINATION,
    DESTINATION_NAMESPACE,
    ENDPOINTS_CLUSTER,
    FILTER_CLUSTER,
    SERVED_BY,
    Json,
    RenderError,
    address,
    endpoints,
    extension,
    is_literal,
    key_set_cluster,
    seconds,
    socket_address,
    split_address,
    typed,
)
from extproc.resources.kinds.gateway import JwtProvider
from extproc.resources.kinds.pool import InferencePool
from extproc.resources.kinds.provider import ConnectionPool, LLMProvider, OutlierDetection
from extproc.resources.snapshot import Snapshot, target_name

_HTTP = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_POLICIES = "envoy.extensions.load_balancing_policies"
_CA_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
"""Where Debian, Fedora, RHEL, openSUSE, and Alpine and macOS keep them."""


def clusters(snapshot: Snapshot, filter_address: str) -> list[Json]:
    """Every destination of the snapshot, used or not, plus the filter and the cluster without endpoints."""
    providers = [_provider(snapshot.providers[name], snapshot) for name in sorted(snapshot.providers)]
    pools = [_pool(snapshot.pools[name]) for name in sorted(snapshot.pools)]
    closed = {"name": CLOSED_CLUSTER, "type": "STATIC", "connect_timeout": "1s"}
    key_sets = [_key_set(each, snapshot) for each in snapshot.gateway.spec.jwt if each.by_url]
    return [_filter(filter_address), closed, *providers, *pools, *key_sets]


def _filter(addresses: str) -> Json:
    """The filter's cluster. `addresses` is a Unix socket or a comma-separated list of `HOST:PORT`."""
    found = [address(item.strip()) for item in addresses.split(",")]
    hosts = [item["socket_address"]["address"] for item in found if "socket_address" in item]
    http2: Json = {}
    options = typed(_HTTP, explicit_http_config={"http2_protocol_options": http2})
    if hosts:
        # A Unix socket tells at once that its server has gone; a TCP peer may just fall silent.
        http2["connection_keepalive"] = {"interval": "30s", "timeout": "10s"}
    return {
        "name": FILTER_CLUSTER,
        **_discovery(hosts),
        "connect_timeout": "1s",
        "load_assignment": endpoints(FILTER_CLUSTER, found),
        "typed_extension_protocol_options": {_HTTP: options},
        # One stream is open for every request in flight.
        "circuit_breakers": {
            "thresholds": [{"max_requests": 65536, "max_pending_requests": 65536, "max_retries": 1024}]
        },
    }


def _provider(provider: LLMProvider, snapshot: Snapshot) -> Json:
    spec = provider.spec
    alias = snapshot.gateway.spec.host_aliases.get(spec.host)
    host, port = split_address(alias) if alias else (spec.host, spec.effective_port)
    cluster = _destination(target_name(provider), [(host, port)], spec.connection_pool, spec.outlier_detection)
    if "cluster_type" in cluster and spec.outlier_detection is None:
        # Big services rotate many addresses; only ejection needs to know each of them.
        cluster["cluster_type"]["typed_config"]["all_addresses_in_single_endpoint"] = True
    if spec.protocol == "https":
        cluster["transport_socket"] = _tls(spec.host, snapshot)
    return cluster


def _key_set(provider: JwtProvider, snapshot: Snapshot) -> Json:
    """Where the keys of a token issuer are got from."""
    url = urlsplit(provider.jwks)
    host, secure = url.hostname or "", url.scheme == "https"
    alias = snapshot.gateway.spec.host_aliases.get(host)
    address_ = split_address(alias) if alias else (host, url.port or (443 if secure else 80))
    name = key_set_cluster(provider)
    cluster: Json = {
        "name": name,
        **_discovery([address_[0]]),
        "connect_timeout": "5s",
        "load_assignment": endpoints(name, [socket_address(*address_)]),
    }
    if secure:
        cluster["transport_socket"] = _tls(host, snapshot)
    return cluster


def _pool(pool: InferencePool) -> Json:
    spec = pool.spec
    addresses = [split_address(endpoint.address) for endpoint in spec.endpoints]
    cluster = _destination(target_name(pool), addresses, spec.connection_pool, spec.outlier_detection)
    round_robin = extension("round_robin", f"{_POLICIES}.round_robin.v3.RoundRobin")
    chosen = extension(
        "override_host",
        f"{_POLICIES}.override_host.v3.OverrideHost",
        override_host_sources=[{"metadata": _metadata_key(DESTINATION)}],
        selected_host_key=_metadata_key(SERVED_BY),
        fallback_policy={"policies": [{"typed_extension_config": round_robin}]},
    )
    cluster["load_balancing_policy"] = {"policies": [{"typed_extension_config": chosen}]}
    if spec.membership == "agents":
        _follow_agents(cluster)
    return cluster


def _follow_agents(cluster: Json) -> None:
    """The filter tells the endpoints, as they come and go; what Envoy was told last stays while the filter is away."""
    for name in ("type", "cluster_type", "load_assignment"):
        cluster.pop(name, None)
    source = {
        "api_type": "GRPC",
        "transport_api_version": "V3",
        "grpc_services": [{"envoy_grpc": {"cluster_name": ENDPOINTS_CLUSTER}}],
        "set_node_on_first_message_only": True,
    }
    # An Envoy that starts before its filter must not wait long for endpoints that nobody can tell.
    config = {"api_config_source": source, "resource_api_version": "V3", "initial_fetch_timeout": "2s"}
    cluster |= {"type": "EDS", "eds_cluster_config": {"eds_config": config}}


def _metadata_key(name: str) -> Json:
    return {"key": DESTINATION_NAMESPACE, "path": [{"key": name}]}


def _destination(
    name: str, addresses: list[tuple[str, int]], pool: ConnectionPool, outliers: OutlierDetection | None
) -> Json:
    http: Json = {"idle_timeout": seconds(pool.idle_timeout)}
    if pool.max_requests_per_connection is not None:
        http["max_requests_per_connection"] = pool.max_requests_per_connection
    options: Json = {
        "common_http_protocol_options": http,
        "explicit_http_config": {"http_protocol_options": {}},
    }
    cluster: Json = {
        "name": name,
        **_discovery([host for host, _ in addresses]),
        "connect_timeout": seconds(pool.connect_timeout),
        "load_assignment": endpoints(name, [socket_address(host, port) for host, port in addresses]),
        "circuit_breakers": {"thresholds": [_thresholds(pool)]},
        "upstream_connection_options": _connection_options(pool),
    }
    if outliers is not None:
        cluster["outlier_detection"] = _outlier_detection(outliers)
        # Ejection is bounded by maxEjectionPercent, so an ejected address is not used after all.
        cluster["common_lb_config"] = {"healthy_panic_threshold": {"value": 0}}
        if outliers.count_too_many_requests:
            options["outlier_detection"] = {"error_matcher": _error_matcher()}
    cluster["typed_extension_protocol_options"] = {_HTTP: typed(_HTTP, **options)}
    return cluster


def _discovery(hosts: list[str]) -> Json:
    """How Envoy finds the addresses: as given, or by DNS, where each address found is an endpoint."""
    if all(map(is_literal, hosts)):
        return {"type": "STATIC"}
    message = "envoy.extensions.clusters.dns.v3.DnsCluster"
    settings = {"dns_lookup_family": "V4_PREFERRED", "respect_dns_ttl": True}
    return {"cluster_type": extension("envoy.cluster.dns", message, **settings)}


def _thresholds(pool: ConnectionPool) -> Json:
    return {
        "max_connections": pool.max_connections,
        "max_pending_requests": pool.max_pending_requests,
        "max_requests": pool.max_requests,
        "max_retries": pool.max_retries,
    }


def _connection_options(pool: ConnectionPool) -> Json:
    """Without figures of its own, the kernel's: long silent answers need keepalive to pass stateful firewalls."""
    keepalive: Json = {}
    if pool.tcp_keepalive_time is not None:
        keepalive["keepalive_time"] = max(1, round(pool.tcp_keepalive_time))
    if pool.tcp_keepalive_interval is not None:
        keepalive["keepalive_interval"] = max(1, round(pool.tcp_keepalive_interval))
    return {"tcp_keepalive": keepalive}


def _outlier_detection(outliers: OutlierDetection) -> Json:
    found: Json = {
        "consecutive_5xx": outliers.consecutive_5xx,
        "interval": seconds(outliers.interval),
        "base_ejection_time": seconds(outliers.base_ejection_time),
        "max_ejection_percent": outliers.max_ejection_percent,
        # Success rates mislead at the request rates of language models.
        "enforcing_success_rate": 0,
    }
    if outliers.consecutive_gateway_errors is not None:
        found["consecutive_gateway_failure"] = outliers.consecutive_gateway_errors
        found["enforcing_consecutive_gateway_failure"] = 100
    return found


def _error_matcher() -> Json:
    status = {"name": ":status", "string_match": {"safe_regex": {"regex": "5[0-9][0-9]|429"}}}
    return {"http_response_headers_match": {"headers": [status]}}


def _tls(host: str, snapshot: Snapshot) -> Json:
    """Server name and certificate are checked against the provider's host, whatever address it was reached at."""
    literal = is_literal(host)
    name = {"san_type": "IP_ADDRESS" if literal else "DNS", "matcher": {"exact": host}}
    context: Json = {
        "common_tls_context": {
            "validation_context": {
                "trusted_ca": _trusted_ca(snapshot),
                "match_typed_subject_alt_names": [name],
            }
        }
    }
    if not literal:
        context["sni"] = host
    return extension(
        "envoy.transport_sockets.tls", "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext", **context
    )


def _trusted_ca(snapshot: Snapshot) -> Json:
    named = snapshot.gateway.spec.trusted_ca
    if named is not None:
        return {"filename": str((snapshot.directory / named).absolute())}
    for candidate in (ssl.get_default_verify_paths().cafile, *_CA_BUNDLES):
        if candidate is not None and Path(candidate).is_file():
            return {"filename": candidate}
    raise RenderError(
        "no bundle of certificate authorities found on this machine: install the system's (such as the package "
        "`ca-certificates`) or name one as `spec.trustedCa` of the Gateway"
    )
