"""A rendered configuration and the step between two of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from extproc.render.clusters import clusters
from extproc.render.listener import listener
from extproc.render.parts import Json
from extproc.render.routes import CLOSED_PREFIX, OPEN_PREFIX, STALE_PREFIX, route_configuration
from extproc.resources.snapshot import Snapshot
from extproc.resources.usage import counted_by_envoy


@dataclass(frozen=True, slots=True)
class EnvoyConfig:
    """Envoy resources as JSON. Nothing changes them once rendered."""

    listener: Json
    """Without routes: bootstrap adds them inline or by reference."""
    route_configuration: Json
    clusters: tuple[Json, ...]


def render(snapshot: Snapshot, filter_address: str, *, tested: bool = False) -> EnvoyConfig:
    """Envoy's configuration for a snapshot.

    `filter_address` is where the filter serves: `unix:PATH` or `HOST:PORT[,HOST:PORT…]`. `tested`: it is for an Envoy
    that `counted_by_envoy` may rely on. Raises RenderError if this machine or an address does not allow it.
    """
    counted = counted_by_envoy(snapshot, tested=tested)
    return EnvoyConfig(
        listener=listener(snapshot, counts=bool(counted)),
        route_configuration=route_configuration(snapshot, counted),
        clusters=tuple(clusters(snapshot, filter_address)),
    )


def files_of(snapshot: Snapshot) -> tuple[Path, ...]:
    """Files that the manifests name and Envoy reads: authorities and key sets. It does so once, when it takes over a
    configuration."""
    gateway = snapshot.gateway.spec
    names = [] if gateway.trusted_ca is None else [gateway.trusted_ca]
    names += [each.jwks.removeprefix("file:") for each in gateway.jwt if each.jwks.startswith("file:")]
    return tuple((snapshot.directory / name).absolute() for name in names)


def with_texts(config: EnvoyConfig, texts: Mapping[Path, str]) -> EnvoyConfig:
    """The configuration with the texts of files in place of their names, so that another text is another
    configuration."""
    known = {str(path): text for path, text in texts.items()}

    def put(value: Any) -> Any:
        if isinstance(value, dict):
            if len(value) == 1 and (text := known.get(value.get("filename", ""))) is not None:
                return {"inline_string": text}
            return {key: put(each) for key, each in value.items()}
        return [put(each) for each in value] if isinstance(value, list | tuple) else value

    clusters_ = tuple(put(cluster) for cluster in config.clusters)
    return EnvoyConfig(put(config.listener), config.route_configuration, clusters_)


def transition(old: EnvoyConfig, new: EnvoyConfig) -> EnvoyConfig:
    """A configuration under which requests decided by either snapshot find their destination.

    It is `new`, except that every host also has the target routes that it had, or will have, in the other one, and
    that hosts and clusters about to go still exist.
    """
    before, after = _hosts(old), _hosts(new)
    hosts = [_merged(name, before, after) for name in sorted(before.keys() | after.keys())]
    kept = {cluster["name"]: cluster for cluster in (*old.clusters, *new.clusters)}
    return EnvoyConfig(
        listener=new.listener,
        route_configuration=new.route_configuration | {"virtual_hosts": hosts},
        clusters=tuple(kept.values()),
    )


def _hosts(config: EnvoyConfig) -> dict[str, Json]:
    return {host["name"]: host for host in config.route_configuration["virtual_hosts"]}


def _merged(name: str, before: Mapping[str, Json], after: Mapping[str, Json]) -> Json:
    targets = _targets(_covering(name, before)) | _targets(_covering(name, after))
    host = after.get(name) or before[name]
    unprocessed = [route for route in host["routes"] if not _is_target(route)]
    return host | {"routes": [*targets.values(), *unprocessed]}


def _covering(name: str, hosts: Mapping[str, Json]) -> Json:
    """The virtual host that serves what is called `name` in another configuration."""
    if name in hosts:
        return hosts[name]
    fitting = [host for host in hosts if host.startswith("*.") and name.endswith(host[1:])]
    return hosts[max(fitting, key=len, default="*")]


def _targets(host: Json) -> dict[str, Json]:
    return {route["name"]: route for route in host["routes"] if _is_target(route)}


def _is_target(route: Json) -> bool:
    return not route["name"].startswith((CLOSED_PREFIX, OPEN_PREFIX, STALE_PREFIX))
