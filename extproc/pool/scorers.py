"""Scorers and filters from which policies are put together. Formulas: docs of each class."""

from __future__ import annotations

from collections.abc import Sequence

from xxhash import xxh64_intdigest

from extproc.pool.cache_forecast import CacheForecast
from extproc.pool.endpoint import Endpoint
from extproc.pool.policy import PickRequest, lowest_is_best


class LeastTokens:
    """Fewest tokens of work: of our requests at the endpoint, the prompt tokens that its cache does not hold and that
    are not computed yet, and the output expected still; the same of this request; and what waits there of others.
    """

    def __init__(self, forecast: CacheForecast) -> None:
        self._forecast = forecast

    def score(self, request: PickRequest, endpoints: Sequence[Endpoint], now: float) -> list[float]:
        forecast = self._forecast
        own = forecast.uncached(request, endpoints)
        return lowest_is_best(
            [
                endpoint.tokens - forecast.saved(endpoint) + tokens + forecast.foreign_tokens(endpoint, now)
                for endpoint, tokens in zip(endpoints, own, strict=True)
            ]
        )


class QueueLength:
    """`(max - waiting) / (max - min)`, with what we sent since the engine was asked counted as waiting."""

    reads_body = False

    def score(self, request: PickRequest, endpoints: Sequence[Endpoint], now: float) -> list[float]:
        return lowest_is_best(pessimistic([waiting(endpoint, now) for endpoint in endpoints]))


class KvFree:
    """`1 - KV cache utilisation`."""

    reads_body = False

    def score(self, request: PickRequest, endpoints: Sequence[Endpoint], now: float) -> list[float]:
        return [1.0 - usage for usage in pessimistic([kv_usage(endpoint, now) for endpoint in endpoints])]


class FewestRunning:
    """Requests in the engine, ours and others', scaled as `QueueLength`."""

    reads_body = False

    def score(self, request: PickRequest, endpoints: Sequence[Endpoint], now: float) -> list[float]:
        known = [
            endpoint.in_flight + endpoint.foreign if endpoint.fresh_until > now else None for endpoint in endpoints
        ]
        return lowest_is_best(pessimistic(known))


class NotSaturated:
    """Leaves out endpoints whose saturation, `max(waiting / queue_limit, KV use / kv_limit)`, is 1 or more, as long as
    one is left. The limits are those of the Gateway API inference extension. Unknown is not saturated.
    """

    def __init__(self, queue_limit: float, kv_limit: float) -> None:
        self._queue_limit = queue_limit
        self._kv_limit = kv_limit

    def keep(self, request: PickRequest, endpoints: Sequence[Endpoint], now: float) -> Sequence[Endpoint]:
        return [endpoint for endpoint in endpoints if self.saturation(endpoint, now) < 1.0] or endpoints

    def saturation(self, endpoint: Endpoint, now: float) -> float:
        """1 is full."""
        queue, usage = waiting(endpoint, now), kv_usage(endpoint, now)
        return max((queue or 0.0) / self._queue_limit, (usage or 0.0) / self._kv_limit)


class SessionAffinity:
    """1 for the endpoint on which a session should stay, 0 for the others.

    The endpoint is the one with the highest hash of its address and the session (rendezvous hashing): every gateway
    chooses the same one without asking, and an endpoint that comes or goes moves only the sessions it gets or had.
    """

    def score(self, request: PickRequest, endpoints: Sequence[Endpoint], now: float) -> list[float]:
        if not request.session:
            return []
        seed = xxh64_intdigest(request.session.encode())
        ranks = [xxh64_intdigest(endpoint.address.encode(), seed) for endpoint in endpoints]
        best = max(ranks)
        return [1.0 if rank == best else 0.0 for rank in ranks]


class LoraAffinity:
    """1 where the adapter runs, 0.8 where there is room for one more, 0.6 where it is waited for, else 0: the steps of
    the Gateway API inference extension.
    """

    reads_body = False

    def score(self, request: PickRequest, endpoints: Sequence[Endpoint], now: float) -> list[float]:
        if not request.lora:
            return []
        return [_lora_state(endpoint, request.lora, now) for endpoint in endpoints]


class LoraReady:
    """Keeps the endpoints that can serve the adapter without making room first, as long as there is one."""

    def keep(self, request: PickRequest, endpoints: Sequence[Endpoint], now: float) -> Sequence[Endpoint]:
        if not request.lora:
            return endpoints
        return [endpoint for endpoint in endpoints if _lora_state(endpoint, request.lora, now) > 0.0] or endpoints


def _lora_state(endpoint: Endpoint, adapter: str, now: float) -> float:
    load = endpoint.load
    if load is None or endpoint.fresh_until <= now or load.running_adapters is None:
        return 0.0
    if adapter in load.running_adapters:
        return 1.0
    queued = load.waiting_adapters or ()
    if load.max_adapters is not None and len({*load.running_adapters, *queued}) < load.max_adapters:
        return 0.8
    return 0.6 if adapter in queued else 0.0


def waiting(endpoint: Endpoint, now: float) -> float | None:
    """Requests queued in the engine, with ours that it had not seen when it was asked; None: unknown."""
    load = endpoint.load
    if load is None or load.waiting is None or endpoint.fresh_until <= now:
        return None
    return load.waiting + max(0, endpoint.in_flight - endpoint.at_scrape)


def kv_usage(endpoint: Endpoint, now: float) -> float | None:
    """0 to 1; None: unknown."""
    load = endpoint.load
    return None if load is None or endpoint.fresh_until <= now else load.kv_usage


def pessimistic(figures: Sequence[float | None]) -> list[float]:
    """What is unknown counts as much as the highest that is known: unknown is never idle."""
    highest = max((figure for figure in figures if figure is not None), default=0.0)
    return [highest if figure is None else figure for figure in figures]
