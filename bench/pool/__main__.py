"""`python -m bench.pool`: the tables, then one line `bar NAME VALUE LIMIT ok|short` each. Exits 1 if one is short."""

from __future__ import annotations

import os
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import click

from bench.baselines import BASELINES
from bench.pool import decision
from bench.pool.bars import OURS, Bar, bars_of, lost
from bench.pool.cells import CELLS, TRACES, Cell
from bench.pool.live import same_order
from bench.pool.work import full_of, play_named
from extproc.simulate.summary import table

OWN = ("least-request", "least-token", "llm-metric-based", OURS)
FOLDER = Path(__file__).parents[2] / ".." / "shared" / "data" / "traces"
SECONDS_A_POLICY = 20.0


@click.command(context_settings={"show_default": True})
@click.option("--traces", type=click.Path(path_type=Path), default=FOLDER, help="Folder with the Mooncake traces.")
@click.option("--cell", "wanted", default="", help="Only cells whose name contains this.")
@click.option("--jobs", default=os.cpu_count() or 1, help="Processes.")
@click.option("--live", is_flag=True, help="Only the order of policies through a real Envoy, which takes a minute.")
def main(traces: Path, wanted: str, jobs: int, live: bool) -> None:
    """Play every policy in every cell and measure one decision."""
    missing = [name for name in TRACES.values() if not (traces / name).is_file()]
    if missing:
        say(f"{traces.resolve()} lacks {', '.join(missing)}: give the folder with --traces.")
        say(
            "They are the conversation and synthetic traces of Mooncake (FAST 2025, Apache-2.0), gzipped as JSON lines."
        )
        sys.exit(2)
    if live:
        lines, bar = same_order(traces / TRACES["conversation"])
        say("\n".join([*lines, "", str(bar)]))
        sys.exit(0 if bar.ok else 1)
    bars, losses = compare(traces, [cell for cell in CELLS if wanted in cell.name], jobs)
    bars += measure()
    say("\nWhere a baseline is better than prefix-cache:" if losses else "\nNo baseline is better anywhere.")
    for loss in losses:
        say(f"  {loss}")
    say("\nThe order of the policies through a real Envoy is measured alone, as nothing else may run: --live.\n")
    for bar in bars:
        say(str(bar))
    sys.exit(0 if all(bar.ok for bar in bars) else 1)


def compare(traces: Path, cells: list[Cell], jobs: int) -> tuple[list[Bar], list[str]]:
    """Says a table for each cell. What the engines can do is found out first."""
    bars: list[Bar] = []
    losses: list[str] = []
    slowest = 0.0
    with ProcessPoolExecutor(jobs, mp_context=get_context("forkserver")) as workers:
        full = {name: workers.submit(full_of, traces, name) for name in {cell.trace for cell in cells if cell.load}}
        plays = {
            cell.name: [
                workers.submit(play_named, traces, cell, full[cell.trace].result() if cell.load else 0.0, name)
                for name in (*BASELINES, *OWN)
            ]
            for cell in cells
        }
        for name, work in plays.items():
            results = [one.result() for one in work]
            summaries = {summary.policy: summary for summary, _ in results}
            slowest = max(slowest, *(seconds for _, seconds in results))
            say(f"\n{name}\n{table(list(summaries.values()))}")
            bars += bars_of(name, summaries, BASELINES)
            losses += lost(name, summaries, BASELINES)
    if cells:
        bars.append(Bar("simulator_seconds_of_the_slowest_run", slowest, SECONDS_A_POLICY))
    return bars, losses


def measure() -> list[Bar]:
    """Decisions and memory."""
    long, short = decision.cost_of_a_pick(100, 32_768 * 4), decision.cost_of_a_pick(100, 1024)
    most = decision.cost_of_a_pick(200, 32_768 * 4)
    traced = {number: decision.cost_of_a_traced_pick(number, 200) for number in (8, 200)}
    weight = decision.bytes_of_a_block()
    say("\nOne decision of prefix-cache, median CPU microseconds:")
    say(f"  100 endpoints, 32k tokens: {long.total:.0f}, of which hashing {long.hashing:.0f}")
    say(f"  100 endpoints, 1 KB: {short.total:.0f}, of which hashing {short.hashing:.1f}")
    say(f"  200 endpoints, 32k tokens: {most.total:.0f}")
    say(f"  200 block hashes given: {traced[8]:.0f} with 8 endpoints, {traced[200]:.0f} with 200")
    say(f"Prefix index: {weight:.0f} bytes a block; full, with a million blocks, {weight:.0f} MB")
    return [
        Bar("decision_32k_tokens_100_endpoints_us", long.total, 300),
        Bar("decision_1kb_100_endpoints_us", short.total, 40),
        Bar("decision_200_hashes_8_endpoints_us", traced[8], 100),
        Bar("index_bytes_a_block", weight, 210),
    ]


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
