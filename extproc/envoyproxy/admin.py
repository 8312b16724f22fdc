"""Envoy's admin interface on a Unix socket: is it ready, which configuration has it taken over, how busy is it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

import aiohttp

_POLL = 0.01
_TIMEOUT = 5.0


class EnvoyAdmin:
    """A client. While Envoy does not answer, everything is as if it had just started: not ready, no statistics."""

    def __init__(self, socket: Path) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(str(socket), force_close=True),
            timeout=aiohttp.ClientTimeout(total=_TIMEOUT),
        )

    async def close(self) -> None:
        await self._session.close()

    async def ready(self) -> bool:
        return await self._call("GET", "/ready") == "LIVE\n"

    async def stats(self, prefixes: Iterable[str]) -> dict[str, str]:
        """Statistics by name, of those that start with one of `prefixes`; texts without their quotes."""
        text = await self._call("GET", f"/stats?filter=^({'|'.join(prefixes)})")
        pairs = (line.partition(": ") for line in text.splitlines())
        return {name: value.strip('"') for name, _, value in pairs}

    async def number(self, name: str) -> int:
        """One counter or gauge, 0 where it does not exist yet."""
        return int((await self.stats([name])).get(name, "0"))

    async def drain(self) -> None:
        """No new connections; open ones end with their running request."""
        await self._call("POST", "/drain_listeners")

    async def _call(self, method: str, path: str) -> str:
        try:
            async with self._session.request(method, f"http://admin{path}") as response:
                return await response.text()
        except (aiohttp.ClientError, TimeoutError):
            return ""


async def until(reached: Callable[[], Awaitable[bool]]) -> None:
    """Waits for something that Envoy offers no event for."""
    while not await reached():  # noqa: ASYNC110 there is nothing to wait on but the admin interface
        await asyncio.sleep(_POLL)
