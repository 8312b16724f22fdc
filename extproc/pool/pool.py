"""The endpoints of one pool, and the load that each of them carries for us.

Everything here is synchronous and takes `now` in seconds, from any clock that does not go back. Methods that may move
an endpoint from one state to another return the `Change`s for whoever logs them.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Literal

import msgspec

from extproc.pool.endpoint import Change, Endpoint, EndpointView, State
from extproc.pool.load import EngineLoad
from extproc.pool.policy import PickRequest, Policy


class NoEndpoints(Exception):
    """No endpoint can take the request. `reason` is a stable code."""

    def __init__(self, pool: str, reason: Literal["pool_empty", "all_unreachable", "none_fits"]) -> None:
        super().__init__(f"pool {pool}: {reason}")
        self.pool = pool
        self.reason = reason


class Pick(msgspec.Struct, frozen=True):
    """Where a request goes. What a policy tells the engine beside it, such as a prefill endpoint, belongs here."""

    candidates: tuple[str, ...]
    """Addresses: the chosen one, then those for retries, all different."""
    lease: Lease


class PoolView(msgspec.Struct, frozen=True):
    name: str
    endpoints: list[EndpointView]
    """Ordered by address."""


class Pool:
    """Membership, state and load. `stale_after` in seconds: a load older than that is unknown."""

    def __init__(self, name: str, policy: Policy, *, retry_count: int, stale_after: float, random: Random) -> None:
        self.name = name
        self._random = random
        self._endpoints: dict[str, Endpoint] = {}
        self._usable: list[Endpoint] = []
        self._picks = 0
        self.configure(policy, retry_count=retry_count, stale_after=stale_after)

    def configure(self, policy: Policy, *, retry_count: int, stale_after: float) -> None:
        """Changes how endpoints are chosen. Members, states and load stay."""
        self._policy = policy
        self._candidates = 1 + retry_count
        self._stale_after = stale_after

    def __repr__(self) -> str:
        return f"<Pool {self.name} {list(self._endpoints.values())}>"

    def set_members(self, members: Mapping[str, Mapping[str, str]], now: float) -> list[Change]:
        """Makes exactly `members` (`ip:port` -> labels) the endpoints. One that goes keeps draining until its last
        lease ends.
        """
        changes: list[Change | None] = []
        for address, labels in members.items():
            endpoint = self._endpoints.get(address)
            if endpoint is None:
                self._endpoints[address] = Endpoint(address, labels, now)
                changes.append(Change(address, None, State.UNKNOWN, "joined"))
                continue
            endpoint.labels = dict(labels)
            if endpoint.state is State.DRAINING:
                changes.append(endpoint.enter(State.UNKNOWN, "joined again", now))
        for address in [address for address in self._endpoints if address not in members]:
            endpoint = self._endpoints[address]
            if endpoint.in_flight:
                changes.append(endpoint.enter(State.DRAINING, "no longer a member", now))
            else:
                del self._endpoints[address]
                changes.append(Change(address, endpoint.state, None, "no longer a member"))
        self._refresh()
        return [change for change in changes if change]

    def scrape_begins(self, address: str, now: float) -> None:
        """A request for the engine's figures is about to leave. Lets `observe` tell our own load from the engine's."""
        if endpoint := self._endpoints.get(address):
            endpoint.scrape_begins(now)

    def observe(self, address: str, load: EngineLoad | None, now: float, reason: str = "") -> Change | None:
        """The endpoint answers; it is healthy again if it was not. `load` None: it says nothing of its load, `reason`
        tells why.

        Ignored for addresses that are no members, and where the endpoint failed after the scrape had begun.
        """
        endpoint = self._endpoints.get(address)
        if endpoint is None or not endpoint.scrape_ends() or endpoint.state is State.DRAINING:
            return None
        endpoint.observed(load, self._stale_after)
        return self._enter(endpoint, State.HEALTHY, reason, now)

    def unreachable(self, address: str, reason: str, now: float) -> Change | None:
        """The endpoint does not answer: it is not chosen from here on, until the next `observe`."""
        endpoint = self._endpoints.get(address)
        if endpoint is None or endpoint.state is State.DRAINING:
            return None
        endpoint.scrape_ends()
        return self._enter(endpoint, State.UNREACHABLE, reason, now)

    def failed(self, address: str, now: float) -> Change | None:
        """A request to the endpoint failed. As `unreachable`, but an endpoint that is already away keeps its reason,
        and a scrape that runs meanwhile does not bring it back.
        """
        endpoint = self._endpoints.get(address)
        if endpoint is None or endpoint.state is State.DRAINING:
            return None
        endpoint.failed_at = now
        if endpoint.state is State.UNREACHABLE:
            return None
        return self._enter(endpoint, State.UNREACHABLE, "a request to it failed", now)

    def pick(self, request: PickRequest, now: float) -> Pick:
        """Chooses and takes the load in one step. Raises NoEndpoints. Whoever gets the lease releases it."""
        if not self._usable:
            members = any(endpoint.state is not State.DRAINING for endpoint in self._endpoints.values())
            raise NoEndpoints(self.name, "all_unreachable" if members else "pool_empty")
        chosen = self._policy.choose(request, self._usable, self._candidates, now, self._random)
        if not chosen:
            raise NoEndpoints(self.name, "none_fits")
        first = chosen[0]
        self._picks += 1
        first.picked_at = self._picks
        first.used_at = now
        lease = Lease(self, first, request.prompt_tokens + request.expected_output_tokens)
        return Pick(tuple([endpoint.address for endpoint in chosen]), lease)

    def view(self, now: float) -> PoolView:
        return PoolView(self.name, [self._endpoints[address].view(now) for address in sorted(self._endpoints)])

    def addresses(self) -> list[str]:
        """Members, without those that drain."""
        return [address for address, endpoint in self._endpoints.items() if endpoint.state is not State.DRAINING]

    def find(self, address: str) -> Endpoint | None:
        return self._endpoints.get(address)

    def settle(self, endpoint: Endpoint) -> None:
        """A lease has left `endpoint`: if it drained and this was the last one, it is gone."""
        if not endpoint.in_flight and endpoint.state is State.DRAINING:
            self._endpoints.pop(endpoint.address, None)

    def _enter(self, endpoint: Endpoint, state: State, reason: str, now: float) -> Change | None:
        usable = endpoint.usable
        change = endpoint.enter(state, reason, now)
        if endpoint.usable is not usable:
            self._refresh()
        return change

    def _refresh(self) -> None:
        self._usable = [endpoint for endpoint in self._endpoints.values() if endpoint.usable]


class Lease:
    """The load of one request on one endpoint, from `pick` to `release`."""

    __slots__ = ("_endpoint", "_pool", "_tokens", "released")

    def __init__(self, pool: Pool, endpoint: Endpoint, tokens: int) -> None:
        self._pool = pool
        self._endpoint: Endpoint | None = endpoint
        self._tokens = tokens
        self.released = False
        endpoint.take(tokens)

    def __repr__(self) -> str:
        return f"<Lease {self.address} tokens={self._tokens}{' released' if self.released else ''}>"

    @property
    def address(self) -> str | None:
        """Where the load counts; None after `release`, or where the pool does not know the address."""
        return self._endpoint.address if self._endpoint else None

    def move(self, address: str) -> None:
        """Another endpoint serves the request than the one it was last known at: the load counts there. An address that
        the pool does not know takes it off all of its endpoints. Nothing happens after `release`.
        """
        if self.released or address == self.address:
            return
        self._leave()
        self._endpoint = self._pool.find(address)
        if self._endpoint:
            self._endpoint.take(self._tokens)

    def count_tokens(self, tokens: int) -> None:
        """Says how many tokens of work the request still holds, as they get done or a better estimate comes in."""
        if self.released:
            return
        if self._endpoint:
            self._endpoint.tokens += tokens - self._tokens
        self._tokens = tokens

    def release(self, now: float) -> None:
        """The exchange is over. Every call after the first does nothing."""
        if not self.released:
            self.released = True
            if self._endpoint:
                self._endpoint.used_at = now
            self._leave()

    def _leave(self) -> None:
        endpoint, self._endpoint = self._endpoint, None
        if endpoint:
            endpoint.give_back(self._tokens)
            self._pool.settle(endpoint)
