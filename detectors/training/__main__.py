"""`python -m detectors.training STEP --data DIR --work DIR`: from the shared sets to the weights in the repository."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import torch

from detectors.training import finetune, pretrain, tokenizer

MODEL = Path(__file__).parents[1] / "model"
STEPS = ("tokenizer", "pretrain", "finetune", "export", "calibrate", "evaluate")


def _step(name: str, chosen: argparse.Namespace) -> None:
    if name == "tokenizer":
        tokenizer.train(chosen.data, chosen.seed).save(str(chosen.work / "tokenizer.json"))
    elif name == "pretrain":
        pretrain.run(chosen.data, chosen.work, chosen.seed, chosen.tokens, chosen.until)
    elif name == "finetune":
        finetune.run(chosen.data, chosen.work, chosen.seed, chosen.first, chosen.second, chosen.third)
    elif name == "export":
        from detectors.training import export

        export.run(chosen.work, chosen.model, chosen.weights)
    elif name == "calibrate":
        from detectors.training import calibrate

        calibrate.run(chosen.data, chosen.model, chosen.seed)
    else:
        from detectors.training import evaluate

        first = chosen.work / "first-model"
        if not first.is_dir() and (chosen.work / "first.pt").is_file():
            _first(chosen, first)
        evaluate.run(chosen.data, chosen.model, first if first.is_dir() else None, chosen.seed)


def _first(chosen: argparse.Namespace, directory: Path) -> None:
    """The first stage as a model of its own, to be measured on the sources that it never read."""
    from detectors.training import calibrate, export

    export.run(chosen.work, directory, "first")
    calibrate.write(directory / "calibration.json", calibrate.blank())


def main() -> None:
    """Run one step, or all in order."""
    parser = argparse.ArgumentParser(prog="python -m detectors.training", description=__doc__)
    parser.add_argument("step", choices=("all", *STEPS))
    parser.add_argument("--data", type=Path, required=True, help="directory of the shared sets, with text/ inside")
    parser.add_argument("--work", type=Path, required=True, help="directory for checkpoints, outside the repository")
    parser.add_argument("--model", type=Path, default=MODEL, help="directory that export and calibrate write")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=pretrain.TOKENS, help="tokens of pre-training")
    parser.add_argument("--until", type=int, default=pretrain.UNTIL, help="step at which pre-training ends")
    parser.add_argument(
        "--first",
        type=int,
        default=finetune.FIRST_STEPS,
        help="steps without the unseen sources; 0 goes on from first.pt",
    )
    parser.add_argument("--second", type=int, default=finetune.SECOND_STEPS, help="steps with all sources")
    parser.add_argument("--third", type=int, default=finetune.THIRD_STEPS, help="steps with all sources, once more")
    parser.add_argument("--weights", default="final", help="checkpoint that export reads: first or final")
    chosen = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(chosen.threads)
    pretrain.keep_memory()
    chosen.work.mkdir(parents=True, exist_ok=True)
    for name in STEPS if chosen.step == "all" else (chosen.step,):
        _step(name, chosen)


if __name__ == "__main__":
    main()
