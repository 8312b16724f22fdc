"""What the comparison must show."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from extproc.simulate.summary import Summary

OURS = "prefix-cache"
PUBLISHED = {"prefill only, conversation": 1.29, "prefill only, synthetic": 0.66}
"""Mean seconds to the first token of the best published rule, estimated TTFT, in the same set-up."""


class Bar(msgspec.Struct, frozen=True):
    name: str
    value: float
    limit: float
    strict: bool = False
    """Whether the value must be below the limit, and not just at it."""

    @property
    def ok(self) -> bool:
        return self.value < self.limit if self.strict else self.value <= self.limit

    def __str__(self) -> str:
        return f"bar {self.name} {self.value:.4g} {self.limit:.4g} {'ok' if self.ok else 'short'}"


def bars_of(cell: str, summaries: Mapping[str, Summary], baselines: Mapping[str, object]) -> list[Bar]:
    """Of one cell: below what is published, and below every baseline that was played."""
    short = cell.replace(",", "").replace("%", "").replace(" ", "_")
    mean = summaries[OURS].ttft.mean
    found = [Bar(f"{short}_ttft", mean, PUBLISHED[cell])] if cell in PUBLISHED else []
    others = [one.ttft.mean for name, one in summaries.items() if name in baselines]
    if others:
        found.append(Bar(f"{short}_below_baselines", mean, min(others), strict=True))
    return found


def lost(cell: str, summaries: Mapping[str, Summary], baselines: Mapping[str, object]) -> list[str]:
    """In words, every figure of the cell in which a baseline is better than ours."""
    ours = summaries[OURS]
    figures: dict[str, Callable[[Summary], float]] = {
        "mean TTFT": lambda one: one.ttft.mean,
        "p50 TTFT": lambda one: one.ttft.p50,
        "p95 TTFT": lambda one: one.ttft.p95,
        "p99 TTFT": lambda one: one.ttft.p99,
        "mean TPOT": lambda one: one.tpot.mean,
        "mean end to end": lambda one: one.e2e.mean,
        "p99 end to end": lambda one: one.e2e.p99,
        "failed": lambda one: float(one.failed),
    }
    said = []
    for what, figure in figures.items():
        better = {
            name: figure(one) for name, one in summaries.items() if name in baselines and figure(one) < figure(ours)
        }
        if better:
            name = min(better, key=better.__getitem__)
            said.append(f"{cell}: {name} has the better {what}, {better[name]:.3f} against {figure(ours):.3f}")
    return said
