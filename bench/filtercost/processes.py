"""The programs that are measured: started, watched through /proc, ended."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

_START_LIMIT = 60.0


class Child:
    """A child process whose output goes to a file; ended with the `with` block. Start it by entering."""

    def __init__(self, command: Sequence[str], log: Path, environ: Mapping[str, str] | None = None) -> None:
        self._command = list(command)
        self._log = log
        self._environ = {**os.environ, **(environ or {})}
        self._process: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        return f"<Child {self._command}>"

    def __enter__(self) -> Child:
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                self._command, stdout=output, stderr=subprocess.STDOUT, env=self._environ, start_new_session=True
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        process = self._running()
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def await_ready(self, condition: Callable[[], object]) -> None:
        """Polls until `condition` gives something true. Raises RuntimeError with the output if the process ends before
        or takes a minute."""
        deadline = time.monotonic() + _START_LIMIT
        while not condition():
            if self._running().poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{self._command} did not start:\n{self.output()}")
            time.sleep(0.002)

    def output(self) -> str:
        """What it has printed so far."""
        return self._log.read_text(errors="replace")

    def cpu_seconds(self) -> float:
        """Time on a processor so far, all threads together."""
        tasks = Path(f"/proc/{self._running().pid}/task")
        return sum(on_cpu((task / "schedstat").read_text()) for task in tasks.iterdir()) / 1e9

    def resident_megabytes(self) -> float:
        """Memory in use at this moment, in units of 10^6 bytes."""
        return resident((Path(f"/proc/{self._running().pid}/status")).read_text()) / 1e6

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError(f"{self!r} has not been started")
        return self._process


def on_cpu(schedstat: str) -> int:
    """Nanoseconds on a processor, from the text of a `schedstat` file."""
    return int(schedstat.split()[0])


def resident(status: str) -> int:
    """Bytes of resident memory, from the text of a `status` file."""
    line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024


def accepts(port: int) -> bool:
    """Whether somebody listens on a TCP port of this machine."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_ports(count: int) -> list[int]:
    """TCP ports that nobody listens on, below the range that outgoing connections take."""
    found: list[int] = []
    for port in random.sample(range(20_000, 32_000), 12_000):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise RuntimeError("no free ports")
