"""From what a pool's configuration names to literal addresses: DNS names are looked up again and again."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping
from ipaddress import IPv6Address, ip_address
from random import Random

import msgspec

from extproc.pool.engines.tasks import end, spawn

logger = logging.getLogger(__name__)

Members = dict[str, Mapping[str, str]]
"""`IP:PORT` or `[IPv6]:PORT` -> labels."""
Lookup = Callable[[str, int], Awaitable[Iterable[str]]]
"""Host and port -> IP addresses. Raises OSError where there is no answer."""

Sources = list[tuple[str, str, int, dict[str, str]]]
"""Address as written, host, port and labels of each."""

_JITTER = 0.2
_TIMEOUT = 5.0
_PORTS = range(1, 65536)


class AddressSource(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of the configuration: `IP:PORT`, `[IPv6]:PORT`, or `NAME:PORT` with all its addresses."""

    address: str
    labels: dict[str, str] = {}


def split_address(address: str) -> tuple[str, int]:
    """Host without brackets, and port. Raises ValueError."""
    host, _, port = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = str(IPv6Address(host[1:-1]))
    elif ":" in host:
        raise ValueError(f"{address!r}: an IPv6 address stands in brackets, such as [::1]:8000")
    if not host or not port.isascii() or not port.isdigit() or int(port) not in _PORTS:
        raise ValueError(f"{address!r} is not HOST:PORT")
    return host, int(port)


def join_address(ip: str, port: int) -> str:
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"


def is_literal(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


async def system_lookup(host: str, port: int) -> list[str]:
    """Asks the system's resolver, in a thread."""
    loop = asyncio.get_running_loop()
    answers = await asyncio.wait_for(loop.getaddrinfo(host, port, type=socket.SOCK_STREAM), _TIMEOUT)
    return [str(sockaddr[0]) for *_, sockaddr in answers]


class Membership:
    """Keeps the members current, and tells `on_members` all of them whenever they may have changed.

    A look-up that fails or brings nothing leaves the last good answer in place. Where two sources name one address, the
    labels of the first count.
    """

    def __init__(
        self,
        sources: Iterable[AddressSource],
        on_members: Callable[[Members], None],
        *,
        interval: float,
        random: Random,
        lookup: Lookup = system_lookup,
    ) -> None:
        self.interval = interval
        """Seconds between look-ups of a name. May be replaced at any time; counts from the next look-up on."""
        self._on_members = on_members
        self._random = random
        self._lookup = lookup
        self._answers: dict[str, list[str]] = {}
        self._failing: set[str] = set()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._sources = checked(sources)

    async def start(self) -> None:
        """Returns when every name has been looked up once, with or without an answer."""
        self._publish()
        names = self._names()
        await asyncio.gather(*(self._refresh(name) for name in names))
        for name in names & self._names():
            self._follow(name, first_pause=self.interval)

    def configure(self, sources: Iterable[AddressSource]) -> None:
        """Names that stay keep their answers; those that are new are looked up at once. Raises ValueError, then nothing
        changes.
        """
        self.use(checked(sources))

    def use(self, sources: Sources) -> None:
        """`configure` with sources that have been checked."""
        self._sources = sources
        names = self._names()
        for name in self._tasks.keys() - names:
            self._tasks.pop(name).cancel()
        for name in self._answers.keys() - names:
            del self._answers[name]
        self._failing &= names
        for name in names - self._tasks.keys():
            self._follow(name, first_pause=0.0)
        self._publish()

    async def stop(self) -> None:
        tasks = list(self._tasks.values())
        self._tasks.clear()
        await end(tasks)

    def _names(self) -> set[str]:
        return {address for address, host, _, _ in self._sources if not is_literal(host)}

    def _follow(self, name: str, first_pause: float) -> None:
        if name not in self._tasks:
            self._tasks[name] = spawn(self._keep_current(name, first_pause), f"dns {name}")

    async def _keep_current(self, name: str, pause: float) -> None:
        while True:
            await asyncio.sleep(pause * self._random.uniform(1 - _JITTER, 1 + _JITTER))
            await self._refresh(name)
            pause = self.interval

    async def _refresh(self, name: str) -> None:
        host, port = split_address(name)
        try:
            found = sorted({ip for ip in await self._lookup(host, port) if is_literal(ip) and "%" not in ip})
        except (OSError, UnicodeError) as error:  # a name that cannot be encoded is a UnicodeError
            self._failed(name, str(error) or type(error).__name__)
            return
        if not found:
            self._failed(name, "no address")
            return
        if name in self._failing:
            self._failing.discard(name)
            logger.info("dns: %s resolves again", name)
        addresses = [join_address(ip, port) for ip in found]
        if addresses != self._answers.get(name) and name in self._names():
            self._answers[name] = addresses
            self._publish()

    def _failed(self, name: str, reason: str) -> None:
        if name not in self._failing:
            self._failing.add(name)
            kept = len(self._answers.get(name, ()))
            logger.warning("dns: %s does not resolve (%s), keeping %d known addresses", name, reason, kept)

    def _publish(self) -> None:
        members: Members = {}
        for address, host, port, labels in self._sources:
            literals = [join_address(host, port)] if is_literal(host) else self._answers.get(address, [])
            for literal in literals:
                members.setdefault(literal, labels)
        self._on_members(members)


def checked(sources: Iterable[AddressSource]) -> Sources:
    """Raises ValueError for an address that is none."""
    return [(source.address, *split_address(source.address), source.labels) for source in sources]
