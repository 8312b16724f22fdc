"""The composition root: builds every live object from a snapshot; starts, reloads, drains and stops them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from extproc.accounting.estimator import Estimator
from extproc.accounting.ledger import Ledger
from extproc.admin.server import AdminServer
from extproc.pool.runtime import PoolRuntime
from extproc.proxy import EnvoyProxy, ProxyError
from extproc.render.config import render, transition
from extproc.resources.load import ConfigurationError
from extproc.resources.watch import changes
from extproc.telemetry.audit import AuditLog
from extproc.telemetry.metrics import Metrics
from extproc.wire.server import Server
from extproc.wire.session import Service

log = logging.getLogger("sluice")


@dataclass(frozen=True, slots=True)
class Options:
    """How one process is run."""

    directory: Path
    environ: Mapping[str, str]
    listen: str
    """`HOST:PORT` or `unix:PATH` for Envoy's streams."""
    proxy: EnvoyProxy | None = None
    """Envoy as a child of this process; None where Envoy runs on its own."""


class App:
    """One filter process. `start`, then `run` until the given event is set, then `stop`."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._proxy = options.proxy
        self._pools: dict[str, PoolRuntime] = {}
        self._generation = 0
        self._ready = "starting"
        self._estimator = Estimator()

    async def start(self) -> None:
        """Raises ConfigurationError, OSError (an address is taken) or ProxyError."""
        options = self._options
        self._snapshot, self._secrets = self._load()
        gateway = self._snapshot.gateway.spec
        self._metrics = Metrics(
            max_label_values=gateway.telemetry.max_label_values,
            endpoints=lambda: [status for pool in self._pools.values() for status in pool.view()],
        )
        sinks = {"metrics": self._metrics.record, "audit": AuditLog()}
        self._ledger = Ledger(self._estimator, sinks, failed=self._metrics.sink_failed)
        live = await self._build(self._snapshot, self._secrets)
        self._service = Service(live, self._ledger.settle, self._metrics, time.monotonic)
        self._server = Server(self._service)
        self._admin = AdminServer(self._view(), gateway.admin.address, gateway.admin.port)
        await self._server.start(options.listen)
        await self._admin.start()
        if self._proxy is not None:
            await self._proxy.start(render(self._snapshot, options.listen))
        self._loaded(self._snapshot)
        self._ready = ""
        log.info(
            "ready: filter on %s, admin on http://%s:%d", options.listen, gateway.admin.address, gateway.admin.port
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Follows changes of the configuration until `stop` is set."""
        while not stop.is_set():
            restart = asyncio.Event()
            watched = {self._options.directory, *(path.parent for path in self._secrets.files())}
            files = self._secrets.files()
            waiter = asyncio.create_task(_either(stop, restart))
            async for changed in changes(watched, stop=waiter_event(waiter)):
                if self._secrets.refresh():
                    log.info("an API key changed")
                if changed - files:
                    await self.reload()
                if self._secrets.files() != files:
                    break
            restart.set()
            await waiter

    async def reload(self) -> bool:
        """Loads the configuration anew and swaps it in as a whole. A bad one changes nothing; gives whether it was good."""
        try:
            snapshot, secrets = self._load()
        except ConfigurationError as error:
            log.error("configuration refused, the last good one stays:\n%s", error)
            self._metrics.config_refused()
            return False
        previous = self._snapshot
        live = await self._build(snapshot, secrets)
        try:
            if self._proxy is not None:
                old, new = (render(one, self._options.listen) for one in (previous, snapshot))
                await self._proxy.apply(transition(old, new))
            self._snapshot, self._secrets, self._service.live = snapshot, secrets, live
            if self._proxy is not None:
                await self._proxy.apply(new)
        except ProxyError as error:
            log.error("Envoy refused the new configuration, the last good one stays: %s", error)
            self._metrics.config_refused()
            return False
        await self._drop_pools(snapshot)
        self._loaded(snapshot)
        return True

    async def stop(self) -> None:
        """Lets running requests finish, Envoy first, and gives everything back."""
        self._ready = "draining"
        seconds = self._snapshot.gateway.spec.limits.drain_timeout
        if self._proxy is not None:
            await self._proxy.stop(seconds)
        await self._server.drain(seconds)
        await self._drop_pools(None)
        await self._admin.stop()
