"""Child processes and ports for tests that need the real thing."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from extproc.envoyproxy import tether

BIN = Path(sys.executable).parent
START_LIMIT = 60.0


def free_port() -> int:
    """A TCP port on 127.0.0.1 that was free a moment ago, outside the range that outgoing connections take.

    Each of several test processes has a range of its own, so that none takes what another was just given.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    first = 20_000 + worker % _WORKERS * _PORTS_EACH
    start = os.getpid() % _PORTS_EACH
    for number in range(_PORTS_EACH):
        port = first + (start + number) % _PORTS_EACH
        if port in _given:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given.add(port)
        return port
    raise RuntimeError("no free port")


_WORKERS, _PORTS_EACH = 8, 1500
_given: set[int] = set()


def wait_until(condition: Callable[[], object], what: str, limit: float = START_LIMIT) -> None:
    """Polls until `condition` gives something true. For states of other processes, which send no event."""
    deadline = time.monotonic() + limit
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {limit} s for {what}")
        time.sleep(0.02)


def http_status(url: str) -> int:
    """Status of a GET; 0 where nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=5) as response:  # noqa: S310 the tests' own servers
            return int(response.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return 0


class Process:
    """A child process whose output goes to a file. It ends with the test, or with the tests if those are killed."""

    def __init__(self, command: Sequence[str], log: Path, environ: Mapping[str, str] | None = None) -> None:
        self.command = list(command)
        self.log = log
        with log.open("ab") as output:
            program = shutil.which(self.command[0]) or self.command[0]
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", tether.__file__, str(os.getpid()), program, *self.command[1:]],
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environ or {})},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def alive(self) -> bool:
        return self._process.poll() is None

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def wait(self, limit: float = 60.0) -> int:
        return self._process.wait(limit)

    def kill(self) -> None:
        """SIGKILL, to it alone, and waits for its end."""
        if self.alive():
            self._process.kill()
        self._process.wait(10)

    def wait_ready(self, condition: Callable[[], object], what: str) -> None:
        def check() -> object:
            if not self.alive():
                raise RuntimeError(f"{self.command} ended with {self._process.returncode}:\n{self.output()}")
            return condition()

        wait_until(check, f"{what}; its output:\n{self.output()}")

    def __enter__(self) -> Process:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.alive():
            self._process.terminate()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait(10)
