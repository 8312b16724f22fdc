"""Which endpoint was sent which prefix: common to the rules that look for one."""

from __future__ import annotations

from collections.abc import Sequence

from extproc.pool.endpoint import Endpoint
from extproc.pool.policy import HeldRequest, Learner, PickRequest
from extproc.pool.prefix import PrefixIndex

_PER_ENDPOINT = 31_250
"""Blocks, where the engine does not tell its own number: llm-d's `lruCapacityPerServer`."""


class SentPrefixes(Learner):
    """Remembers the prompt blocks of every request that was sent, for each endpoint the most recently used ones."""

    def __init__(self) -> None:
        self._index = PrefixIndex(per_endpoint=_PER_ENDPOINT, total=10**9)

    def shares(self, request: PickRequest, endpoints: Sequence[Endpoint]) -> list[float]:
        """Which part of the prompt's full blocks each endpoint was sent before, from the first block on; 0 to 1."""
        blocks = _blocks(request)
        depths = self._index.depths(blocks, [endpoint.address for endpoint in endpoints])
        return [depth / len(blocks) if blocks else 0.0 for depth in depths]

    def tokens(self, request: PickRequest, endpoints: Sequence[Endpoint]) -> list[float]:
        """The same in tokens."""
        prompt = request.prompt
        size = 0.0 if prompt is None else prompt.tokens_per_block(256, request.prompt_tokens)
        return [share * len(_blocks(request)) * size for share in self.shares(request, endpoints)]

    def chosen(self, held: HeldRequest, endpoint: Endpoint, now: float) -> None:
        request, load = held.request, endpoint.load
        limit = None
        if load is not None and load.num_blocks and load.block_size and request.prompt is not None:
            size = request.prompt.tokens_per_block(256, request.prompt_tokens)
            limit = int(load.num_blocks * load.block_size / size) if size else None
        self._index.learn(endpoint.address, _blocks(request), limit)

    def left(self, endpoint: Endpoint) -> None:
        self._index.forget(endpoint.address)


def _blocks(request: PickRequest) -> Sequence[int]:
    return () if request.prompt is None else request.prompt.blocks(256, 4096)
