"""What agents beside the engines say: who may register, what a message means, when silence is loss.

Synchronous and without a clock. `now` is the time at which something arrived, in seconds; agents send no times.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from enum import StrEnum
from ipaddress import IPv6Address, ip_address
from typing import Literal, Protocol

import msgspec

from extproc.pool.load import EngineLoad

RefusalCode = Literal["out_of_order", "unknown_pool", "bad_address", "bad_labels", "not_a_member", "taken"]

_PORTS = range(1, 65536)
_MAX_LABELS = 64
_MAX_TEXT = 256
_MAX_ADAPTERS = 1024
_LIMITS = {"kv_usage": 1.0, "running": 1e6, "waiting": 1e6, "block_size": 1e6, "num_blocks": 1e10, "max_adapters": 1e6}
_LIMIT_OF_TOTALS = 1e16
_FIGURES = ("prompt_tokens_total", "generated_tokens_total", "prompt_per_s", "generated_per_s", *_LIMITS)


class RegistrationRefused(Exception):
    """The gateway does not take what an agent said. The text is for whoever runs the agent."""

    def __init__(self, code: RefusalCode, message: str) -> None:
        super().__init__(message)
        self.code = code


class ReportedPool(Protocol):
    """A pool as agents see it. Addresses are as `literal_address` gives them."""

    def admits(self, address: str) -> bool:
        """Whether an agent may report for this address."""
        ...

    def agent_joins(self, address: str, labels: Mapping[str, str]) -> None: ...

    def agent_reports(self, address: str, load: EngineLoad | None) -> None:
        """The load at this moment; None where the engine answers and says nothing of its load."""
        ...

    def agent_leaves(self, address: str, reason: str) -> None: ...


class Registration(msgspec.Struct, frozen=True, kw_only=True):
    """What the first message of a stream says, not yet checked."""

    pool: str
    address: str
    labels: Mapping[str, str] = {}
    instance: str = ""
    """The agent's own name. One that lost its connection takes over from itself."""


class _State(StrEnum):
    OPEN = "open"
    REGISTERED = "registered"
    ENDED = "ended"


class AgentSessions:
    """Every stream of every agent. `silence` is how many seconds one may say nothing."""

    def __init__(self, pools: Callable[[str], ReportedPool | None], *, silence: float) -> None:
        self.silence = silence
        self._pools = pools
        self._open: set[AgentSession] = set()
        self._by_endpoint: dict[tuple[str, str], AgentSession] = {}

    def __len__(self) -> int:
        """Endpoints that agents report."""
        return len(self._by_endpoint)

    def connect(self, peer: str, now: float, on_end: Callable[[str], None]) -> AgentSession:
        """`on_end` is called with the reason where the session ends otherwise than by its own doing."""
        session = AgentSession(self, peer, now, on_end)
        self._open.add(session)
        return session

    def end_silent(self, now: float) -> None:
        """Ends every session that has been silent for too long."""
        for session in [each for each in self._open if now - each.heard_at > self.silence]:
            session.lose(f"nothing heard from the agent for {self.silence:g} s")

    def end_all(self, reason: str) -> None:
        for session in list(self._open):
            session.lose(reason)

    def pool(self, name: str) -> ReportedPool:
        """Raises RegistrationRefused."""
        found = self._pools(name)
        if found is None:
            raise RegistrationRefused("unknown_pool", f"there is no pool {name!r}")
        return found

    def claim(self, session: AgentSession, pool: str, address: str, instance: str) -> None:
        """Makes `session` the one that reports an endpoint. Raises RegistrationRefused."""
        holder = self._by_endpoint.get((pool, address))
        if holder is not None:
            if not instance or holder.instance != instance:
                raise RegistrationRefused(
                    "taken", f"endpoint {address} of pool {pool} is reported by the agent at {holder.peer}"
                )
            holder.lose("the same agent has connected again")
        self._by_endpoint[pool, address] = session

    def forget(self, session: AgentSession, endpoint: tuple[str, str] | None) -> None:
        self._open.discard(session)
        if endpoint is not None and self._by_endpoint.get(endpoint) is session:
            del self._by_endpoint[endpoint]


class AgentSession:
    """One stream: `register` once, then any number of `load` and `heartbeat`, then `end`. Anything else is refused and
    changes nothing.
    """

    def __init__(self, agents: AgentSessions, peer: str, now: float, on_end: Callable[[str], None]) -> None:
        self.peer = peer
        self.instance = ""
        self.heard_at = now
        self._agents = agents
        self._on_end = on_end
        self._state = _State.OPEN
        self._endpoint: tuple[str, str] | None = None
        self._load: EngineLoad | None = None

    def __repr__(self) -> str:
        return f"<AgentSession {self.peer} {self._state} {self._endpoint}>"

    @property
    def ended(self) -> bool:
        return self._state is _State.ENDED

    def register(self, registration: Registration, now: float) -> None:
        """The endpoint joins its pool. Raises RegistrationRefused."""
        if self._state is not _State.OPEN:
            raise RegistrationRefused("out_of_order", "an agent registers once, first of all")
        name = registration.pool
        pool = self._agents.pool(name)
        address = literal_address(registration.address)
        _check_labels(registration.labels)
        if not pool.admits(address):
            raise RegistrationRefused("not_a_member", _not_a_member(name, address))
        self._agents.claim(self, name, address, registration.instance)
        self.instance = registration.instance
        self._state = _State.REGISTERED
        self._endpoint = name, address
        self.heard_at = now
        pool.agent_joins(address, registration.labels)

    def load(self, load: EngineLoad, now: float) -> None:
        """Takes a report; figures that are no sane numbers become unknown, and its own time does not count.

        Raises RegistrationRefused.
        """
        self._heard(now)
        self._load = _sane(load)
        self._report(now)

    def heartbeat(self, now: float) -> None:
        """Raises RegistrationRefused. All is as the last load said, at this moment."""
        self._heard(now)
        if self._load is not None:
            self._report(now)

    def end(self, reason: str) -> None:
        """The agent takes leave, or its stream has ended: the endpoint leaves. Further calls do nothing."""
        if self._state is _State.ENDED:
            return
        self._state = _State.ENDED
        endpoint, self._endpoint = self._endpoint, None
        self._agents.forget(self, endpoint)
        if endpoint is not None:
            name, address = endpoint
            try:
                pool = self._agents.pool(name)
            except RegistrationRefused:
                return  # the pool has gone before
            pool.agent_leaves(address, reason)

    def lose(self, reason: str) -> None:
        """`end`, and whoever serves the stream is told."""
        self.end(reason)
        self._on_end(reason)

    def _heard(self, now: float) -> None:
        if self._state is not _State.REGISTERED or self._endpoint is None:
            raise RegistrationRefused("out_of_order", "an agent registers before it reports")
        name, address = self._endpoint
        if not self._agents.pool(name).admits(address):
            raise RegistrationRefused("not_a_member", _not_a_member(name, address))
        self.heard_at = now

    def _report(self, now: float) -> None:
        if self._endpoint is not None and self._load is not None:
            name, address = self._endpoint
            load = msgspec.structs.replace(self._load, taken_at=now, source="agent")
            known = any(getattr(load, figure) is not None for figure in ("running", "waiting", "kv_usage"))
            self._agents.pool(name).agent_reports(address, load if known else None)


def literal_address(text: str) -> str:
    """`IP:PORT` or `[IPv6]:PORT` in its usual spelling. Raises RegistrationRefused."""
    host, _, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    try:
        ip = IPv6Address(host[1:-1]) if bracketed else ip_address(host)
    except ValueError:
        ip = None
    usable = ip is not None and bracketed == (ip.version == 6) and "%" not in host and not ip.is_unspecified
    if not usable or not port.isascii() or not port.isdigit() or len(port) > 5 or int(port) not in _PORTS:
        shown = text[:_MAX_TEXT]
        raise RegistrationRefused(
            "bad_address", f"{shown!r} is not an address of an engine: expected IP:PORT or [IPv6]:PORT"
        )
    return f"[{ip}]:{int(port)}" if bracketed else f"{ip}:{int(port)}"


def _not_a_member(pool: str, address: str) -> str:
    return f"{address} is not an endpoint of pool {pool}, whose members are not left to agents (`membership: agents`)"


def _check_labels(labels: Mapping[str, str]) -> None:
    if len(labels) > _MAX_LABELS or any(len(text) > _MAX_TEXT for pair in labels.items() for text in pair):
        raise RegistrationRefused("bad_labels", f"at most {_MAX_LABELS} labels of up to {_MAX_TEXT} characters")


def _sane(load: EngineLoad) -> EngineLoad:
    changes: dict[str, object] = {"engine": load.engine[:_MAX_TEXT]}
    for name in _FIGURES:
        value = getattr(load, name)
        if value is not None and not (math.isfinite(value) and 0.0 <= value <= _LIMITS.get(name, _LIMIT_OF_TOTALS)):
            changes[name] = None
    for name in ("running_adapters", "waiting_adapters"):
        adapters = getattr(load, name)
        if adapters is not None:
            changes[name] = tuple([adapter[:_MAX_TEXT] for adapter in adapters[:_MAX_ADAPTERS]])
    return msgspec.structs.replace(load, **changes)
