"""Fitting what is trained on the frozen layers: the names branch, the statements branch, and the first look."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from detectors.training import tune
from detectors.training.labelled import Labelled, is_business
from detectors.training.labels import BUSINESS, INJECTION
from detectors.training.parts import FIRST, FROZEN, SCALE, TUNED, First, Names, Statements, standardised
from detectors.training.tune import Batch, Example
from detectors.training.windows import IGNORED, Window
from detectors.training.work import Work

log = logging.getLogger(__name__)

Cut = tuple[Labelled, list[Window]]
Means = npt.NDArray[np.float32]

STRENGTH = 0.03
"""Inverse weight of the penalty of logistic regressions."""

HAND = 2.0
"""Weight of a row that was written by hand for the question at hand; others weigh 1."""

NAMES = {"rounds": 3.0, "rate": 4e-4}
FIRST_ROUND = {"rounds": 1.0, "rate": 1.5e-4}
STATEMENTS = {"rounds": 1.0, "rate": 1.2e-4}
"""The first round leaves sources out, so that figures on them are figures on unseen sources; the second goes on from
there with everything."""


def means(work: Work, layer: int, chosen: Sequence[Window]) -> Means:
    """The mean state of each window, with its marks."""
    table = work.states.table(layer)
    found = np.zeros((len(chosen), table.shape[1]), np.float32)
    for at, each in enumerate(chosen):
        start, size = work.states.place(each.ids)
        found[at] = np.asarray(table[start : start + size], np.float32).mean(0)
    return found


def weights(rows: Sequence[Labelled]) -> npt.NDArray[np.float64]:
    return np.asarray([HAND if each.family.startswith("hand/") else 1.0 for each in rows])


def names(work: Work, rows: Sequence[Cut]) -> Names:
    """The names branch."""
    module = Names(work.pretrained)
    places = [(work.states.place(several[0].ids), several[0]) for _, several in rows]
    examples = [Example(start, size, window.tags) for (start, size), window in places]

    def loss(batch: Batch) -> Tensor:
        found = module(batch.hidden, batch.mask, tune.DROPOUT)
        return functional.cross_entropy(found.flatten(0, 1), batch.wanted.flatten(), ignore_index=IGNORED)

    tune.run(module, work.states.table(FROZEN), examples, loss, seed=work.seed, **NAMES)
    return module


class Beginning:
    """Logistic regressions on the mean states of one layer: where the statements branch begins, and the first look."""

    def __init__(self, work: Work, layer: int, rows: Sequence[Cut]) -> None:
        self.layer = layer
        found = means(work, layer, [several[0] for _, several in rows])
        labelled = [each for each, _ in rows]
        heavy = weights(labelled)
        business = np.asarray([is_business(each) for each in labelled])
        attack = np.asarray([INJECTION in each.row.labels for each in labelled])
        knows = np.asarray([BUSINESS[0] in each.known for each in labelled])
        self.business = standardised(found[knows], business[knows], heavy[knows], STRENGTH)
        self.attack = standardised(found, attack, heavy, STRENGTH)
        self.kinds = [
            standardised(
                found[business],
                [kind in each.row.labels for each, yes in zip(labelled, business, strict=True) if yes],
                heavy[business],
                STRENGTH,
            )
            for kind in BUSINESS
        ]


def chosen(work: Work, beginning: Beginning, rows: Sequence[Cut]) -> list[tuple[Labelled, Window]]:
    """One window of each row. Of one that is to be found and longer than a window, the most suspicious one."""
    found = []
    for each, several in rows:
        best = 0
        if len(several) > 1:
            slopes, _ = beginning.attack if INJECTION in each.row.labels else beginning.business
            best = int((means(work, beginning.layer, several) @ slopes).argmax())
        found.append((each, several[best]))
    return found


def begun(work: Work, beginning: Beginning) -> Statements:
    """The statements branch as the logistic regressions of BEGINNING."""
    module = Statements(work.pretrained)
    with torch.no_grad():
        places = [(0, beginning.business), (2, beginning.attack), *enumerate(beginning.kinds, 3)]
        for at, (slopes, shift) in places:
            module.branch.head.weight[at] = torch.from_numpy(slopes / SCALE)
            module.branch.head.bias[at] = shift / SCALE
    return module


def statements(
    work: Work, module: Statements, rows: Sequence[Cut], beginning: Beginning, *, rounds: float, rate: float
) -> None:
    """Tunes MODULE on ROWS."""
    examples = []
    for each, window in chosen(work, beginning, rows):
        start, size = work.states.place(window.ids)
        kind = next((at for at, name in enumerate(BUSINESS) if name in each.row.labels), IGNORED)
        business = float(kind != IGNORED) if BUSINESS[0] in each.known else np.nan
        wanted = np.asarray([business, kind, float(INJECTION in each.row.labels)], np.float32)
        examples.append(Example(start, size, wanted, HAND if each.family.startswith("hand/") else 1.0))

    def loss(batch: Batch) -> Tensor:
        business, kinds, attack = module(batch.hidden, batch.mask, tune.DROPOUT)
        known = ~batch.wanted[:, 0].isnan()
        of_business = functional.binary_cross_entropy_with_logits(
            business[known], batch.wanted[known, 0], batch.weight[known], reduction="sum"
        )
        of_attack = functional.binary_cross_entropy_with_logits(
            attack, batch.wanted[:, 2], batch.weight, reduction="sum"
        )
        kind = batch.wanted[:, 1].long()
        of_kind = functional.cross_entropy(kinds, kind, ignore_index=IGNORED, reduction="sum")
        return (of_business + of_attack + 0.5 * of_kind) / batch.weight.sum()

    tune.run(module, work.states.table(FROZEN), examples, loss, rounds=rounds, rate=rate, seed=work.seed)


def first(work: Work, rows: Sequence[Cut], tagged: Sequence[Cut]) -> First:
    """The first look."""
    begun = Beginning(work, FIRST, rows)
    table = work.states.table(FIRST)
    inside, outside = [], []
    draw = np.random.default_rng(work.seed)
    for each, several in tagged:
        if not each.family.startswith("ner"):
            continue
        start, size = work.states.place(several[0].ids)
        hidden, tags = np.asarray(table[start : start + size], np.float32), several[0].tags
        inside.append(hidden[tags > 0])
        outside.append(hidden[np.flatnonzero(tags == 0)][draw.random(int((tags == 0).sum())) < 0.3])
    yes, no = np.concatenate(inside), np.concatenate(outside)
    states = np.concatenate([yes, no])
    wanted = np.arange(len(states)) < len(yes)
    token = standardised(states, wanted, np.ones(len(states)), STRENGTH)
    mean = np.stack([begun.business[0], begun.attack[0]], axis=1), np.asarray([begun.business[1], begun.attack[1]])
    return First(mean, token)


LATE = FROZEN + TUNED
"""The layer that the statements branch ends in before it is tuned."""
