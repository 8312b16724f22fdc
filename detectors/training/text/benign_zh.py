"""Everyday prompts in Chinese."""

import random
from collections.abc import Iterator

from detectors.training.text import benign_rows
from detectors.training.text.row import Row


def rows(rng: random.Random, count: int) -> Iterator[Row]:
    """COUNT distinct rows; the same rows for the same state of RNG."""
    return benign_rows.rows("zh", rng, count)
