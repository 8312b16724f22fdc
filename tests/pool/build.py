"""Endpoints, requests and leases in exact states."""

from __future__ import annotations

from random import Random

import msgspec

from extproc.pool.endpoint import Endpoint
from extproc.pool.load import EngineLoad
from extproc.pool.policy import PickRequest, Policy
from extproc.pool.pool import Lease, Pool
from extproc.pool.prompt import Prompt

LOAD = EngineLoad("vllm", 0.0, running=0.0, waiting=0.0, kv_usage=0.0)


def endpoint(name: str, *, in_flight: int = 0, tokens: int = 0, labels: dict[str, str] | None = None) -> Endpoint:
    """One that is idle but for what we sent; nothing is known of its engine."""
    made = Endpoint(name, labels or {}, 0.0)
    for _ in range(in_flight):
        made.take(0)
    made.tokens += tokens
    return made


def observed(made: Endpoint, **figures: object) -> Endpoint:
    """The same after a scrape at time 0 that is good for 10 s. `running` counts our own too."""
    made.observed(msgspec.structs.replace(LOAD, **figures), 10.0)
    return made


def asking(tokens: int = 1000, blocks: tuple[int, ...] = (), **more: object) -> PickRequest:
    """A request whose prompt has 100 tokens a block."""
    fields = {"prompt_tokens": tokens, "prompt": Prompt.hashed(blocks, 100), "tells_first_token": True, **more}
    return PickRequest(**fields)  # type: ignore[arg-type]


def pool_of(policy: Policy, *addresses: str, seed: int = 0, roles: dict[str, str] | None = None) -> Pool:
    pool = Pool("p", policy, retry_count=2, stale_after=10.0, random=Random(seed))
    pool.set_members({address: {"role": (roles or {}).get(address, "both")} for address in addresses}, 0.0)
    return pool


def send(pool: Pool, request: PickRequest, address: str, now: float = 0.0) -> Lease:
    """As if the policy had chosen this endpoint."""
    lease = pool.pick(msgspec.structs.replace(request, subset=frozenset({address})), now).lease
    assert lease.address == address
    return lease
