"""The configuration files of one Envoy: written by rename, watched by Envoy, taken over or refused."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Mapping
from pathlib import Path

from extproc.envoyproxy.admin import EnvoyAdmin, until
from extproc.render.bootstrap import (
    CDS_FILE,
    LDS_FILE,
    RDS_FILE,
    DiscoveryFile,
    dynamic_bootstrap,
    dynamic_files,
    to_yaml,
)
from extproc.render.config import EnvoyConfig
from extproc.render.listener import STAT_PREFIX
from extproc.render.routes import ROUTE_CONFIGURATION

BOOTSTRAP_FILE = "bootstrap.yaml"

_SUBSCRIPTIONS = {
    CDS_FILE: "cluster_manager.cds",
    RDS_FILE: f"http.{STAT_PREFIX}.rds.{ROUTE_CONFIGURATION}",
    LDS_FILE: "listener_manager.lds",
}
_WARMING = "cluster_manager.warming_clusters"
_WARM_WAIT = 5.0
_REASON_WAIT = 1.0


class ProxyError(RuntimeError):
    """Envoy cannot be found, does not start or does not answer."""


class ProxyRejected(ProxyError):
    """Envoy refused a configuration; the message is Envoy's. The one before stays in force."""


class ConfigFiles:
    """Not for use from several tasks at once."""

    def __init__(self, directory: Path, admin: EnvoyAdmin, admin_address: str, config: EnvoyConfig) -> None:
        """Writes what Envoy starts with."""
        self._directory = directory
        self._admin = admin
        self._config = config
        self._files: dict[str, DiscoveryFile] = {}
        self._rejection = ""
        self._rejected = asyncio.Event()
        bootstrap = to_yaml(dynamic_bootstrap(directory, admin_address, config), "Written at every start.")
        self._write(BOOTSTRAP_FILE, bootstrap)
        for name, file in dynamic_files(config, directory).items():
            self._put(name, file)

    def note(self, log_line: str) -> None:
        """Picks Envoy's reason for a refusal out of its log; its statistics do not hold it."""
        _, rejected, reason = log_line.partition("rejected: ")
        if rejected:
            self._rejection = reason
            self._rejected.set()

    async def in_force(self) -> bool:
        """Whether Envoy uses all files. Raises ProxyRejected if it has refused one since it started."""
        return await self._accepted(self._files, {})

    async def apply(self, config: EnvoyConfig) -> None:
        """New clusters come before the routes to them, old ones go after.

        Raises ProxyRejected with everything as before, and so does a cancellation.
        """
        before = dict(self._files)
        files = dynamic_files(config, self._directory)
        both = dynamic_files(self._with_retired_clusters(config), self._directory)
        try:
            for name, source in ((CDS_FILE, both), (RDS_FILE, files), (LDS_FILE, files), (CDS_FILE, files)):
                await self._replace(name, source[name])
        except BaseException:
            for name, file in before.items():
                if self._files[name] != file:
                    self._put(name, file)
            raise
        self._config = config

    def _with_retired_clusters(self, config: EnvoyConfig) -> EnvoyConfig:
        names = {cluster["name"] for cluster in config.clusters}
        retired = (cluster for cluster in self._config.clusters if cluster["name"] not in names)
        return dataclasses.replace(config, clusters=(*config.clusters, *retired))

    async def _replace(self, name: str, file: DiscoveryFile) -> None:
        if self._files[name].version == file.version:
            return
        earlier = await self._stats()
        self._rejected.clear()
        self._put(name, file)
        await until(lambda: self._accepted({name: file}, earlier))
        if name == CDS_FILE:
            # New clusters should be usable, but a name that does not resolve must not hold up the rest.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_WARM_WAIT):
                    await until(self._is_warm)

    def _put(self, name: str, file: DiscoveryFile) -> None:
        self._files[name] = file
        self._write(name, file.text)

    def _write(self, name: str, text: str) -> None:
        fresh = self._directory / f".{name}.new"
        fresh.write_text(text)
        fresh.replace(self._directory / name)

    async def _is_warm(self) -> bool:
        return await self._admin.number(_WARMING) == 0

    async def _accepted(self, files: Mapping[str, DiscoveryFile], earlier: Mapping[str, str]) -> bool:
        """Whether Envoy uses all of `files`. Raises ProxyRejected if it has refused one since `earlier`."""
        stats = await self._stats()
        if all(stats.get(f"{_SUBSCRIPTIONS[name]}.version_text") == file.version for name, file in files.items()):
            return True
        for name in files:
            counter = f"{_SUBSCRIPTIONS[name]}.update_rejected"
            # A restart in between sets the counters back, so they are compared for change.
            if stats.get(counter, "0") not in ("0", earlier.get(counter, "0")):
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._rejected.wait(), _REASON_WAIT)
                raise ProxyRejected(self._rejection or f"Envoy refused {name}; its log says why")
        return False

    async def _stats(self) -> dict[str, str]:
        return await self._admin.stats(_SUBSCRIPTIONS.values())
