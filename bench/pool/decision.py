"""What one decision costs, and what the prefix index weighs."""

from __future__ import annotations

import gc
import time
import tracemalloc
from random import Random

import msgspec

from extproc.pool.load import EngineLoad
from extproc.pool.policies import PolicyConfig, make_policy
from extproc.pool.policy import PickRequest
from extproc.pool.pool import Pool
from extproc.pool.prefix import PrefixIndex
from extproc.pool.prompt import Prompt
from extproc.simulate.scenario import address_of

_PROMPTS = 300
"""Prompts measured, of which half continue one that was served."""
_BLOCK = 256


class Cost(msgspec.Struct, frozen=True):
    """CPU microseconds of one pick; the median of many, as another process may take the core in between."""

    total: float
    hashing: float


def cost_of_a_pick(endpoints: int, prompt_bytes: int) -> Cost:
    """Of `prefix-cache` with so many endpoints that all carry load, over prompts of which half are known somewhere."""
    pool, dice = _busy_pool(endpoints), Random(7)
    totals, hashings = [], []
    known: list[bytes] = []
    gc.collect()
    gc.freeze()
    for number in range(_PROMPTS):
        begin = dice.choice(known)[: prompt_bytes // 2] if number % 2 and known else b""
        body = begin + dice.randbytes(prompt_bytes - len(begin))
        known = [*known[-15:], body]
        alone = Prompt([body], model="m")
        hashings.append(_microseconds(lambda prompt=alone: prompt.blocks(_BLOCK, 4096)))
        request = PickRequest(
            model="m",
            prompt_tokens=prompt_bytes // 4,
            expected_output_tokens=300,
            prompt=Prompt([body], model="m"),
            tells_first_token=True,
        )
        began = time.thread_time_ns()
        pick = pool.pick(request, float(number))
        totals.append((time.thread_time_ns() - began) / 1000)
        pick.lease.served(number + 0.5)
        if number % 3:
            pick.lease.release(number + 0.6)
    gc.unfreeze()
    return Cost(sorted(totals)[_PROMPTS // 2], sorted(hashings)[_PROMPTS // 2])


def cost_of_a_traced_pick(endpoints: int, blocks: int) -> float:
    """The same where the block hashes are given; microseconds."""
    pool, dice = _busy_pool(endpoints), Random(7)
    totals = []
    chain = [dice.getrandbits(64) for _ in range(blocks)]
    for number in range(_PROMPTS):
        keep = blocks * (number % 5) // 4
        mine = chain[:keep] + [dice.getrandbits(64) for _ in range(blocks - keep)]
        request = PickRequest(prompt_tokens=blocks * 64, prompt=Prompt.hashed(mine, 64), tells_first_token=True)
        began = time.thread_time_ns()
        pick = pool.pick(request, float(number))
        totals.append((time.thread_time_ns() - began) / 1000)
        pick.lease.served(number + 0.5)
    return sorted(totals)[_PROMPTS // 2]


def bytes_of_a_block(blocks: int = 100_000, endpoints: int = 8) -> float:
    """Memory of the index for each block of each endpoint, where no two endpoints hold the same ones."""
    dice = Random(3)
    chains = [[dice.getrandbits(64) for _ in range(100)] for _ in range(blocks // 100)]
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    index = PrefixIndex(per_endpoint=blocks, total=blocks * endpoints)
    for number, chain in enumerate(chains):
        index.learn(f"endpoint {number % endpoints}", [block + 0 for block in chain])
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return (after - before) / index.view().blocks


def _busy_pool(endpoints: int) -> Pool:
    pool = Pool("p", make_policy(PolicyConfig()), retry_count=2, stale_after=1e9, random=Random(1))
    pool.set_members({address_of(number): {} for number in range(endpoints)}, 0.0)
    for number in range(endpoints):
        load = EngineLoad("vllm", 0.0, running=20.0, waiting=float(number % 3), kv_usage=0.5)
        pool.observe(address_of(number), msgspec.structs.replace(load, block_size=16.0, num_blocks=29_205.0), 0.0)
    for number in range(endpoints * 4):
        pool.pick(PickRequest(prompt_tokens=1000, tells_first_token=True), number / 1000)
    return pool


def _microseconds(work: object) -> float:
    assert callable(work)
    began = time.thread_time_ns()
    work()
    return (time.thread_time_ns() - began) / 1000
