"""The endpoints of one pool, and the load that each of them carries for us.

Everything here is synchronous and takes `now` in seconds, from any clock that does not go back. Methods that may move
an endpoint from one state to another return the `Change`s for whoever logs them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from typing import Literal

import msgspec

from extproc.pool.endpoint import Change, Endpoint, EndpointView, State
from extproc.pool.lease import Lease
from extproc.pool.load import EngineLoad
from extproc.pool.policy import PickRequest, Policy
from extproc.pool.prefix import IndexView
from extproc.pool.waiting import UNLIMITED, QueueLimits, QueuePlace, Saturated, SaturationLimits, WaitingRoom

__all__ = ["Lease", "NoEndpoints", "Pick", "Pool", "PoolView"]


class NoEndpoints(Exception):
    """No endpoint can take the request. `reason` is a stable code."""

    def __init__(self, pool: str, reason: Literal["pool_empty", "all_unreachable", "none_fits"]) -> None:
        super().__init__(f"pool {pool}: {reason}")
        self.pool = pool
        self.reason = reason


class Pick(msgspec.Struct, frozen=True):
    """Where a request goes."""

    candidates: tuple[str, ...]
    """Addresses: the chosen one, then those for retries, all different."""
    lease: Lease
    prefill: str | None = None
    """Address of the endpoint that computes the prompt for the chosen one; None: the chosen one does it itself."""


class PoolView(msgspec.Struct, frozen=True):
    name: str
    endpoints: list[EndpointView]
    """Ordered by address."""
    waiting: int = 0
    """Requests in the queue."""
    oldest_wait: float = 0.0
    """Seconds that the first of them has waited."""
    prefix_index: IndexView | None = None
    """What the policy remembers of the engines' caches."""


class Pool:
    """Membership, state and load. `stale_after` in seconds: a load older than that is unknown.

    `on_suspect` is called with the address of an endpoint that somebody should take a look at.
    """

    def __init__(
        self,
        name: str,
        policy: Policy,
        *,
        retry_count: int,
        stale_after: float,
        random: Random,
        on_suspect: Callable[[str], None] = lambda _address: None,
        saturation: SaturationLimits | None = None,
        queue: QueueLimits | None = None,
    ) -> None:
        self.name = name
        self._queue: WaitingRoom[Pick] = WaitingRoom(self.pick, queue or QueueLimits(), _give_back)
        self._random = random
        self._on_suspect = on_suspect
        self._endpoints: dict[str, Endpoint] = {}
        self._usable: list[Endpoint] = []
        self._picks = 0
        self.configure(policy, retry_count=retry_count, stale_after=stale_after, saturation=saturation, queue=queue)

    def configure(
        self,
        policy: Policy,
        *,
        retry_count: int,
        stale_after: float,
        saturation: SaturationLimits | None = None,
        queue: QueueLimits | None = None,
    ) -> None:
        """Changes how endpoints are chosen. Members, states, load and waiting requests stay."""
        self.policy = policy
        self._candidates = 1 + retry_count
        self._stale_after = stale_after
        self._saturation = saturation or UNLIMITED
        self._queue.limits = queue or QueueLimits()

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
            self.policy.left(endpoint)
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
        if endpoint.observed(load, self._stale_after):
            self.policy.left(endpoint)
        change = self._enter(endpoint, State.HEALTHY, reason, now)
        self._queue.serve(now)
        return change

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

    def suspect(self, address: str) -> None:
        """A request ended badly there, or had to go elsewhere: the endpoint may be gone, or only too busy."""
        endpoint = self._endpoints.get(address)
        if endpoint is not None and endpoint.usable:
            self._on_suspect(address)

    def admit(self, request: PickRequest, now: float) -> Pick | QueuePlace[Pick]:
        """`pick`, or while every endpoint has enough to do, or others wait already, a place in the queue.

        Raises NoEndpoints, or QueueFull.
        """
        if not self._queue:
            try:
                return self.pick(request, now)
            except Saturated:
                pass
        place = self._queue.enter(request, now)
        self._queue.serve(now)
        return place

    def pick(self, request: PickRequest, now: float) -> Pick:
        """Chooses and takes the load in one step. Whoever gets the lease releases it.

        Raises NoEndpoints, or Saturated where all that fit have enough to do.
        """
        if not self._usable:
            members = any(endpoint.state is not State.DRAINING for endpoint in self._endpoints.values())
            raise NoEndpoints(self.name, "all_unreachable" if members else "pool_empty")
        usable = self._usable
        if request.subset is not None:
            usable = [endpoint for endpoint in usable if endpoint.address in request.subset]
        chosen = self.policy.choose(request, usable, self._candidates, now, self._random) if usable else []
        if not chosen:
            raise NoEndpoints(self.name, "none_fits")
        full = self._saturation.full
        if any(full(endpoint, now) for endpoint in chosen):  # rare, so that the others are not asked every time
            free = [endpoint for endpoint in usable if not full(endpoint, now)]
            chosen = self.policy.choose(request, free, self._candidates, now, self._random) if free else []
            if not chosen:
                raise Saturated
        first = chosen[0]
        self._picks += 1
        first.picked_at = self._picks
        first.used_at = now
        prefill = self.policy.prefill(request, first, usable, now, self._random)
        lease = Lease(self, first, request, now, prefill)
        return Pick(
            tuple([endpoint.address for endpoint in chosen]), lease, None if prefill is None else prefill.address
        )

    def view(self, now: float) -> PoolView:
        endpoints = [self._endpoints[address].view(now) for address in sorted(self._endpoints)]
        return PoolView(
            self.name, endpoints, len(self._queue), self._queue.oldest_wait(now), self.policy.prefix_index()
        )

    def addresses(self) -> list[str]:
        """Members, without those that drain."""
        return [address for address, endpoint in self._endpoints.items() if endpoint.state is not State.DRAINING]

    def find(self, address: str) -> Endpoint | None:
        return self._endpoints.get(address)

    def serve_waiting(self, now: float) -> None:
        """Something has become free: whoever waits first gets it."""
        if self._queue:
            self._queue.serve(now)

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self._queue)

    def settle(self, endpoint: Endpoint) -> None:
        """A lease has left `endpoint`: if it drained and this was the last one, it is gone."""
        if not endpoint.in_flight and endpoint.state is State.DRAINING:
            self._endpoints.pop(endpoint.address, None)
            self.policy.left(endpoint)

    def _enter(self, endpoint: Endpoint, state: State, reason: str, now: float) -> Change | None:
        usable = endpoint.usable
        change = endpoint.enter(state, reason, now)
        if endpoint.usable is not usable:
            self._refresh()
        return change

    def _refresh(self) -> None:
        self._usable = [endpoint for endpoint in self._endpoints.values() if endpoint.usable]


def _give_back(pick: Pick, now: float) -> None:
    pick.lease.release(now)
