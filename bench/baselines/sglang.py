"""SGLang's router (also vLLM's), policy `cache_aware`.

Source: the SGLang Model Gateway's documentation and the router's help text: cache-threshold 0.3, balance-abs-threshold
64, balance-rel-threshold 1.5. When the loads (the router's own requests in flight) differ by more than 64 and by more
than a factor of 1.5, the least loaded endpoint. Otherwise the endpoint with the longest match, if that is more than 0.3
of the prompt; otherwise the one to which the smallest distinct amount of prompts was sent, which has the most room in
its cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from bench.baselines.memory import SentPrefixes
from extproc.pool.endpoint import Endpoint
from extproc.pool.policy import HeldRequest, PickRequest, Policy

CACHE_THRESHOLD = 0.3
BALANCE_ABS = 64
BALANCE_REL = 1.5


class SglangCacheAware(Policy):
    def __init__(self) -> None:
        self._prefixes = SentPrefixes()
        self._sent: dict[str, float] = {}
        """Tokens of prompts that were new to each endpoint: the size of its tree."""

    def choose(
        self, request: PickRequest, endpoints: Sequence[Endpoint], count: int, now: float, random: Random
    ) -> list[Endpoint]:
        shuffled = random.sample(list(endpoints), len(endpoints))
        loads = [endpoint.in_flight for endpoint in shuffled]
        idlest = sorted(shuffled, key=lambda endpoint: endpoint.in_flight)
        if max(loads) - min(loads) > BALANCE_ABS and max(loads) > BALANCE_REL * min(loads):
            first = idlest[0]
        else:
            shares = self._prefixes.shares(request, shuffled)
            best = max(shares)
            if best > CACHE_THRESHOLD:
                first = shuffled[shares.index(best)]
            else:
                first = min(shuffled, key=lambda endpoint: self._sent.get(endpoint.address, 0.0))
        return [first, *(endpoint for endpoint in idlest if endpoint is not first)][:count]

    def chosen(self, held: HeldRequest, endpoint: Endpoint, now: float) -> None:
        request = held.request
        new = request.prompt_tokens - self._prefixes.tokens(request, [endpoint])[0]
        self._sent[endpoint.address] = self._sent.get(endpoint.address, 0.0) + new
        self._prefixes.chosen(held, endpoint, now)

    def left(self, endpoint: Endpoint) -> None:
        self._prefixes.left(endpoint)
        self._sent.pop(endpoint.address, None)
