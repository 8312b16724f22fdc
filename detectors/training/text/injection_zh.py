"""Attacks on an assistant and their harmless look-alikes in Chinese."""

import random
from collections.abc import Iterator

from detectors.training.text import injection_rows
from detectors.training.text.row import Row


def rows(rng: random.Random, count: int) -> Iterator[Row]:
    """COUNT distinct rows; the same rows for the same state of RNG."""
    return injection_rows.rows("zh", rng, count)
