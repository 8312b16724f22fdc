"""What other products do, as their public documents state it: the same interface as our policies, for comparison only.

Each rule is written anew from its description, with its published defaults. All of them see the same engines, metrics
and block hashes as ours, so that only the rules differ. They learn which endpoint holds which prefix when a request is
sent, as their sources say, and remember as much of an endpoint as its engine can hold.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from bench.baselines.aibrix import AibrixPrefixCache
from bench.baselines.llmd import LlmdAffinity, llmd_default
from bench.baselines.plain import Random, RoundRobin
from bench.baselines.sglang import SglangCacheAware
from extproc.pool.policy import Policy

BASELINES: Mapping[str, Callable[[float], Policy]] = {
    "random": lambda _: Random(),
    "round robin": lambda _: RoundRobin(),
    "llm-d default": lambda _: llmd_default(),
    "llm-d affinity": LlmdAffinity,
    "AIBrix prefix-cache": lambda _: AibrixPrefixCache(),
    "SGLang cache-aware": lambda _: SglangCacheAware(),
}
"""Name -> made for engines of so many prefill tokens per second, which only some rules want to know."""
