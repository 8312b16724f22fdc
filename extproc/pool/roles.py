"""Prefill and decode on different endpoints: which one computes the prompt, which one the answer, and who does what.

The destination is the decode endpoint; the pick names the prefill endpoint beside it. A request whose prompt is mostly
cached on its decode endpoint is not split, as handing the cache over would cost more than computing the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Literal

from extproc.pool.cache_forecast import CacheForecast, CacheForecastParameters
from extproc.pool.endpoint import Endpoint
from extproc.pool.policy import BestPicker, HeldRequest, PickRequest, Policy, lowest_is_best
from extproc.pool.prefix import IndexView
from extproc.pool.scorers import kv_usage, pessimistic

Role = Literal["prefill", "decode", "both"]


class StaticParameters(CacheForecastParameters, frozen=True, kw_only=True):
    """Of `static-pd`."""

    role_label: str = "role"
    """Label of an endpoint that says `prefill`, `decode` or `both`. Without it: both."""
    split_above: int = 256
    """Uncached prompt tokens from which on the prompt is computed on a prefill endpoint."""


class DynamicParameters(StaticParameters, frozen=True, kw_only=True):
    """Of `dynamic-pd`. Pressure is 1 where an endpoint has as much to do as it should: a prefill endpoint when a new
    prompt waits `prefill_seconds`, a decode endpoint when `decode_kv` of its KV cache is in use.
    """

    prefill_seconds: float = 1.0
    decode_kv: float = 0.8
    borrow_above: float = 1.0
    """Lowest pressure within a role above which it borrows an endpoint of the other role."""
    return_below: float = 0.5
    """Highest pressure among a role's own endpoints below which it gives back what it has borrowed."""
    hold_seconds: float = 10.0
    """Least time between two changes of a role."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.return_below < self.borrow_above:
            raise ValueError("return_below must be below borrow_above")


class StaticSplit(Policy):
    """Roles stay as their labels say.

    Prefill side: lowest `(100 - match in %) * 0.1 + in-flight / highest in-flight`. Decode side: lowest
    `(running / highest running + 1 - throughput / highest throughput) / (free KV / highest free KV)`.
    """

    def __init__(self, parameters: StaticParameters) -> None:
        self._parameters = parameters
        self._forecast = CacheForecast(parameters)
        self._picker = BestPicker()

    def role(self, endpoint: Endpoint) -> Role:
        """What the endpoint does at the moment."""
        label = endpoint.labels.get(self._parameters.role_label)
        return "prefill" if label == "prefill" else "decode" if label == "decode" else "both"

    def choose(
        self, request: PickRequest, endpoints: Sequence[Endpoint], count: int, now: float, random: Random
    ) -> list[Endpoint]:
        decoders = [endpoint for endpoint in endpoints if self.role(endpoint) != "prefill"]
        decoders = decoders or list(endpoints)  # an engine that computes prompts can also answer
        return self._picker.pick(decoders, lowest_is_best(decode_costs(decoders, now)), count, random)

    def prefill(
        self, request: PickRequest, chosen: Endpoint, endpoints: Sequence[Endpoint], now: float, random: Random
    ) -> Endpoint | None:
        helpers = [endpoint for endpoint in endpoints if self.role(endpoint) == "prefill" and endpoint is not chosen]
        if not helpers:
            return None
        uncached = self._forecast.uncached(request, [*helpers, chosen])
        if uncached.pop() < self._parameters.split_above:
            return None
        return self._picker.pick(helpers, lowest_is_best(self._prefill_costs(request, helpers, uncached)), 1, random)[0]

    def _prefill_costs(
        self, request: PickRequest, helpers: Sequence[Endpoint], uncached: Sequence[float]
    ) -> list[float]:
        busiest = max(max(endpoint.in_flight for endpoint in helpers), 1)
        total = max(request.prompt_tokens, 1)
        return [
            100.0 * tokens / total * 0.1 + endpoint.in_flight / busiest
            for endpoint, tokens in zip(helpers, uncached, strict=True)
        ]

    def chosen(self, held: HeldRequest, endpoint: Endpoint, now: float) -> None:
        self._forecast.chosen(held, endpoint, now)

    def served(self, held: HeldRequest, endpoint: Endpoint, now: float) -> None:
        self._forecast.served(held, endpoint, now)

    def released(self, held: HeldRequest, endpoint: Endpoint, now: float) -> None:
        self._forecast.released(held, endpoint, now)

    def prefix_index(self) -> IndexView | None:
        return self._forecast.prefix_index()

    def left(self, endpoint: Endpoint) -> None:
        self._forecast.left(endpoint)


class DynamicSplit(StaticSplit):
    """Roles follow the load: when even the idlest endpoint of a role is under pressure, the role borrows the idlest of
    the other one, if that has one to spare; it gives back when its own endpoints have little to do.
    """

    def __init__(self, parameters: DynamicParameters) -> None:
        super().__init__(parameters)
        self._limits = parameters
        self._lent: dict[str, Role] = {}
        """Address -> the role it has instead of its own."""
        self._changed_at = float("-inf")

    @property
    def lent(self) -> Mapping[str, Role]:
        """Endpoints that do not do what their label says."""
        return self._lent

    def role(self, endpoint: Endpoint) -> Role:
        return self._lent.get(endpoint.address) or super().role(endpoint)

    def choose(
        self, request: PickRequest, endpoints: Sequence[Endpoint], count: int, now: float, random: Random
    ) -> list[Endpoint]:
        if now - self._changed_at >= self._limits.hold_seconds and self._rearrange(endpoints, now):
            self._changed_at = now
        return super().choose(request, endpoints, count, now, random)

    def left(self, endpoint: Endpoint) -> None:
        super().left(endpoint)
        self._lent.pop(endpoint.address, None)

    def pressure(self, endpoint: Endpoint, role: Role, now: float) -> float:
        """Of one endpoint in one role; 1 is as much as it should have to do. Our own requests count at once."""
        if role == "prefill":
            return self._forecast.backlog(endpoint).wait(now) / self._limits.prefill_seconds
        load, usage = endpoint.load, kv_usage(endpoint, now)
        if load is not None and load.num_blocks and load.block_size:
            usage = max(usage or 0.0, min(1.0, endpoint.tokens / (load.num_blocks * load.block_size)))
        return (usage or 0.0) / self._limits.decode_kv

    def _rearrange(self, endpoints: Sequence[Endpoint], now: float) -> bool:
        roles: tuple[Role, Role] = ("prefill", "decode")
        for role, other in (roles, roles[::-1]):
            members = [endpoint for endpoint in endpoints if self.role(endpoint) == role]
            own = [endpoint for endpoint in members if endpoint.address not in self._lent]
            borrowed = [endpoint for endpoint in members if endpoint.address in self._lent]
            pressures = [self.pressure(endpoint, role, now) for endpoint in members]
            if borrowed and all(self.pressure(endpoint, role, now) < self._limits.return_below for endpoint in own):
                del self._lent[_idlest(borrowed, [self.pressure(one, role, now) for one in borrowed]).address]
                return True
            if pressures and min(pressures) > self._limits.borrow_above and self._borrow(role, other, endpoints, now):
                return True
        return False

    def _borrow(self, role: Role, other: Role, endpoints: Sequence[Endpoint], now: float) -> bool:
        lenders = [endpoint for endpoint in endpoints if self.role(endpoint) == other]
        if len(lenders) < 2:
            return False
        pressures = [self.pressure(endpoint, other, now) for endpoint in lenders]
        if max(pressures) > self._limits.borrow_above:
            return False
        chosen = _idlest(lenders, pressures)
        if chosen.address in self._lent:
            del self._lent[chosen.address]
        else:
            self._lent[chosen.address] = role
        return True


def decode_costs(endpoints: Sequence[Endpoint], now: float) -> list[float]:
    """`(running / max + 1 - throughput / max) / (free KV / max)`. Running counts our own at once."""
    running = [endpoint.in_flight + (endpoint.foreign if endpoint.fresh_until > now else 0.0) for endpoint in endpoints]
    throughput = [_throughput(endpoint, now) for endpoint in endpoints]
    free = [max(0.01, 1.0 - usage) for usage in pessimistic([kv_usage(endpoint, now) for endpoint in endpoints])]
    most, fastest, freest = max(max(running), 1.0), max(max(throughput), 1.0), max(free)
    return [
        (requests / most + 1.0 - tokens / fastest) / (room / freest)
        for requests, tokens, room in zip(running, throughput, free, strict=True)
    ]


def _throughput(endpoint: Endpoint, now: float) -> float:
    load = endpoint.load
    if load is None or endpoint.fresh_until <= now or load.generated_per_s is None:
        return 0.0
    return load.generated_per_s


def _idlest(endpoints: Sequence[Endpoint], pressures: Sequence[float]) -> Endpoint:
    """The least pressed one; among equals by address, as changing a role is no choice to leave to chance."""
    return min(zip(pressures, endpoints, strict=True), key=lambda pair: (pair[0], pair[1].address))[1]
