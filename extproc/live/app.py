"""The composition root: builds every live object from a snapshot; starts, reloads, drains and stops them."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from extproc.accounting.estimator import Estimator
from extproc.accounting.ledger import Sink, UsageLedger
from extproc.admin.server import AdminServer, AdminView
from extproc.envoyproxy.process import EnvoyProxy, ProxyError
from extproc.envoyproxy.version import COUNTING, Version, check
from extproc.live.build import build
from extproc.live.change import Changes
from extproc.live.flow import FlowControl, FlowError
from extproc.live.inspect import Inspection
from extproc.live.pools import Pools
from extproc.live.reports import Reports
from extproc.live.security import Security
from extproc.render import EnvoyConfig, RenderError, digest, files_of, render, with_texts
from extproc.resources.kinds.gateway import Listener
from extproc.resources.load import load
from extproc.resources.problems import ConfigurationError
from extproc.resources.redact import to_builtins
from extproc.resources.secrets import SecretStore
from extproc.resources.snapshot import Snapshot, target_name
from extproc.resources.usage import counted_by_envoy
from extproc.resources.watch import changes
from extproc.steps.live import Live
from extproc.telemetry import audit
from extproc.telemetry.audit import AuditLog
from extproc.telemetry.metrics import Metrics
from extproc.wire.endpoints import EndpointDiscovery
from extproc.wire.server import Server, TransportName
from extproc.wire.service import Service

log = logging.getLogger("sluice")

_SETTLE = 1.0
"""Seconds for which a resource must be missing before it is taken for deleted."""
_REFUSALS = (FlowError, OSError, ProxyError, RenderError, ValueError)
"""Raised by a part that cannot go over to a configuration; `SecurityError` and a pool's `BadPolicy` are ValueErrors."""


@dataclass(frozen=True, slots=True)
class AppOptions:
    """How one process is run."""

    directory: Path
    environ: Mapping[str, str]
    listen: str
    """`HOST:PORT` or `unix:PATH` for Envoy's streams."""
    transport: TransportName = "http2"
    proxy: EnvoyProxy | None = None
    """Envoy as a child of this process; None where Envoy runs on its own."""
    envoy_version: Version | None = None
    """Of the proxy."""


class App:
    """One filter process: `start`, then `follow` until the given event is set, then `stop`, all within one event loop.

    Raises ConfigurationError at once if the configuration is bad.
    """

    def __init__(self, options: AppOptions) -> None:
        self._options = options
        self._proxy = options.proxy
        self._snapshot = load(options.directory, environ=options.environ)
        self._secrets = self._secrets_of(self._snapshot)
        self._texts: dict[Path, str] = {}
        self._generation = 0
        self._not_ready = "starting"
        self._tested = options.envoy_version in COUNTING
        self._endpoints = EndpointDiscovery(lambda name: self._pools.members(name))
        self._pools = Pools(time.monotonic, self._endpoints.changed)
        self._security = Security()
        self._flow = FlowControl(time.monotonic, self._pools.saturation)
        self._reports = Reports(self._pools.find, self._agent_token)
        gateway = self._snapshot.gateway.spec
        self._metrics = Metrics(
            max_label_values=gateway.telemetry.max_label_values,
            endpoints=self._pools.statuses,
            pools=self._pools.summaries,
            flow=self._flow.status,
        )
        estimator = Estimator()
        sinks: dict[str, Sink] = {"metrics": self._metrics.record, "audit": AuditLog()}
        ledger = UsageLedger(estimator, sinks, failed=self._metrics.sink_failed)
        empty = build(Snapshot(), self._secrets, {})
        self._service = Service(empty, ledger.settle, estimator.expect, self._metrics, time.monotonic)
        self._inspection = Inspection(self._flow, lambda: self._service.live, estimator.expect)
        self._server = Server(self._service, self._endpoints, options.transport)
        self._admin = AdminServer(self._view(), gateway.admin.address, gateway.admin.port)

    async def start(self) -> None:
        """Raises OSError if an address is taken, ProxyError if Envoy does not start. `stop` is due in any case."""
        options = self._options
        async with Changes() as changes:
            await self._prepare(self._snapshot, self._secrets, changes)
            changes.commit()
        await self._admin.start()
        await self._server.start(options.listen)
        if self._proxy is not None:
            if options.envoy_version is not None:
                check(options.envoy_version, self._snapshot)
            _check_free(self._snapshot.gateway.spec.listener)
            await self._proxy.start(self._rendered(self._snapshot, self._texts))
        gc.freeze()  # what is alive at this point stays; no collection has to walk it again
        self._not_ready = ""
        admin = f"http://{self._admin.address}:{self._admin.port}"
        log.info("filter listens on %s by %s, admin on %s", options.listen, options.transport, admin)
        if self._proxy is not None:
            listener = self._snapshot.gateway.spec.listener
            log.info("Envoy listens on http://%s:%d", listener.address, listener.port)

    async def follow(self, stop: asyncio.Event) -> None:
        """Takes up changes of manifests and key files until `stop` is set."""
        while not stop.is_set():
            watched = self._watched()
            async for changed in changes(watched, stop=stop):
                if self._secrets.refresh():
                    log.info("API keys were read again")
                if not changed or changed - self._secrets.files():  # the empty set: watching has only begun
                    await self.reload(settle=_SETTLE)
                if self._watched() != watched:
                    break

    async def reload(self, *, settle: float = 0.0) -> bool:
        """Loads the configuration anew and swaps it in as a whole; gives whether it was good. A bad one is reported and
        changes nothing. Resources that have gone must stay away for `settle` seconds: a file that is just being written
        holds only a part of them."""
        try:
            snapshot = load(self._options.directory, environ=self._options.environ)
            while settle and self._snapshot.names() - snapshot.names():
                before = snapshot
                await asyncio.sleep(settle)
                snapshot = load(self._options.directory, environ=self._options.environ)
                if snapshot == before:
                    break
            texts = _texts(snapshot)
        except (ConfigurationError, OSError) as error:
            return self._refused(f"\n{error}")
        if snapshot == self._snapshot and texts == self._texts:
            return True
        try:
            async with Changes() as changes:
                await self._prepare(snapshot, self._secrets_of(snapshot), changes)
                changes.commit()
        except _REFUSALS as error:
            return self._refused(str(error))
        except Exception as error:
            log.exception("fault while a configuration was made ready")
            return self._refused(repr(error))
        log.info("configuration %d is in force", self._generation)
        admin = snapshot.gateway.spec.admin
        if (admin.address, admin.port) != (self._admin.address, self._admin.port):
            log.warning("the admin address stays %s:%d until the next start", self._admin.address, self._admin.port)
        return True

    async def stop(self) -> None:
        """Lets running requests finish, Envoy's first, and gives everything back."""
        self._not_ready = "draining"
        seconds = self._snapshot.gateway.spec.limits.drain_timeout
        if self._proxy is not None:
            await self._proxy.stop(seconds)
        await self._server.drain(seconds)
        await self._flow.stop()
        await self._reports.stop()
        await self._pools.stop()
        await self._security.stop()
        await self._admin.stop()

    def _refused(self, why: str) -> bool:
        log.error("configuration refused, the last good one stays: %s", why)
        self._metrics.config_refused()
        return False

    async def _prepare(self, snapshot: Snapshot, secrets: SecretStore, changes: Changes) -> None:
        """Makes every part ready. Raises what the parts raise, of which `_REFUSALS` are no faults.

        Envoy comes last, as it begins with the routes of both configurations at once.
        """
        texts = _texts(snapshot)
        security = changes.add(await self._security.prepare(snapshot, secrets))
        flow = changes.add(await self._flow.prepare(snapshot, secrets)).live_flow
        pools = changes.add(await self._pools.prepare(snapshot.pools))
        queueing = flow.longest_wait if flow is not None else 0.0
        counted = counted_by_envoy(snapshot, tested=self._tested)
        live = build(snapshot, secrets, pools.pools, security.watches, flow, queueing, counted, digest(snapshot))
        changes.add(await self._reports.prepare(snapshot.gateway.spec.agents, snapshot.directory))
        if self._proxy is not None and self._generation:
            listener = snapshot.gateway.spec.listener
            if listener != self._snapshot.gateway.spec.listener:
                _check_free(listener)
            if self._options.envoy_version is not None:
                check(self._options.envoy_version, snapshot)
            changes.add(await self._proxy.prepare(self._rendered(snapshot, texts)))
        changes.add(_Swap(lambda: self._use(snapshot, secrets, live, texts)))

    def _rendered(self, snapshot: Snapshot, texts: Mapping[Path, str]) -> EnvoyConfig:
        """With authorities and key sets as their files are at this moment: Envoy does not watch them itself."""
        config = render(snapshot, self._options.listen, tested=self._tested)
        return with_texts(config, texts)

    def _use(self, snapshot: Snapshot, secrets: SecretStore, live: Live, texts: dict[Path, str]) -> None:
        self._snapshot, self._secrets, self._service.live = snapshot, secrets, live
        self._texts = texts
        self._service.stale_envoy = ""
        targets = [target_name(provider) for provider in snapshot.providers.values()]
        targets += [target_name(pool) for pool in snapshot.pools.values()]
        hosts = [*live.table.exact.values(), *(routes for _, routes in live.table.suffixes)]
        models = [model for routes in hosts for model in routes.models]
        models += live.table.default.models if live.table.default else ()
        self._metrics.reserve(targets=targets, models=models)
        audited = snapshot.gateway.spec.telemetry.audit_log
        logging.getLogger(audit.LOGGER).setLevel(logging.INFO if audited else logging.NOTSET)
        self._generation += 1
        self._metrics.config_loaded(self._generation)  # last: whoever sees it may rely on all the rest

    def _secrets_of(self, snapshot: Snapshot) -> SecretStore:
        secrets = SecretStore(self._options.environ, snapshot.directory)
        agents = snapshot.gateway.spec.agents
        if agents is not None:
            secrets.load([agents.token])
        return secrets

    def _agent_token(self) -> str | None:
        agents = self._snapshot.gateway.spec.agents
        secret = None if agents is None else self._secrets.resolve(agents.token)
        return None if secret is None else secret.reveal()

    def _readiness(self) -> tuple[bool, str]:
        """An Envoy that is stale makes the filter no less ready for others, so it is only told."""
        stale = self._service.stale_envoy
        return not self._not_ready, self._not_ready or (f"ready, but {stale}" if stale else "")

    def _watched(self) -> set[Path]:
        return {self._options.directory, *self._secrets.files(), *files_of(self._snapshot)}

    def _view(self) -> AdminView:
        return AdminView(
            metrics=self._metrics.scrape,
            live=lambda: True,
            ready=self._readiness,
            config=lambda: to_builtins(self._snapshot),
            endpoints=self._pools.views,
            policies=self._inspection,
        )


class _Swap:
    """The change of what needs no making ready."""

    def __init__(self, use: Callable[[], None]) -> None:
        self.commit = use

    async def undo(self) -> None:
        """Nothing was made."""


def _texts(snapshot: Snapshot) -> dict[Path, str]:
    """What the files hold that Envoy reads. Raises OSError."""
    return {file: file.read_text("utf-8-sig") for file in files_of(snapshot)}


def _check_free(listener: Listener) -> None:
    """Raises ProxyError if Envoy's address is taken. Envoy itself would share it with another Envoy of the same user,
    and each would get a part of the connections."""
    family = socket.AF_INET6 if ":" in listener.address else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((listener.address, listener.port))
        except OSError as error:
            raise ProxyError(f"cannot listen on {listener.address}:{listener.port}: {error.strerror}") from error
