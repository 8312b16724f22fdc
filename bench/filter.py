"""`make bench`: what the filter costs, beside no filter and an empty one, on a real Envoy.

    python -m bench.filter [--quick] [--markdown FILE]

Prints a table, then one line per bar: `bar NAME VALUE LIMIT ok|short`. Exits 1 if a bar is short, 2 if nothing could be
measured.
"""

from __future__ import annotations

import argparse
import dataclasses
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from bench.filtercost.bed import Bed
from bench.filtercost.measure import Measured, measure
from bench.filtercost.report import NOTES, bars, machine, markdown, rows, table
from bench.filtercost.variants import LOADS, Load
from bench.filtercost.wrk import LoadError, require_wrk

_STARTS = 5


def main(arguments: Sequence[str] | None = None) -> int:
    """Gives the exit status."""
    options = _options(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the children are ended as on Ctrl-C
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    progress = Console(stderr=True, highlight=False)
    try:
        require_wrk()
        measured, ready = _run(progress, options.load, quick=options.quick)
    except (LoadError, RuntimeError) as error:
        progress.print(str(error), markup=False)
        return 2
    except KeyboardInterrupt:
        return 130
    sections = [rows(found) for found in measured.values()]
    found = [] if options.load else bars(measured, ready)
    if options.markdown is not None:
        options.markdown.write_text(markdown(sections, found), encoding="utf-8")
    console.print(machine())
    console.print(table(sections))
    for line in NOTES:
        console.print(line, style="dim", markup=False)
    if options.quick:
        console.print("A quick run is too short for the figures to mean anything: its bars decide nothing.")
    for bar in found:
        console.print(str(bar), markup=False)
    return 0 if options.quick or all(bar.met for bar in found) else 1


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.filter", description="What the filter costs.")
    parser.add_argument("--quick", action="store_true", help="seconds instead of minutes: does everything run?")
    parser.add_argument("--load", action="append", metavar="NAME", help="only this load, without bars; may be repeated")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table to a file, too")
    return parser.parse_args(arguments)


def _run(progress: Console, names: Sequence[str] | None, *, quick: bool) -> tuple[dict[Load, Measured], float]:
    measured: dict[Load, Measured] = {}
    with Bed() as bed:
        progress.print("Starting Envoy, the filters and the destination ...")
        bed.start(1 if quick else _STARTS)
        for load in (load for load in LOADS if not names or load.name in names):
            progress.print(f"{load.name}: {len(load.variants)} variants ...")
            measured[load] = measure(bed, _shortened(load) if quick else load)
        return measured, bed.ready_seconds


def _shortened(load: Load) -> Load:
    return dataclasses.replace(load, rounds=1, seconds=0.8 if load.stream else 0.3, count=1 if load.count else None)


if __name__ == "__main__":
    sys.exit(main())
