"""`python -m detectors.training STEP --data DIR --work DIR`: from the shared sets to the weights in the repository.

`all` runs the steps in order and goes on where an earlier run ended: a step whose result lies in the work folder is
skipped. A step that is named runs again. Hidden states of texts that were seen before are never computed again.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from detectors.training import calibrate, card, evaluate, export, fit, gate, unseen, work
from detectors.training.parts import Names, Statements
from detectors.training.work import Work

MODEL = Path(__file__).parents[1] / "model"
WINDOWS = 3
"""Windows that are looked at of a long row that is to be found."""


def _names(made: Work, _: Path) -> None:
    rows = [each for each in made.names if each.part == "train"]
    torch.save(fit.names(made, made.cut(rows, 1)).state_dict(), made.folder / "names.pt")


def _statements(made: Work, _: Path) -> None:
    rows = made.cut([each for each in made.sequence if each.part == "train"], WINDOWS)
    begin = fit.Beginning(made, fit.LATE, rows)
    module = fit.begun(made, begin)
    seen = [(each, several) for each, several in rows if each.family not in unseen.SOURCES]
    fit.statements(made, module, seen, begin, **fit.FIRST_ROUND)
    held = made.cut(
        [each for each in made.sequence if each.part == "measure" and each.family in unseen.SOURCES], WINDOWS
    )
    found = unseen.measure(made, module, held)
    logging.info("attacks of unseen sources: %s", found)
    (made.folder / "unseen.json").write_text(json.dumps(found), "utf-8")
    fit.statements(made, module, rows, begin, **fit.STATEMENTS)
    torch.save(module.state_dict(), made.folder / "statements.pt")


def _export(made: Work, model: Path) -> None:
    rows = made.cut([each for each in made.sequence if each.part == "train"], WINDOWS)
    tagged = made.cut([each for each in made.names if each.part == "train" and each.family.startswith("ner")], 1)
    statements, names = Statements(made.pretrained), Names(made.pretrained)
    statements.load_state_dict(torch.load(made.folder / "statements.pt"))
    names.load_state_dict(torch.load(made.folder / "names.pt"))
    graphs = export.stages(made.pretrained, made.kept, fit.first(made, rows, tagged))
    graphs |= {"statements": export.statements(statements.eval()), "names": export.names(names.eval())}
    export.write(model, graphs, made.tokenizer)


def _calibrate(made: Work, model: Path) -> None:
    calibrate.run(made, model)


def _evaluate(made: Work, model: Path) -> None:
    figures = evaluate.run(made, model)
    (model / "figures.json").write_text(json.dumps(figures, indent=1) + "\n", "utf-8")
    card.write(model, figures)


STEPS: Mapping[str, tuple[Callable[[Work, Path], None], str]] = {
    "gate": (lambda made, _: gate.run(made.pretrained), ""),
    "prune": (lambda made, _: work.prune(made), "tokenizer.json"),
    "freeze": (lambda made, _: work.freeze(made), "trunk.onnx"),
    "names": (_names, "names.pt"),
    "statements": (_statements, "statements.pt"),
    "export": (_export, ""),
    "calibrate": (_calibrate, ""),
    "evaluate": (_evaluate, ""),
}
"""What a step does, and the file in the work folder that says that it was done; without one it always runs."""


def main() -> None:
    """Run one step, or all in order."""
    parser = argparse.ArgumentParser(prog="python -m detectors.training", description=__doc__)
    parser.add_argument("step", choices=("all", *STEPS))
    parser.add_argument("--data", type=Path, required=True, help="directory of the shared sets, with text/ inside")
    parser.add_argument("--work", type=Path, required=True, help="directory for what is kept, outside the repository")
    parser.add_argument("--model", type=Path, default=MODEL, help="directory that export, calibrate and evaluate write")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    chosen = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(chosen.threads)
    chosen.work.mkdir(parents=True, exist_ok=True)
    made = Work(chosen.data, chosen.work, chosen.seed)
    for name, (step, done) in STEPS.items():
        if chosen.step == name or (chosen.step == "all" and not (done and (chosen.work / done).is_file())):
            logging.info("step %s", name)
            step(made, chosen.model)


if __name__ == "__main__":
    main()
