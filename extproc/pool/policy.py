"""How one endpoint is chosen among those that may be: filters, then weighted scorers, then a picker.

Each part is a small object with one method and knows nothing of the others, so that a policy is a list of parts. All of
them see the endpoints in no particular order, must not depend on it, and must not change them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Protocol

import msgspec

from extproc.pool.endpoint import Endpoint


class PickRequest(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What is known of a request when its endpoint is chosen. A policy that needs more (session key, LoRA adapter,
    block hashes, subset hint, role) adds a field with a default.
    """

    model: str = ""
    prompt_tokens: int = 0
    """Estimate; 0 is unknown."""
    expected_output_tokens: int = 0
    """Estimate; 0 is unknown."""


class Filter(Protocol):
    def keep(self, request: PickRequest, endpoints: Sequence[Endpoint], now: float) -> Sequence[Endpoint]:
        """Those of `endpoints` that may serve the request."""
        ...


class Scorer(Protocol):
    def score(self, request: PickRequest, endpoints: Sequence[Endpoint], now: float) -> list[float]:
        """One figure from 0 to 1 for each of `endpoints`, the best 1."""
        ...


class Picker(Protocol):
    def pick(
        self, endpoints: Sequence[Endpoint], scores: Sequence[float], count: int, random: Random
    ) -> list[Endpoint]:
        """At most `count` distinct endpoints, the chosen one first, then the next best."""
        ...


class Policy(Protocol):
    """What a pool asks. `ScoredPolicy` serves nearly all; a policy of another shape implements this itself."""

    def choose(
        self, request: PickRequest, endpoints: Sequence[Endpoint], count: int, now: float, random: Random
    ) -> list[Endpoint]:
        """At most `count` of `endpoints`, all of which may be chosen, in the order in which they shall be tried.
        Empty: none of them can serve this request."""
        ...


class ScoredPolicy:
    """Filters in order, the weighted sum of the scorers, the picker."""

    def __init__(
        self,
        scorers: Sequence[tuple[Scorer, float]],
        *,
        filters: Sequence[Filter] = (),
        picker: Picker | None = None,
    ) -> None:
        if not scorers:
            raise ValueError("a policy needs at least one scorer")
        self._first, self._first_weight = scorers[0]
        self._others = tuple(scorers[1:])
        self._filters = tuple(filters)
        self._picker = picker or BestPicker()

    def choose(
        self, request: PickRequest, endpoints: Sequence[Endpoint], count: int, now: float, random: Random
    ) -> list[Endpoint]:
        for part in self._filters:
            endpoints = part.keep(request, endpoints, now)
        if len(endpoints) <= 1:
            return list(endpoints)
        scores = self._first.score(request, endpoints, now)
        if self._others:
            first_weight = self._first_weight
            scores = [first_weight * score for score in scores]
            for scorer, weight in self._others:
                more = scorer.score(request, endpoints, now)
                scores = [total + weight * score for total, score in zip(scores, more, strict=True)]
        return self._picker.pick(endpoints, scores, count, random)


_TAKEN = float("-inf")


class BestPicker:
    """The best scores first; among equals at random, never by position."""

    def pick(
        self, endpoints: Sequence[Endpoint], scores: Sequence[float], count: int, random: Random
    ) -> list[Endpoint]:
        picked: list[Endpoint] = []
        left = list(scores)
        missing = min(count, len(endpoints))
        while missing > 0:
            best = max(left)
            ties = [index for index, score in enumerate(left) if score == best]
            if not ties:
                raise ValueError("a scorer returned NaN")
            for _ in range(min(missing, len(ties))):
                at = int(random.random() * len(ties))
                index = ties[at]
                ties[at] = ties[-1]
                ties.pop()
                picked.append(endpoints[index])
                left[index] = _TAKEN
                missing -= 1
        return picked


class LeastRequests:
    """Fewest requests: ours in flight, which is exact, plus what the engine reports beyond ours.

    An endpoint whose engine is not heard of counts as busy as the busiest other one: unknown is never idle.
    """

    def score(self, request: PickRequest, endpoints: Sequence[Endpoint], now: float) -> list[float]:
        known = [endpoint.foreign for endpoint in endpoints if endpoint.fresh_until > now]
        if len(known) == len(endpoints):
            load = [endpoint.in_flight + foreign for endpoint, foreign in zip(endpoints, known, strict=True)]
        else:
            unknown = max(known, default=0.0)
            load = [
                endpoint.in_flight + (endpoint.foreign if endpoint.fresh_until > now else unknown)
                for endpoint in endpoints
            ]
        return lowest_is_best(load)


class LongestUnpicked:
    """The endpoint whose last turn is longest ago. By itself this is round robin, also while endpoints come and go."""

    def score(self, request: PickRequest, endpoints: Sequence[Endpoint], now: float) -> list[float]:
        return lowest_is_best([endpoint.picked_at for endpoint in endpoints])


def lowest_is_best(figures: Sequence[float]) -> list[float]:
    """Scales linearly to 0..1: the lowest figure 1, the highest 0; all equal: 1."""
    low, high = min(figures), max(figures)
    if low == high:
        return [1.0] * len(figures)
    scale = 1.0 / (high - low)
    return [(high - figure) * scale for figure in figures]


POLICIES: Mapping[str, Callable[[], Policy]] = {
    "least-request": lambda: ScoredPolicy([(LeastRequests(), 1.0)]),
    "round-robin": lambda: ScoredPolicy([(LongestUnpicked(), 1.0)]),
}
"""Name in an `InferencePool` -> a new policy object."""
