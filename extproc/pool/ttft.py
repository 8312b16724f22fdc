"""The endpoint with the earliest first token."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from extproc.pool.cache_forecast import CacheForecast
from extproc.pool.endpoint import Endpoint
from extproc.pool.policy import BestPicker, HeldRequest, PickRequest, Policy, Scorer, lowest_is_best
from extproc.pool.prefix import IndexView
from extproc.pool.scorers import LoraReady

_ALIKE = 0.001
"""Seconds by which an estimate may be above the lowest one and still be chosen, so that several gateways, or several
requests of one moment, do not agree on one endpoint by chance."""


class EarliestFirstToken(Policy):
    """Lowest estimated time to the first token: (tokens queued before + own uncached tokens) / prefill speed of the
    endpoint. The rule that won on recorded traces against longest match, with or without a guard on load.

    `own_weight` above 1 makes the own tokens count more than those before: they also delay whoever comes next, so a
    cache hit is worth more than its own time. `request_seconds` is added for every request at the endpoint, ours or
    not, as they share its steps. `preferences` are weighed against the estimate, scaled from 0 for the latest to 1 for
    the earliest; those that have nothing to say of a request cost nothing.
    """

    def __init__(
        self,
        forecast: CacheForecast,
        *,
        own_weight: float,
        request_seconds: float,
        preferences: Sequence[tuple[Scorer, float]] = (),
    ) -> None:
        self.forecast = forecast
        self._own_weight = own_weight
        self._request_seconds = request_seconds
        self._preferences = preferences
        self._ready = LoraReady()
        self._picker = BestPicker()

    def choose(
        self, request: PickRequest, endpoints: Sequence[Endpoint], count: int, now: float, random: Random
    ) -> list[Endpoint]:
        if request.lora:
            endpoints = self._ready.keep(request, endpoints, now)
        if not endpoints:
            return []
        seconds = self.seconds(request, endpoints, now)
        if self._preferences and (request.session or request.lora):
            return self._picker.pick(endpoints, self._weighed(request, endpoints, seconds, now), count, random)
        return _earliest(endpoints, seconds, count, random)

    def seconds(self, request: PickRequest, endpoints: Sequence[Endpoint], now: float) -> list[float]:
        """What is compared, for each endpoint."""
        forecast, weight, each = self.forecast, self._own_weight, self._request_seconds
        backlogs, typical = forecast.backlogs(endpoints, now), forecast.typical_tokens
        most = max(request.prompt_tokens, 1)
        cold = most * weight
        costs = [
            (backlog.free_at - now if backlog.free_at - now > backlog.least else backlog.least)  # noqa: FURB136 -- fast
            + cold / backlog.rate
            + endpoint.in_flight * each
            + (
                endpoint.foreign * each + endpoint.foreign_waiting * typical / backlog.rate
                if endpoint.foreign and endpoint.fresh_until > now
                else 0.0
            )
            for backlog, endpoint in zip(backlogs, endpoints, strict=True)
        ]
        for place, tokens in forecast.cached(request, endpoints):
            costs[place] -= min(tokens, most - 1) * weight / backlogs[place].rate
        return costs

    def _weighed(
        self, request: PickRequest, endpoints: Sequence[Endpoint], seconds: Sequence[float], now: float
    ) -> list[float]:
        scores = lowest_is_best(seconds)
        for scorer, weight in self._preferences:
            if more := scorer.score(request, endpoints, now):
                scores = [total + weight * score for total, score in zip(scores, more, strict=True)]
        return scores

    def chosen(self, held: HeldRequest, endpoint: Endpoint, now: float) -> None:
        self.forecast.chosen(held, endpoint, now)

    def served(self, held: HeldRequest, endpoint: Endpoint, now: float) -> None:
        self.forecast.served(held, endpoint, now)

    def released(self, held: HeldRequest, endpoint: Endpoint, now: float) -> None:
        self.forecast.released(held, endpoint, now)

    def prefix_index(self) -> IndexView | None:
        return self.forecast.prefix_index()

    def left(self, endpoint: Endpoint) -> None:
        self.forecast.left(endpoint)


def _earliest(endpoints: Sequence[Endpoint], seconds: list[float], count: int, random: Random) -> list[Endpoint]:
    """As `BestPicker`, for the lowest figures, and faster."""
    ordered = sorted(seconds)
    places: list[int] = []
    rank, limit = 0, ordered[0] + _ALIKE
    while len(places) < count and rank < len(ordered):
        if rank + 1 < len(ordered) and ordered[rank + 1] <= limit:
            alike = [place for place, time in enumerate(seconds) if ordered[rank] <= time <= limit]
            places += random.sample(alike, min(count - len(places), len(alike)))
            rank += len(alike)
        else:
            places.append(seconds.index(ordered[rank]))
            rank += 1
        limit = ordered[rank] if rank < len(ordered) else 0.0
    return [endpoints[place] for place in places]
