"""What a request would cost on each endpoint: prompt tokens that its cache does not hold, and the wait before them.

Learns from our own requests alone: prefixes from those that were served, speeds from the times to their first tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from extproc.pool.backlog import Backlog, Speed
from extproc.pool.endpoint import Endpoint
from extproc.pool.policy import HeldRequest, Learner, PickRequest
from extproc.pool.prefix import IndexView, PrefixIndex


class CacheForecastParameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """Of every policy that looks for cached prefixes."""

    block_bytes: int = 256
    """Bytes of the prompt in a block, about 64 tokens of English text. A shared prefix counts in whole blocks."""
    max_prompt_blocks: int = 4096
    """Blocks of a prompt that are looked at: with the default size the first MiB."""
    endpoint_blocks: int = 31_250
    """Most blocks remembered of one endpoint, 2 million tokens; fewer where its engine tells of a smaller cache."""
    index_blocks: int = 1_000_000
    """Blocks remembered of all endpoints together, each up to an equal share; about 200 MiB."""
    prefill_rate: float = 8_000.0
    """Prompt tokens per second assumed of an engine until the first answers show its speed."""
    prompt_overhead: int = 256
    """Tokens that every prompt counts beside its own, as an engine's step takes some time however short the prompt."""

    def __post_init__(self) -> None:
        for name in ("block_bytes", "max_prompt_blocks", "endpoint_blocks", "index_blocks", "prefill_rate"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0")
        if self.prompt_overhead < 0:
            raise ValueError("prompt_overhead must not be below 0")


class _Journey:
    """One request on its way: where its prompt is computed, its blocks, and which of them are new there."""

    __slots__ = ("address", "blocks", "cached", "new", "per_block", "served")

    def __init__(
        self, address: str, blocks: Sequence[int], new: Sequence[int], per_block: float, cached: float
    ) -> None:
        self.address = address
        self.blocks = blocks
        self.new = new
        self.per_block = per_block
        self.cached = cached
        self.served = False


class _Lineup:
    """What is known of each endpoint of a list, in its order."""

    __slots__ = ("backlogs", "endpoints", "everybody", "places")

    def __init__(self, endpoints: Sequence[Endpoint], backlogs: Sequence[Backlog], bits: Sequence[int]) -> None:
        self.endpoints = endpoints
        self.backlogs = backlogs
        self.places = {bit: place for place, bit in enumerate(bits)}
        self.everybody = sum(bits)


_NOTHING: Sequence[int] = ()
_TYPICAL = 512.0
"""Uncached tokens assumed of a request of somebody else, until our own show what is usual."""


class CacheForecast(Learner):
    """Shared by the scorers of one policy, which passes its own calls as a `Learner` on to it, once each."""

    def __init__(self, parameters: CacheForecastParameters) -> None:
        self._parameters = parameters
        self.index = PrefixIndex(per_endpoint=parameters.endpoint_blocks, total=parameters.index_blocks)
        self._everywhere = Speed()
        self._backlogs: dict[str, Backlog] = {}
        self._journeys: dict[HeldRequest, _Journey] = {}
        self._saved: dict[str, float] = {}
        self.typical_tokens = _TYPICAL
        """Uncached tokens of a request, on average of the recent ones."""
        self._quiet = False
        """Whether there was ever a request whose first token is not told."""
        self._lineup = _Lineup((), (), ())
        self._asked: PickRequest | None = None
        self._levels: list[tuple[int, int]] = []

    def backlog(self, endpoint: Endpoint) -> Backlog:
        known = self._backlogs.get(endpoint.address)
        if known is None:
            known = self._backlogs[endpoint.address] = Backlog(self._everywhere, self._parameters.prefill_rate)
        return known

    def backlogs(self, endpoints: Sequence[Endpoint], now: float) -> Sequence[Backlog]:
        """Of each endpoint, caught up with the time."""
        backlogs = self._line_up(endpoints).backlogs
        if self._quiet:
            for backlog in backlogs:
                if backlog.quiet:
                    backlog.catch_up(now)
        return backlogs

    def cached(self, request: PickRequest, endpoints: Sequence[Endpoint]) -> list[tuple[int, float]]:
        """Prompt tokens that endpoints have in their caches: pairs of a place in `endpoints` and tokens. The others
        have none.
        """
        blocks, per_block = self._blocks(request)
        lineup = self._line_up(endpoints)
        self._asked, self._levels = request, self.index.levels(blocks)
        found = []
        for depth, bits in self._levels:
            tokens = depth * per_block
            if bits == lineup.everybody:
                return [(place, tokens) for place in range(len(endpoints))]
            while bits:
                bit = bits & -bits
                bits ^= bit
                place = lineup.places.get(bit)
                if place is not None:
                    found.append((place, tokens))
        return found

    def uncached(self, request: PickRequest, endpoints: Sequence[Endpoint]) -> list[float]:
        """Prompt tokens that each endpoint would have to compute; at least 1, as the last one is always computed."""
        total = max(float(request.prompt_tokens), 1.0)
        left = [total] * len(endpoints)
        for place, tokens in self.cached(request, endpoints):
            left[place] = max(1.0, total - tokens)
        return left

    def saved(self, endpoint: Endpoint) -> float:
        """Prompt tokens of requests on their way to the endpoint that its cache is expected to hold."""
        return self._saved.get(endpoint.address, 0.0)

    def foreign_tokens(self, endpoint: Endpoint, now: float) -> float:
        """Prompt tokens that wait in the engine and are not ours, as far as its own figures tell."""
        return endpoint.foreign_waiting * self.typical_tokens if endpoint.fresh_until > now else 0.0

    def chosen(self, held: HeldRequest, endpoint: Endpoint, now: float) -> None:
        request = held.request
        target = held.prefill or endpoint
        blocks, per_block = self._blocks(request)
        levels = self._levels if self._asked is request else self.index.levels(blocks)
        bit = self.index.join(target.address)
        depth = next((depth for depth, bits in levels if bits & bit), 0)
        own = max(1.0, request.prompt_tokens - depth * per_block)
        self.typical_tokens += 0.02 * (own - self.typical_tokens)
        self._quiet = self._quiet or not request.tells_first_token
        work = own + self._parameters.prompt_overhead
        self.backlog(target).add(held, work, now, request.tells_first_token)
        new = blocks[depth:]
        self.index.expect(target.address, new)
        cached = max(0.0, request.prompt_tokens - own)
        self._saved[target.address] = self._saved.get(target.address, 0.0) + cached
        self._journeys[held] = _Journey(target.address, blocks, new, per_block, cached)

    def served(self, held: HeldRequest, endpoint: Endpoint, now: float) -> None:
        journey = self._journeys.get(held)
        if journey is None:
            return
        self._arrive(held, journey, now, told=held.request.tells_first_token)
        journey.served = True
        self._learn(journey, held.prefill or endpoint)
        if held.prefill is not None:
            self._learn(journey, endpoint)

    def released(self, held: HeldRequest, endpoint: Endpoint, now: float) -> None:
        journey = self._journeys.pop(held, None)
        if journey is None:
            return
        if journey.served:
            self._learn(journey, endpoint)
        else:
            self._arrive(held, journey, now, told=False)

    def prefix_index(self) -> IndexView:
        return self.index.view()

    def left(self, endpoint: Endpoint) -> None:
        self._lineup = _Lineup((), (), ())
        self._asked = None
        self.index.forget(endpoint.address)
        self._backlogs.pop(endpoint.address, None)
        self._saved.pop(endpoint.address, None)

    def _arrive(self, held: HeldRequest, journey: _Journey, now: float, *, told: bool) -> None:
        backlog = self._backlogs.get(journey.address)
        if backlog is not None:
            (backlog.done if told else backlog.drop)(held, now)
            self._saved[journey.address] = max(0.0, self._saved.get(journey.address, 0.0) - journey.cached)
        self.index.settle(journey.address, journey.new)
        journey.new = _NOTHING

    def _learn(self, journey: _Journey, endpoint: Endpoint) -> None:
        """The endpoint's cache has just used these blocks."""
        if not journey.blocks:
            return
        load, limit = endpoint.load, None
        if load is not None and load.num_blocks and load.block_size and journey.per_block:
            limit = int(load.num_blocks * load.block_size / journey.per_block)
        self.index.learn(endpoint.address, journey.blocks, limit)

    def _line_up(self, endpoints: Sequence[Endpoint]) -> _Lineup:
        """A pool passes the same list until its members change, so that most calls find it made."""
        lineup = self._lineup
        if lineup.endpoints is not endpoints:
            backlogs = [self.backlog(endpoint) for endpoint in endpoints]
            bits = [self.index.join(endpoint.address) for endpoint in endpoints]
            lineup = self._lineup = _Lineup(endpoints, backlogs, bits)
        return lineup

    def _blocks(self, request: PickRequest) -> tuple[Sequence[int], float]:
        prompt, parameters = request.prompt, self._parameters
        if prompt is None:
            return _NOTHING, 0.0
        return (
            prompt.blocks(parameters.block_bytes, parameters.max_prompt_blocks),
            prompt.tokens_per_block(parameters.block_bytes, request.prompt_tokens),
        )
