"""How the statements branch does on sources that it never read, and at one share of false alarms."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from detectors.training import tune
from detectors.training.labelled import ATTACKS, Labelled
from detectors.training.labels import INJECTION
from detectors.training.parts import FROZEN, Statements
from detectors.training.windows import Window
from detectors.training.work import Work

HARMLESS = ("benign_zh_cvalues_prompts", "prompt_response_en_arena_hard", "dialogue_en_sgd_train")
SOURCES = (*ATTACKS, *HARMLESS)
"""What the first round leaves out."""

RATE = 0.01
BATCH = 32

Floats = npt.NDArray[np.float64]


def attacks(work: Work, module: Statements, rows: Sequence[tuple[Labelled, list[Window]]]) -> Floats:
    """The logit of an attack of each row, its highest window."""
    table = work.states.table(FROZEN)
    places = [(at, *work.states.place(window.ids)) for at, (_, several) in enumerate(rows) for window in several]
    places.sort(key=lambda place: place[2])
    found = np.full(len(rows), -np.inf)
    module.eval()
    with torch.inference_mode():
        for start in range(0, len(places), BATCH):
            group = places[start : start + BATCH]
            nothing = np.zeros(1, np.float32)
            batch = tune.batch(table, [tune.Example(begin, size, nothing) for _, begin, size in group])
            _, _, logits = module(batch.hidden, batch.mask)
            for (at, _, _), value in zip(group, logits.tolist(), strict=True):
                found[at] = max(found[at], value)
    return found


def recall_at(found: Floats, harmless: Floats, rate: float = RATE) -> float:
    """Share of FOUND above all but RATE of HARMLESS."""
    ordered = np.sort(harmless)[::-1]
    return float((found > ordered[int(rate * len(ordered))]).mean()) if len(found) and len(ordered) else float("nan")


def measure(work: Work, module: Statements, rows: Sequence[tuple[Labelled, list[Window]]]) -> dict[str, float]:
    """Source to the share of its attacks that is found, at 1 % of the harmless rows of SOURCES; and their mean."""
    chosen = [(each, several) for each, several in rows if each.family in SOURCES]
    values = attacks(work, module, chosen)
    hostile = np.asarray([INJECTION in each.row.labels for each, _ in chosen])
    families = np.asarray([each.family for each, _ in chosen])
    found = {
        family: round(recall_at(values[hostile & (families == family)], values[~hostile]), 4)
        for family in ATTACKS
        if (hostile & (families == family)).any()
    }
    return found | {"mean": round(float(np.mean(list(found.values()))), 4)}
