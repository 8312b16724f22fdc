"""`python -m bench.detectors`: tables, then one line `bar NAME VALUE LIMIT ok|short` each. Exits 1 if one is short."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import click

from bench.detectors import benign, business_pairs, cost, injection, names, values_and_keys
from bench.detectors.table import Bar, Bench, Section
from detectors import Guard, GuardError, Policy, load_guard
from detectors.policy import Budget, ClassifierSwitch, Switch

FOLDER = Path(__file__).parents[2] / ".." / "shared" / "data"
OFF = Switch(enabled=False)
BUDGET = Budget(characters=1_000_000, milliseconds=60_000)
"""Nothing is cut short here: a text that is over its budget would look cheap."""
SECTIONS: Mapping[str, Callable[[Bench], Section]] = {
    "cost": cost.run,
    "structured": values_and_keys.run_values,
    "secrets": values_and_keys.run_keys,
    "names": names.run,
    "business": business_pairs.run,
    "injection": injection.run,
    "benign": benign.run,
}


@click.command(context_settings={"show_default": True})
@click.option("--data", type=click.Path(path_type=Path), default=FOLDER, help="Folder with the shared data sets.")
@click.option("--only", type=click.Choice(list(SECTIONS)), multiple=True, help="Only this section; may be repeated.")
@click.option("--quick", is_flag=True, help="Few rows of each set: shows that it runs, not how good it is.")
@click.option("--model", type=click.Path(path_type=Path), default=None, help="Another model directory.")
def main(data: Path, only: tuple[str, ...], quick: bool, model: Path | None) -> None:
    """Measure the detectors on held-out text, beside Presidio and detect-secrets."""
    folder = data / "text" if (data / "text").is_dir() else data
    if not next(folder.glob("*.jsonl.gz"), None):
        say(f"{folder.resolve()} holds no data set, NAME.jsonl.gz: give the folder with --data.")
        sys.exit(2)
    # Presidio and spaCy say at length which recognisers they leave out
    logging.getLogger("presidio-analyzer").setLevel(logging.ERROR)
    bench = prepare(folder, model, quick=quick)
    bars: list[Bar] = []
    for name, run in SECTIONS.items():
        if only and name not in only:
            continue
        began = time.perf_counter()
        section = run(bench)
        say("\n\n".join([f"\n## {section.title}", *section.text]))
        say(f"\n({name}: {time.perf_counter() - began:.0f} s)")
        bars += section.bars
    say("")
    for bar in bars:
        say(str(bar))
    sys.exit(0 if all(bar.ok for bar in bars) else 1)


def prepare(folder: Path, model: Path | None, *, quick: bool) -> Bench:
    """The guards. Without a model the classifier's rows are left out, and it is said which model is missing."""
    fast = load_guard(Policy(classifier=ClassifierSwitch(enabled=False), budget=BUDGET))
    switch = ClassifierSwitch(model=model)
    full: Guard | None = None
    alone: Guard | None = None
    try:
        full = load_guard(Policy(classifier=switch, budget=BUDGET))
        alone = load_guard(Policy(classifier=switch, patterns=OFF, secrets=OFF, budget=BUDGET))
    except GuardError as error:
        say(f"No classifier: {error}. What needs it is not measured, and its bars are short.")
    return Bench(folder, fast, full, alone, quick)


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
