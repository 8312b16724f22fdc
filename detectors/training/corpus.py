"""The unlabelled text that the encoder reads first."""

import importlib
import random
from collections.abc import Iterator
from pathlib import Path

from detectors.training import shared
from detectors.training.split import held_out
from detectors.training.text.row import Row

GENERATORS = (
    "business_zh",
    "business_en",
    "injection_zh",
    "injection_en",
    "benign_zh",
    "benign_en",
    "names_zh",
    "names_en",
)
"""Modules of `detectors.training.text` that write rows."""


def generated(seed: int, count: int, names: tuple[str, ...] = GENERATORS) -> Iterator[Row]:
    """COUNT rows of each generator."""
    for name in names:
        module = importlib.import_module(f"detectors.training.text.{name}")
        yield from module.rows(random.Random(f"{name}/{seed}"), count)


def unlabelled(data: Path, seed: int) -> Iterator[Row]:
    """The training part of every set without attacks: what is held out for measuring stays out here, too."""
    for name, read in shared.UNLABELLED.items():
        for row in read(data):
            if not held_out(name, row.group):
                yield row
    for row in shared.tagged(data, "train"):
        yield shared.detokenised(row)
