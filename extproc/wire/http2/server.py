"""Listens for connections, watches over them, and takes leave of them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import stat
from collections.abc import Callable
from pathlib import Path

from extproc.wire.http2.driver import Driver, Find
from extproc.wire.http2.limits import Limits

_TICK = 1.0
"""Seconds between looks at what connections wait for."""
_BACKLOG = 1024


class Server:
    """Serves the methods that `find` finds on one address: `start`, then `shut`, then `stop`."""

    def __init__(self, find: Find, limits: Limits, clock: Callable[[], float]) -> None:
        self._find = find
        self._limits = limits
        self._clock = clock
        self._drivers: set[Driver] = set()
        self._server: asyncio.Server | None = None
        self._ticking: asyncio.TimerHandle | None = None
        self._path: Path | None = None
        self._last_left: asyncio.Event | None = None

    async def start(self, address: str) -> int:
        """Listens on `HOST:PORT` or `unix:PATH`; gives the port, 0 for a path. Raises OSError."""
        loop = asyncio.get_running_loop()
        if address.startswith("unix:"):
            path = Path(address.removeprefix("unix:"))
            _clear(path)
            self._server = await loop.create_unix_server(self._driver, str(path), backlog=_BACKLOG)
            self._path = path
            port = 0
        else:
            host, _, number = address.rpartition(":")
            if not number.isdecimal():
                raise OSError(f"cannot listen on {address}: it is neither HOST:PORT nor unix:PATH")
            host = host.removeprefix("[").removesuffix("]")
            self._server = await loop.create_server(
                self._driver, host or None, int(number), backlog=_BACKLOG, reuse_port=False
            )
            port = self._server.sockets[0].getsockname()[1]
        self._tick()
        return port

    def shut(self) -> None:
        """Asks every peer to go. Those that come later are still served, if they have no more sense."""
        for driver in list(self._drivers):
            driver.shut()

    async def stop(self, seconds: float) -> None:
        """Takes no more connections, gives the calls that are left so many seconds, and ends."""
        if self._server is None:
            return
        self._server.close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)
        self.shut()
        if self._drivers:
            self._last_left = asyncio.Event()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._last_left.wait(), seconds)
        if self._ticking is not None:
            self._ticking.cancel()
        for driver in list(self._drivers):
            driver.abort()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._server.wait_closed(), 1.0)

    @property
    def connections(self) -> int:
        return len(self._drivers)

    def _driver(self) -> Driver:
        return Driver(self._find, self._limits, self._clock, self._drivers, self._left)

    def _left(self) -> None:
        if self._last_left is not None and not self._drivers:
            self._last_left.set()

    def _tick(self) -> None:
        now = self._clock()
        for driver in list(self._drivers):
            driver.tick(now)
        self._ticking = asyncio.get_running_loop().call_later(_TICK, self._tick)


def _clear(path: Path) -> None:
    """Removes the socket of a server that is no more. Raises OSError where one listens, or where no socket is."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise OSError(f"cannot listen on unix:{path}: there is a file that is no socket")
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise OSError(f"cannot listen on unix:{path}: another process does")
