"""`python -m bench.flow`: the tables, then one line `bar NAME VALUE LIMIT ok|short` each. Exits 1 if one is short.

Everything but the two kinds of CPU time is the same in every run. A part is a function that gives its text and bars.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import click

from bench.flow import cost, exact, fleet, predictor, shared, ssjf
from bench.flow.bars import Bar

FOLDER = Path(__file__).parents[2] / ".." / "shared" / "data"
ENDINGS, QUICK_ENDINGS = 100_000, 10_000
Part = Callable[[], tuple[str, list[Bar]]]


@click.command(context_settings={"show_default": True})
@click.option("--data", type=click.Path(path_type=Path), default=FOLDER, help="Folder with `text` and `traces`.")
@click.option("--quick", is_flag=True, help="Less of everything: to see that it works.")
@click.option("--predictor", "only_predictor", is_flag=True, help="Only the predictor.")
@click.option("--shortest", "only_shortest", is_flag=True, help="Only shortest job first.")
@click.option("--pairs", type=click.Path(path_type=Path), help="JSON lines with prompt, model, and response or tokens.")
def main(data: Path, quick: bool, only_predictor: bool, only_shortest: bool, pairs: Path | None) -> None:
    """Play and measure every part."""
    known = pairs or data / predictor.PAIRS
    needed = [known, *([] if only_predictor or only_shortest else [data / fleet.TRACE])]
    missing = [str(path) for path in needed if not path.is_file()]
    if missing:
        say(f"{', '.join(missing)} is missing: give the folder with --data.")
        say("Pairs are of Arena-Hard v0.1 (Apache-2.0), the trace is Azure's LLM inference trace 2023 (CC BY).")
        sys.exit(2)
    only = [name for name, asked in (("predictor", only_predictor), ("shortest", only_shortest)) if asked]
    bars = play(parts(data, known, quick=quick, only=only))
    say("")
    for bar in bars:
        say(str(bar))
    sys.exit(0 if all(bar.ok for bar in bars) else 1)


def parts(data: Path, pairs: Path, *, quick: bool, only: Sequence[str] = ()) -> list[Part]:
    """In the order in which they are shown; `only` names those wanted, if not all are."""
    known = predictor.read_pairs(pairs)
    found: dict[str, Part] = {
        "exact": lambda: exact.report(QUICK_ENDINGS if quick else ENDINGS),
        "fleet": lambda: fleet.report(data, quick=quick),
        "predictor": lambda: predictor.report(known),
        "shortest": lambda: ssjf.report(known, quick=quick),
        "cost": cost.report,
        "shared": shared.report,
    }
    return [part for name, part in found.items() if not only or name in only]


def play(wanted: list[Part]) -> list[Bar]:
    """The bars of all, after their tables were said."""
    bars: list[Bar] = []
    for part in wanted:
        text, found = part()
        say(text + "\n")
        bars += found
    return bars


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
