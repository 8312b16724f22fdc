"""Sentences with names and without in Chinese."""

import random
from collections.abc import Iterator

from detectors.training.text import names_rows
from detectors.training.text.row import Row


def rows(rng: random.Random, count: int) -> Iterator[Row]:
    """COUNT distinct rows; the same rows for the same state of RNG."""
    return names_rows.rows("zh", rng, count)
