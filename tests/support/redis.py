"""A real redis-server of the tests' own, without persistence, on a socket in a folder of its own."""

from __future__ import annotations

import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.support.processes import Process


class RedisServer:
    """One address, on which a server may be started, stopped and started again. Each start is empty."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket = folder / "redis.sock"
        self.url = f"unix://{self.socket}"
        self._process: Process | None = None

    def __repr__(self) -> str:
        return f"<RedisServer {self.socket} {'up' if self._process is not None else 'down'}>"

    def start(self, *more: str) -> None:
        command = ["redis-server", "--port", "0", "--unixsocket", str(self.socket), "--save", "", "--appendonly", "no"]
        self._process = Process([*command, "--dir", str(self.folder), *more], self.folder / "redis.log")
        self._process.wait_ready(self._answers, "redis-server")

    def kill(self) -> None:
        """SIGKILL: connections break, everything is forgotten."""
        if self._process is not None:
            self._process.kill()
            self._process = None

    def freeze(self) -> None:
        """SIGSTOP: connections stay, nothing is answered."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def do(self, *words: Any) -> Any:
        """One command by a client of its own."""
        with redis.Redis(unix_socket_path=str(self.socket), protocol=3) as client:
            return client.execute_command(*words)

    def calls(self, command: str) -> int:
        """How often the server has worked off a command."""
        found = self.do("INFO", "commandstats").get(f"cmdstat_{command}", {})
        return int(found.get("calls", 0))

    def _signal(self, number: int) -> None:
        if self._process is None:
            raise RuntimeError("no server is running")
        self._process.signal(number)

    def _answers(self) -> bool:
        try:
            return bool(self.do("PING"))
        except redis.ConnectionError:
            return False


@contextmanager
def redis_server() -> Iterator[RedisServer]:
    """Skips the test where the binary is not installed."""
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not on the PATH: install Redis to run this test")
    with tempfile.TemporaryDirectory(prefix="redis-") as folder:
        server = RedisServer(Path(folder))
        server.start()
        try:
            yield server
        finally:
            server.kill()
