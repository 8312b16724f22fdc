"""Where requests go that the filter has not processed: decided per rule, without the filter's help."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence

import msgspec

from extproc.resources.base import HeaderEdits
from extproc.resources.kinds.pool import InferencePool
from extproc.resources.kinds.route import Parameters, RequestMatch, Rule
from extproc.resources.snapshot import Snapshot


class Unprocessed(msgspec.Struct, frozen=True):
    """One step of the way of an unprocessed request. Steps are tried in order; the last one has no condition."""

    match: RequestMatch | None
    """Headers and path only; None fits every request."""
    pool: str | None
    """Pool to go round robin over; None answers 503."""


def unprocessed_steps(
    rules: Sequence[Rule], snapshot: Snapshot, guarded: Container[int] = ()
) -> tuple[Unprocessed, ...]:
    """What Envoy can still decide of `rules` by itself. All of them are for this gateway: `gateways` is not looked at.
    `guarded` holds the positions of rules with a security policy, which nothing passes without the filter.

    Rules are walked in order while their conditions are ones that Envoy evaluates. From the first other rule on it is
    unknown which one would have matched, so the rest is open only if all of it leads to one and the same open pool.
    """
    steps: list[Unprocessed] = []
    for i, rule in enumerate(rules):
        if not all(map(_evaluable, rule.matches)):
            rest = range(i, len(rules))
            common = None if any(each in guarded for each in rest) else _common_pool(rules[i:], snapshot)
            return (*steps, Unprocessed(None, common))
        pool = None if i in guarded else open_pool(rule, snapshot)
        if not rule.matches or any(match == RequestMatch() for match in rule.matches):
            return (*steps, Unprocessed(None, pool))
        steps.extend(Unprocessed(match, pool) for match in rule.matches)
    return (*steps, Unprocessed(None, None))


def open_pool(rule: Rule, snapshot: Snapshot) -> str | None:
    """The one pool that serves the rule if steering is all that the rule asks of the filter, else None."""
    targets = [snapshot.resolve(ref) for ref in rule.backend_refs]
    first = targets[0] if targets else None
    if not isinstance(first, InferencePool) or first.spec.failure_mode != "open":
        return None
    if any(target is not first for target in targets) or _asks_for_more_than_steering(rule):
        return None
    return first.metadata.name


def _asks_for_more_than_steering(rule: Rule) -> bool:
    nothing = HeaderEdits()
    return (
        any(ref.model is not None for ref in rule.backend_refs)
        or rule.system_prompt is not None
        or rule.parameters != Parameters()
        or rule.request_headers != nothing
        or rule.response_headers != nothing
        or rule.response_model != "target"
    )


def _evaluable(match: RequestMatch) -> bool:
    return match.model is None and not match.claims and not match.source_labels


def _common_pool(rules: Sequence[Rule], snapshot: Snapshot) -> str | None:
    pools = {open_pool(rule, snapshot) for rule in rules}
    # Conditions on the caller decide who may use a pool; unless a default lets everybody in, they must not be skipped.
    guarded = any(match.claims or match.source_labels for match in _all_matches(rules))
    has_default = any(not rule.matches for rule in rules)
    if len(pools) != 1 or (guarded and not has_default):
        return None
    return pools.pop()


def _all_matches(rules: Iterable[Rule]) -> Iterable[RequestMatch]:
    return (match for rule in rules for match in rule.matches)
