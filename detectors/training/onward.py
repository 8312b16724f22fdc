"""From which logit of the first look a window goes on: set so that hardly anything is lost that is to be found."""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence

import numpy as np

from detectors.classifier.cascade import PARTS
from detectors.classifier.model import EncoderClassifier
from detectors.text import Text
from detectors.training.labelled import Labelled, is_business
from detectors.training.labels import INJECTION
from detectors.training.work import Work

log = logging.getLogger(__name__)

KEPT = {"BUSINESS": 0.93, "INJECTION": 0.96, "NAMES": 0.94}
"""Share of the windows with something to find that go on."""

ROWS = 600


def _some(rows: Sequence[Labelled], seed: int) -> list[Labelled]:
    found = [each for each in rows if each.part == "calibrate"]
    random.Random(seed).shuffle(found)
    return found[:ROWS]


def limits(work: Work, model: EncoderClassifier) -> dict[str, float]:
    """The limit of each of PARTS, from rows that training left alone."""
    rows = _some(work.sequence, work.seed)
    tagged = _some([each for each in work.names if each.family.startswith("ner")], work.seed)
    of_rows, of_tagged = (np.stack([model.first_look(Text(each.row.text)) for each in some]) for some in (rows, tagged))
    wanted = {
        "BUSINESS": of_rows[[is_business(each) for each in rows], 0],
        "INJECTION": of_rows[[INJECTION in each.row.labels for each in rows], 1],
        "NAMES": of_tagged[[bool(each.row.spans) for each in tagged], 2],
    }
    found = {part: round(float(np.quantile(values, 1 - KEPT[part])), 4) for part, values in wanted.items()}
    quiet = of_rows[[not each.row.labels and not each.family.startswith("hand/pairs") for each in rows]]
    going = quiet >= np.asarray([found[part] for part in PARTS])
    log.info("of %d harmless rows go on: %s, any %.3f", len(quiet), going.mean(0).round(3), going.any(1).mean())
    return found
