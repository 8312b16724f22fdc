"""Generated sentences with names, for the categories that no shared set marks."""

import random
from collections.abc import Iterator

from detectors.training.text import names_rows
from detectors.training.text.row import Row

COUNT = 3_000
"""Rows of each language."""


def rows(seed: int) -> Iterator[Row]:
    """Rows in Chinese and in English."""
    for language in ("zh", "en"):
        yield from names_rows.rows(language, random.Random(f"names_{language}/{seed}"), COUNT)
