"""Small pieces that Envoy's configuration is made of. Everything is plain JSON: dicts, lists, strings, numbers."""

from __future__ import annotations

import ipaddress
from typing import Any

from extproc.resources.kinds.gateway import JwtProvider

Json = dict[str, Any]

FILTER_CLUSTER = "sluice"
"""Cluster of the filter itself."""
ENDPOINTS_CLUSTER = "sluice-endpoints"
"""The filter once more, as the source of the endpoints that agents register: Envoy wants that one to be static."""
CLOSED_CLUSTER = "sluice-closed"
"""A cluster without endpoints: where requests go that nobody but the filter may let through."""
NAMESPACE = "sluice"
"""Dynamic metadata that the filter writes: `target` and `kind` select the route, the rest is logged."""
DESTINATION_NAMESPACE = "envoy.lb"
DESTINATION = "x-gateway-destination-endpoint"
"""Metadata key in `envoy.lb`: the endpoints to try, in order, as `IP:PORT,IP:PORT`."""
SERVED_BY = "x-gateway-destination-endpoint-served"
"""Metadata key in `envoy.lb`: the pool endpoint that Envoy used last."""
JWT_NAMESPACE = "envoy.filters.http.jwt_authn"
EXT_PROC = "envoy.filters.http.ext_proc"
"""Name of the filter in Envoy's filter chain."""
REASON_HEADER = "x-sluice-reason"
"""Response header with the stable code of an error that did not come from the destination."""


class RenderError(ValueError):
    """The configuration cannot be turned into an Envoy configuration on this machine."""


def typed(message: str, /, **fields: Any) -> Json:
    """A `google.protobuf.Any` of a message by its full name."""
    return {"@type": f"type.googleapis.com/{message}", **fields}


def extension(name: str, message: str, /, **fields: Any) -> Json:
    """A named extension (filter, policy, predicate) with its configuration."""
    return {"name": name, "typed_config": typed(message, **fields)}


def seconds(value: float) -> str:
    """A protobuf duration: nanoseconds are the finest it can say."""
    return f"{value:.9f}".rstrip("0").rstrip(".") + "s"


def split_address(text: str) -> tuple[str, int]:
    """Host and port of `HOST:PORT` or `[IPv6]:PORT`. Raises RenderError for anything else."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise RenderError(f"{text!r} is not an address: write HOST:PORT or [IPv6]:PORT")
    return host.removeprefix("[").removesuffix("]"), int(port)


def is_literal(host: str) -> bool:
    """Whether `host` is an IP address, which needs no DNS."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def key_set_cluster(provider: JwtProvider) -> str:
    """Cluster of the server that has a token issuer's keys."""
    return f"jwks/{provider.name}"


def socket_address(host: str, port: int) -> Json:
    return {"socket_address": {"address": host, "port_value": port}}


def address(text: str) -> Json:
    """Envoy address of `unix:PATH`, an absolute path, or `HOST:PORT`."""
    path = text.removeprefix("unix:").removeprefix("//") if text.startswith("unix:") else text
    if path.startswith("/"):
        return {"pipe": {"path": path}}
    return socket_address(*split_address(text))


def endpoints(cluster: str, addresses: list[Json]) -> Json:
    """`load_assignment` with one locality."""
    found = [{"endpoint": {"address": item}} for item in addresses]
    return {"cluster_name": cluster, "endpoints": [{"lb_endpoints": found}]}
