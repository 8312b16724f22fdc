"""llm-d's endpoint picker, and with it the Gateway API inference extension.

`llmd_default`: queue depth 2, KV-cache utilisation 2, prefix 3, highest sum; figures as the engine printed them, read
every 50 ms. Sources: llm-d-router, default profile, and the READMEs of `queue-scorer` (`(max - queue) / (max - min)`),
`kv-cache-utilization-scorer` (`1 - usage`), `prefix-cache-scorer` (matched share of the prompt's blocks) and
`max-score-picker`.

`LlmdAffinity`: the "optimized baseline" guide, https://llm-d.ai/blog/sticky-until-saturated-token-aware-routing, with
the READMEs of `prefix-cache-affinity-filter` (affinityThreshold 0.8, maxTTFTPenaltyMs 18000, explorationProbability 0,
peakPrefillThroughput to be calibrated) and `token-load-scorer` (queueThresholdTokens 4194304). In-flight tokens are the
uncached prompt tokens of requests without a first token. `peak` is set to what the engines really do.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from bench.baselines.memory import SentPrefixes
from extproc.pool.endpoint import Endpoint
from extproc.pool.policy import BestPicker, HeldRequest, PickRequest, Policy, ScoredPolicy, lowest_is_best

AFFINITY = 0.8
MAX_PENALTY_SECONDS = 18.0
QUEUE_THRESHOLD = 4_194_304


class PrintedQueue:
    """`(max - queue) / (max - min)` of the queue as printed; all equal: 1."""

    def score(self, request: PickRequest, endpoints: Sequence[Endpoint], now: float) -> list[float]:
        return lowest_is_best([_figure(endpoint, "waiting") for endpoint in endpoints])


class PrintedKv:
    """`1 - usage` as printed."""

    def score(self, request: PickRequest, endpoints: Sequence[Endpoint], now: float) -> list[float]:
        return [1.0 - _figure(endpoint, "kv_usage") for endpoint in endpoints]


class PrefixShare(SentPrefixes):
    """Share of the prompt's blocks."""

    def score(self, request: PickRequest, endpoints: Sequence[Endpoint], now: float) -> list[float]:
        return self.shares(request, endpoints)


def llmd_default() -> Policy:
    return ScoredPolicy([(PrintedQueue(), 2.0), (PrintedKv(), 2.0), (PrefixShare(), 3.0)])


class LlmdAffinity(Policy):
    """Endpoints that hold 80 % of the prompt, unless they would answer 18 s later than the others; least tokens."""

    def __init__(self, peak: float) -> None:
        self._peak = peak
        self._prefixes = SentPrefixes()
        self._picker = BestPicker()
        self._flying: dict[HeldRequest, float] = {}
        self._tokens: dict[str, float] = {}

    def choose(
        self, request: PickRequest, endpoints: Sequence[Endpoint], count: int, now: float, random: Random
    ) -> list[Endpoint]:
        shares = self._prefixes.shares(request, endpoints)
        sticky = [endpoint for endpoint, share in zip(endpoints, shares, strict=True) if share >= AFFINITY]
        others = [endpoint for endpoint, share in zip(endpoints, shares, strict=True) if share < AFFINITY]
        kept = endpoints
        if sticky and (not others or self._seconds(sticky) - self._seconds(others) <= MAX_PENALTY_SECONDS):
            kept = sticky
        return self._picker.pick(kept, self._scores(request, kept), count, random)

    def _seconds(self, endpoints: Sequence[Endpoint]) -> float:
        return min(self._tokens.get(endpoint.address, 0.0) for endpoint in endpoints) / self._peak

    def _scores(self, request: PickRequest, endpoints: Sequence[Endpoint]) -> list[float]:
        cached = self._prefixes.tokens(request, endpoints)
        loads = [
            self._tokens.get(endpoint.address, 0.0) + request.prompt_tokens - known
            for endpoint, known in zip(endpoints, cached, strict=True)
        ]
        return [1.0 - min(1.0, load / QUEUE_THRESHOLD) for load in loads]

    def chosen(self, held: HeldRequest, endpoint: Endpoint, now: float) -> None:
        uncached = held.request.prompt_tokens - self._prefixes.tokens(held.request, [endpoint])[0]
        self._flying[held] = uncached
        self._tokens[endpoint.address] = self._tokens.get(endpoint.address, 0.0) + uncached
        self._prefixes.chosen(held, endpoint, now)

    def served(self, held: HeldRequest, endpoint: Endpoint, now: float) -> None:
        self._tokens[endpoint.address] = self._tokens.get(endpoint.address, 0.0) - self._flying.pop(held, 0.0)

    def released(self, held: HeldRequest, endpoint: Endpoint, now: float) -> None:
        self.served(held, endpoint, now)

    def left(self, endpoint: Endpoint) -> None:
        self._prefixes.left(endpoint)


def _figure(endpoint: Endpoint, name: str) -> float:
    """As printed last, however old; 0 before the first reading, as in the source."""
    return 0.0 if endpoint.load is None else float(getattr(endpoint.load, name) or 0.0)
