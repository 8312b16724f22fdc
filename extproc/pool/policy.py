"""How one endpoint is chosen among those that may be: filters, then weighted scorers, then a picker.

Each part is a small object with one method and knows nothing of the others, so that a policy is a list of parts. All of
them see the endpoints in no particular order, must not depend on it, and must not change them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from random import Random
from typing import Protocol

import msgspec

from extproc.pool.endpoint import Endpoint
from extproc.pool.prefix import IndexView
from extproc.pool.prompt import Prompt


class PickRequest(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What is known of a request when its endpoint is chosen. Every field has a value that means unknown."""

    model: str = ""
    prompt_tokens: int = 0
    """Estimate; 0 is unknown."""
    expected_output_tokens: int = 0
    """Estimate; 0 is unknown."""
    prompt: Prompt | None = None
    """What the prompt is made of. Hashed only by policies that look for cached prefixes."""
    session: str = ""
    """Key of a conversation or user whose requests better stay together; empty: none."""
    lora: str = ""
    """LoRA adapter that the request needs; empty: none."""
    subset: frozenset[str] | None = None
    """Addresses to which the choice is limited; None: no limit."""
    tells_first_token: bool = False
    """Whether `Lease.served` will be called when the first token arrives, and not only when all have."""


class HeldRequest(Protocol):
    """What learning parts see of a `Lease`. The same object in every call for one request; hashable."""

    @property
    def request(self) -> PickRequest: ...

    @property
    def prefill(self) -> Endpoint | None:
        """The other endpoint of a request whose prompt and answer are computed apart, until the prompt is done."""
        ...


class Learner:
    """Told what becomes of requests. The default is to learn nothing.

    For one request: `chosen`, then perhaps `served`, then `released`; when it moves to another endpoint, `released` for
    the old one and `chosen` for the new one. Calls may concern requests that began before the learner existed.
    """

    def chosen(self, held: HeldRequest, endpoint: Endpoint, now: float) -> None:
        """The request goes to `endpoint`, and its load counts there."""

    def served(self, held: HeldRequest, endpoint: Endpoint, now: float) -> None:
        """The first token has arrived: the engine has computed the prompt, so its cache holds it."""

    def released(self, held: HeldRequest, endpoint: Endpoint, now: float) -> None:
        """The request has left `endpoint`: answered, failed, given up or moved."""

    def left(self, endpoint: Endpoint) -> None:
        """The endpoint is no longer a member, or its engine began anew: what its cache held is lost."""

    def prefix_index(self) -> IndexView | None:
        """How much is remembered of what the engines' caches hold; None: nothing ever is."""
        return None


class Filter(Protocol):
    def keep(self, request: PickRequest, endpoints: Sequence[Endpoint], now: float) -> Sequence[Endpoint]:
        """Those of `endpoints` that may serve the request."""
        ...


class Scorer(Protocol):
    def score(self, request: PickRequest, endpoints: Sequence[Endpoint], now: float) -> list[float]:
        """One figure from 0 to 1 for each of `endpoints`, the best 1. Empty: nothing to say of this request."""
        ...


class Picker(Protocol):
    def pick(
        self, endpoints: Sequence[Endpoint], scores: Sequence[float], count: int, random: Random
    ) -> list[Endpoint]:
        """At most `count` distinct endpoints, the chosen one first, then the next best."""
        ...


class Policy(Learner, ABC):
    """What a pool asks. `ScoredPolicy` serves nearly all; a policy of another shape implements this itself."""

    reads_body = True
    """False where `prompt` and `session` make no difference: they need not be found out."""

    @abstractmethod
    def choose(
        self, request: PickRequest, endpoints: Sequence[Endpoint], count: int, now: float, random: Random
    ) -> list[Endpoint]:
        """At most `count` of `endpoints`, all of which may be chosen, in the order in which they shall be tried.
        Empty: none of them can serve this request."""

    def prefill(
        self, request: PickRequest, chosen: Endpoint, endpoints: Sequence[Endpoint], now: float, random: Random
    ) -> Endpoint | None:
        """The endpoint that computes the prompt for `chosen`, which was just chosen. None: `chosen` does it itself."""
        return None


class ScoredPolicy(Policy):
    """Filters in order, the weighted sum of the scorers, the picker. Parts that are `Learner`s learn, and so do those
    in `learners`, which several parts may share.
    """

    def __init__(
        self,
        scorers: Sequence[tuple[Scorer, float]],
        *,
        filters: Sequence[Filter] = (),
        picker: Picker | None = None,
        learners: Sequence[Learner] = (),
    ) -> None:
        if not scorers:
            raise ValueError("a policy needs at least one scorer")
        self._scorers = tuple(scorers)
        self.reads_body = bool(learners) or any(getattr(scorer, "reads_body", True) for scorer, _ in scorers)
        self._filters = tuple(filters)
        self._picker = picker or BestPicker()
        parts = (*self._filters, *(scorer for scorer, _ in scorers), self._picker)
        self._learners = (*learners, *(part for part in parts if isinstance(part, Learner)))

    def choose(
        self, request: PickRequest, endpoints: Sequence[Endpoint], count: int, now: float, random: Random
    ) -> list[Endpoint]:
        for part in self._filters:
            endpoints = part.keep(request, endpoints, now)
        if not endpoints:
            return []
        scores: list[float] = []
        for scorer, weight in self._scorers:
            more = scorer.score(request, endpoints, now)
            if not scores:
                scores = more if weight == 1.0 else [weight * score for score in more]
            elif more:
                scores = [total + weight * score for total, score in zip(scores, more, strict=True)]
        return self._picker.pick(endpoints, scores or [0.0] * len(endpoints), count, random)

    def chosen(self, held: HeldRequest, endpoint: Endpoint, now: float) -> None:
        for part in self._learners:
            part.chosen(held, endpoint, now)

    def served(self, held: HeldRequest, endpoint: Endpoint, now: float) -> None:
        for part in self._learners:
            part.served(held, endpoint, now)

    def released(self, held: HeldRequest, endpoint: Endpoint, now: float) -> None:
        for part in self._learners:
            part.released(held, endpoint, now)

    def prefix_index(self) -> IndexView | None:
        return next((found for part in self._learners if (found := part.prefix_index()) is not None), None)

    def left(self, endpoint: Endpoint) -> None:
        for part in self._learners:
            part.left(endpoint)


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

    reads_body = False

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

    reads_body = False

    def score(self, request: PickRequest, endpoints: Sequence[Endpoint], now: float) -> list[float]:
        return lowest_is_best([endpoint.picked_at for endpoint in endpoints])


def lowest_is_best(figures: Sequence[float]) -> list[float]:
    """Scales linearly to 0..1: the lowest figure 1, the highest 0; all equal: 1."""
    low, high = min(figures), max(figures)
    if low == high:
        return [1.0] * len(figures)
    scale = 1.0 / (high - low)
    return [(high - figure) * scale for figure in figures]
