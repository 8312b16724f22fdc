"""Rendered configuration as files: one self-contained file, or a bootstrap and the files that Envoy watches."""

from __future__ import annotations

import copy
import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from extproc.render.config import EnvoyConfig
from extproc.render.listener import http_manager
from extproc.render.parts import ENDPOINTS_CLUSTER, FILTER_CLUSTER, Json, address, extension, typed
from extproc.render.routes import ROUTE_CONFIGURATION

CDS_FILE = "cds.json"
RDS_FILE = "rds.json"
LDS_FILE = "lds.json"

_TYPES = {
    CDS_FILE: "envoy.config.cluster.v3.Cluster",
    RDS_FILE: "envoy.config.route.v3.RouteConfiguration",
    LDS_FILE: "envoy.config.listener.v3.Listener",
}
_MAX_CONNECTIONS = 50_000
_NODE: Json = {"node": {"id": "sluice", "cluster": "sluice"}}
"""Envoy's name, without which it asks nobody for anything."""


def static_bootstrap(config: EnvoyConfig, admin: str) -> Json:
    """One self-contained configuration. `admin` is the address of Envoy's admin interface, as for `address`."""
    found = copy.deepcopy(config.listener)
    http_manager(found)["route_config"] = config.route_configuration
    clusters, node = [*config.clusters], {}
    if any(cluster.get("type") == "EDS" for cluster in clusters):
        clusters, node = [*clusters, _endpoint_source(config)], _NODE
    return _bootstrap(admin) | node | {"static_resources": {"listeners": [found], "clusters": clusters}}


def dynamic_bootstrap(directory: Path, admin: str, config: EnvoyConfig) -> Json:
    """A configuration whose clusters and listeners come from files in `directory` that Envoy watches. Of `config` it
    holds where the filter is, which stays the same for all that follow.
    """
    resources = {
        "cds_config": _file_source(directory / CDS_FILE, directory),
        "lds_config": _file_source(directory / LDS_FILE, directory),
    }
    return (
        _bootstrap(admin)
        | _NODE
        | {"static_resources": {"clusters": [_endpoint_source(config)]}, "dynamic_resources": resources}
    )


def _endpoint_source(config: EnvoyConfig) -> Json:
    found = copy.deepcopy(next(cluster for cluster in config.clusters if cluster["name"] == FILTER_CLUSTER))
    found["name"] = found["load_assignment"]["cluster_name"] = ENDPOINTS_CLUSTER
    return found


class DiscoveryFile(NamedTuple):
    """One discovery response."""

    version: str
    """Digest of the resources: what Envoy reports once it has taken them over."""
    text: str


def dynamic_files(config: EnvoyConfig, directory: Path) -> dict[str, DiscoveryFile]:
    """The files of `dynamic_bootstrap` by name. Replace them by rename, never in place."""
    found = copy.deepcopy(config.listener)
    routes = {"config_source": _file_source(directory / RDS_FILE, directory), "route_config_name": ROUTE_CONFIGURATION}
    http_manager(found)["rds"] = routes
    parts: dict[str, list[Json]] = {
        CDS_FILE: [*config.clusters],
        RDS_FILE: [config.route_configuration],
        LDS_FILE: [found],
    }
    return {name: _discovery(_TYPES[name], resources) for name, resources in parts.items()}


def _bootstrap(admin: str) -> Json:
    limit = extension(
        "envoy.resource_monitors.global_downstream_max_connections",
        "envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
        max_active_downstream_connections=_MAX_CONNECTIONS,
    )
    return {"admin": {"address": address(admin)}, "overload_manager": {"resource_monitors": [limit]}}


def _file_source(path: Path, directory: Path) -> Json:
    source = {"path": str(path), "watched_directory": {"path": str(directory)}}
    return {"path_config_source": source, "resource_api_version": "V3"}


def _discovery(kind: str, resources: list[Json]) -> DiscoveryFile:
    found = json.dumps([typed(kind, **resource) for resource in resources])
    version = hashlib.sha256(found.encode()).hexdigest()[:16]
    head = json.dumps({"version_info": version, "type_url": f"type.googleapis.com/{kind}"})
    return DiscoveryFile(version, f'{head[:-1]}, "resources": {found}}}')


class _Plain(yaml.SafeDumper):
    """Writes every value where it stands: Envoy's readers are people, and they follow no anchors."""

    def ignore_aliases(self, _data: Any) -> bool:
        return True


def to_yaml(value: Json, header: str) -> str:
    """Deterministic YAML below `header`, each line of which becomes a comment."""
    comment = "".join(f"# {line}".rstrip() + "\n" for line in header.splitlines())
    return comment + yaml.dump(value, Dumper=_Plain, sort_keys=False, width=120, allow_unicode=True)
