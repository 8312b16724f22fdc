"""AIBrix' `prefix-cache` routing.

Source: vllm-project/aibrix, pkg/plugins/gateway/algorithms/README.md. If the numbers of running requests differ by more
than 8, the least loaded endpoint; otherwise, of the endpoints that hold a prefix, by match and then by load, the first
with at most `mean + 1 * standard deviation` running requests; otherwise the least loaded one. Running requests are the
gateway's own count. Releases differ in the two defaults (8 or 16, factor 1 or 2); these are those of the code.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from statistics import fmean, pstdev

from bench.baselines.memory import SentPrefixes
from extproc.pool.endpoint import Endpoint
from extproc.pool.policy import HeldRequest, PickRequest, Policy

IMBALANCE = 8
DEVIATIONS = 1.0


class AibrixPrefixCache(Policy):
    def __init__(self) -> None:
        self._prefixes = SentPrefixes()

    def choose(
        self, request: PickRequest, endpoints: Sequence[Endpoint], count: int, now: float, random: Random
    ) -> list[Endpoint]:
        idlest = sorted(endpoints, key=lambda endpoint: (endpoint.in_flight, random.random()))
        first = idlest[0]
        if idlest[-1].in_flight - first.in_flight <= IMBALANCE:
            first = self._matching(request, idlest) or first
        return [first, *(endpoint for endpoint in idlest if endpoint is not first)][:count]

    def _matching(self, request: PickRequest, idlest: Sequence[Endpoint]) -> Endpoint | None:
        running = [endpoint.in_flight for endpoint in idlest]
        limit = fmean(running) + DEVIATIONS * pstdev(running)
        shares = self._prefixes.shares(request, idlest)
        matching = [(share, endpoint) for share, endpoint in zip(shares, idlest, strict=True) if share > 0]
        matching.sort(key=lambda pair: -pair[0])  # stable: equal matches stay in the order of their load
        return next((endpoint for _, endpoint in matching if endpoint.in_flight <= limit), None)

    def chosen(self, held: HeldRequest, endpoint: Endpoint, now: float) -> None:
        self._prefixes.chosen(held, endpoint, now)

    def left(self, endpoint: Endpoint) -> None:
        self._prefixes.left(endpoint)
