"""For which pools Envoy itself counts the tokens of streamed answers."""

from __future__ import annotations

from extproc.resources.kinds.traffic import AverageLatencySchedulingPolicy
from extproc.resources.snapshot import Snapshot

_WITHOUT_FIRST_TOKEN = frozenset({"round-robin", "least-request", "llm-metric-based"})
"""Policies of pools that learn nothing from the moment of the first token, which Envoy does not tell."""


def counted_by_envoy(snapshot: Snapshot, *, tested: bool) -> frozenset[str]:
    """Names of pools. `tested`: the Envoy that this configuration is for is one whose counting the tests cover."""
    wish = snapshot.gateway.spec.usage
    if wish == "filter" or (wish == "auto" and not tested):
        return frozenset()
    if wish == "envoy":
        return frozenset(snapshot.pools)
    if any(isinstance(policy, AverageLatencySchedulingPolicy) for policy in snapshot.traffic.values()):
        return frozenset()
    pools = snapshot.pools.items()
    return frozenset(name for name, pool in pools if pool.spec.policy_config.name in _WITHOUT_FIRST_TOKEN)
