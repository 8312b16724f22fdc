"""The page that shows a comparison: one file that needs nothing but a browser."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from extproc.simulate import plots
from extproc.simulate.scenario import Outcome
from extproc.simulate.summary import Summary, first_token_times

_CURVE = 200
"""Points of a distribution's line."""
_BINS = 60

_STYLE = """
:root { color-scheme: light dark; --ink: #1f2328; --soft: #d0d7de; --page: #fff; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --soft: #30363d; --page: #0d1117; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--page); margin: 2rem auto;
  max-width: 1700px; padding: 0 1rem; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; } .wide { overflow-x: auto; }
th, td { padding: .3rem .7rem; text-align: right; border-bottom: 1px solid var(--soft); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } td.best { font-weight: 700; }
figure { margin: 0; } figcaption { font-weight: 600; margin: .5rem 0; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(420px, 1fr)); gap: 1.5rem; margin-top: 1.5rem; }
svg text { font-size: 12px; fill: var(--ink); } svg .grid { stroke: var(--soft); stroke-width: 1; }
.key { display: inline-block; width: .8em; height: .8em; border-radius: 2px; margin-right: .5em; }
"""


def page(
    title: str, facts: Sequence[str], summaries: Sequence[Summary], outcomes: Mapping[str, Sequence[Outcome]]
) -> str:
    """The whole page. `facts` say what was simulated; `outcomes` belong to the summaries by their policy."""
    said = "".join(f"<li>{escape(fact)}</li>" for fact in facts)
    figures = "".join(
        f"<figure><figcaption>{escape(caption)}</figcaption>{plot}</figure>"
        for caption, plot in _plots(summaries, outcomes).items()
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head><body>'
        f"<h1>{escape(title)}</h1><ul>{said}</ul>"
        f'<div class="wide">{_table(summaries)}</div><div class="plots">{figures}</div></body></html>\n'
    )


def _plots(summaries: Sequence[Summary], outcomes: Mapping[str, Sequence[Outcome]]) -> dict[str, str]:
    spreads = {
        one.policy: [("p50", one.ttft.p50), ("mean", one.ttft.mean), ("p95", one.ttft.p95), ("p99", one.ttft.p99)]
        for one in summaries
    }
    distributions = {name: _distribution(first_token_times(some)) for name, some in outcomes.items()}
    courses = {name: _course(some) for name, some in outcomes.items()}
    return {
        "Time to first token: share of requests that have it by then": plots.lines(
            distributions, x="seconds (logarithmic)", y="share of requests", log_x=True
        ),
        "Time to first token: p50, mean, p95, p99": plots.bars(spreads, y="seconds"),
        "Mean time to first token over the trace": plots.lines(courses, x="arrival, seconds", y="seconds"),
        "Prompt tokens found in a cache": plots.bars(
            {one.policy: [("hit rate", one.hit_rate)] for one in summaries}, y="share of prompt tokens"
        ),
        "Prompt tokens computed by each engine": plots.bars(
            {name: _by_engine(some) for name, some in outcomes.items()}, y="tokens"
        ),
        "Time per output token: mean, p95": plots.bars(
            {one.policy: [("mean", one.tpot.mean * 1000), ("p95", one.tpot.p95 * 1000)] for one in summaries},
            y="milliseconds",
        ),
    }


def _distribution(times: Sequence[float]) -> list[plots.Point]:
    ordered = sorted(times)
    if not ordered:
        return []
    last = len(ordered) - 1
    places = sorted({last * step // _CURVE for step in range(_CURVE + 1)})
    return [(ordered[place], (place + 1) / len(ordered)) for place in places]


def _course(outcomes: Sequence[Outcome]) -> list[plots.Point]:
    """Mean of each of some equal parts of the trace in which something arrived."""
    end = max((outcome.arrival for outcome in outcomes), default=0.0)
    width = end / _BINS or 1.0
    bins: dict[int, list[float]] = {}
    for outcome in outcomes:
        if outcome.first_token is not None:
            bins.setdefault(int(outcome.arrival / width), []).append(outcome.first_token - outcome.arrival)
    return [((number + 0.5) * width, sum(times) / len(times)) for number, times in sorted(bins.items())]


def _by_engine(outcomes: Sequence[Outcome]) -> list[tuple[str, float]]:
    tokens: dict[int, float] = {}
    for outcome in outcomes:
        if outcome.engine >= 0:
            tokens[outcome.engine] = tokens.get(outcome.engine, 0.0) + outcome.prompt_tokens - outcome.cached_tokens
    return [(f"engine {engine}", tokens[engine]) for engine in sorted(tokens)]


_HEADS = (
    "Policy",
    "TTFT mean s",
    "p50",
    "p95",
    "p99",
    "TPOT mean ms",
    "p50",
    "p95",
    "p99",
    "End to end mean s",
    "p50",
    "p95",
    "p99",
    "Hit rate",
    "Balance",
    "Rejected",
    "Failed",
)


def _table(summaries: Sequence[Summary]) -> str:
    rows = [_figures(one) for one in summaries]
    best = [min(column) for column in zip(*rows, strict=True)]
    head = "".join(f"<th>{name}</th>" for name in _HEADS)
    body = []
    for index, (one, row) in enumerate(zip(summaries, rows, strict=True)):
        cells = [
            f"<td{' class=best' if figure == least and len(rows) > 1 else ''}>{abs(figure):.6g}</td>"
            for figure, least in zip(row, best, strict=True)
        ]
        key = f'<span class="key" style="background:{plots.colour(index)}"></span>'
        body.append(f"<tr><td>{key}{escape(one.policy)}</td>{''.join(cells)}</tr>")
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"


def _figures(one: Summary) -> list[float]:
    """Rounded as shown; the lower the better, so the hit rate is negative."""
    times = [one.ttft.mean, one.ttft.p50, one.ttft.p95, one.ttft.p99]
    tokens = [one.tpot.mean, one.tpot.p50, one.tpot.p95, one.tpot.p99]
    whole = [one.e2e.mean, one.e2e.p50, one.e2e.p95, one.e2e.p99]
    return [
        *(round(time, 3) for time in times),
        *(round(time * 1000, 1) for time in tokens),
        *(round(time, 2) for time in whole),
        -round(one.hit_rate, 3),
        round(one.balance, 2),
        float(one.rejected),
        float(one.failed),
    ]
