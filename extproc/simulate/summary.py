"""The figures of one run."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from extproc.simulate.scenario import Outcome


class Spread(msgspec.Struct, frozen=True):
    """Of a time in seconds, over the requests that have it; all 0 where none has."""

    mean: float
    p50: float
    p95: float
    p99: float


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    policy: str
    requests: int
    ttft: Spread
    """From the arrival at the gateway to the first token."""
    tpot: Spread
    """From the first to the last token, for each token after the first; of answers with more than one."""
    e2e: Spread
    """From the arrival to the last token."""
    hit_rate: float
    """Share of the prompt tokens of answered requests that an engine found in its cache."""
    balance: float
    """Prompt tokens that the busiest engine computed, over the mean of all; 1 is even."""
    rejected: int
    """Requests that no engine got."""
    failed: int
    """Requests that an engine lost."""


def summarise(policy: str, outcomes: Sequence[Outcome], engines: int) -> Summary:
    """Figures of a run on so many engines."""
    answered = [outcome for outcome in outcomes if outcome.ending == "answered"]
    computed = [0] * engines
    for outcome in answered:
        computed[outcome.engine] += outcome.prompt_tokens - outcome.cached_tokens
    mean = sum(computed) / engines
    prompt = sum(outcome.prompt_tokens for outcome in answered)
    return Summary(
        policy=policy,
        requests=len(outcomes),
        ttft=spread(first_token_times(answered)),
        tpot=spread([time for outcome in answered if (time := _per_token(outcome)) is not None]),
        e2e=spread([outcome.finished - outcome.arrival for outcome in answered if outcome.finished is not None]),
        hit_rate=sum(outcome.cached_tokens for outcome in answered) / prompt if prompt else 0.0,
        balance=max(computed) / mean if mean else 1.0,
        rejected=sum(outcome.ending == "rejected" for outcome in outcomes),
        failed=sum(outcome.ending == "failed" for outcome in outcomes),
    )


def first_token_times(outcomes: Sequence[Outcome]) -> list[float]:
    """Seconds to the first token of every request that got one."""
    return [outcome.first_token - outcome.arrival for outcome in outcomes if outcome.first_token is not None]


def spread(times: Sequence[float]) -> Spread:
    """Percentiles are those of the nearest rank: the smallest time that so many are not above."""
    if not times:
        return Spread(0.0, 0.0, 0.0, 0.0)
    ordered = sorted(times)

    def rank(share: float) -> float:
        return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]

    return Spread(sum(ordered) / len(ordered), rank(0.5), rank(0.95), rank(0.99))


def _per_token(outcome: Outcome) -> float | None:
    if outcome.output_tokens < 2 or outcome.finished is None or outcome.first_token is None:
        return None
    return (outcome.finished - outcome.first_token) / (outcome.output_tokens - 1)


_COLUMNS = ("policy", "TTFT mean", "p50", "p95", "p99", "TPOT ms", "p95", "E2E mean", "p95", "p99", "hits", "balance")


def table(summaries: Sequence[Summary]) -> str:
    """Aligned text, one line for each run; times in seconds, TPOT in milliseconds."""
    rows: list[tuple[str, ...]] = [(*_COLUMNS, "rejected", "failed")]
    for one in summaries:
        times = (one.ttft.mean, one.ttft.p50, one.ttft.p95, one.ttft.p99)
        tokens = (one.tpot.mean * 1000, one.tpot.p95 * 1000)
        whole = (one.e2e.mean, one.e2e.p95, one.e2e.p99)
        figures = [f"{time:.3f}" for time in times] + [f"{time:.1f}" for time in tokens]
        figures += [f"{time:.2f}" for time in whole]
        rows.append(
            (one.policy, *figures, f"{one.hit_rate:.3f}", f"{one.balance:.2f}", str(one.rejected), str(one.failed))
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join([row[0].ljust(widths[0]), *cells]).rstrip())
    return "\n".join(lines)
