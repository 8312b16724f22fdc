"""What the simulated engine and the simulated provider share: a record of what arrived, and resets of a connection."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections import deque
from collections.abc import Callable
from typing import Any

from aiohttp import web

BODY_SHOWN = 64 * 1024


class Recorder:
    """Counts requests and keeps the last `limit` of them as they arrived."""

    def __init__(self, limit: int = 64) -> None:
        self.seen = 0
        self.open = 0
        self.peak = 0
        self._last: deque[dict[str, Any]] = deque(maxlen=limit)
        self._waiting: list[tuple[Callable[[Recorder], bool], asyncio.Future[None]]] = []

    def record(self, request: web.Request, body: bytes, **more: Any) -> None:
        """Keep one request; bodies are shown up to 64 KiB, bytes that are not UTF-8 as escapes."""
        self.seen += 1
        self._last.append(
            {
                "method": request.method,
                "path": request.raw_path,
                "headers": [[name, value] for name, value in request.headers.items()],
                "body": body[:BODY_SHOWN].decode("utf-8", "backslashreplace"),
                "body_bytes": len(body),
                **more,
            }
        )

    def enter(self) -> None:
        """A request began to be answered."""
        self.open += 1
        self.peak = max(self.peak, self.open)
        self._notify()

    def leave(self) -> None:
        """It ended, however."""
        self.open -= 1
        self._notify()

    async def until(self, condition: Callable[[Recorder], bool]) -> None:
        """Wait until the counters fulfil a condition, such as `lambda seen: seen.open == 0`."""
        if not condition(self):
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append((condition, future))
            await future

    def _notify(self) -> None:
        for condition, future in list(self._waiting):
            if future.done() or condition(self):
                self._waiting.remove((condition, future))
                if not future.done():
                    future.set_result(None)

    def snapshot(self) -> dict[str, Any]:
        """`seen`, `open`, `peak`, `last` (null before the first) and the kept `requests`, oldest first."""
        requests = list(self._last)
        return {
            "seen": self.seen,
            "open": self.open,
            "peak": self.peak,
            "last": requests[-1] if requests else None,
            "requests": requests,
        }


def reset_connection(transport: asyncio.Transport | None) -> None:
    """Close a connection with a TCP RST. What the kernel has sent already may still be read by the peer."""
    if transport is None or transport.is_closing():
        return
    # A duplicate, because uvloop's transports do not let options be set on theirs.
    with socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno())) as duplicate:
        duplicate.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
