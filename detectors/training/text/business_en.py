"""English training text: a company's own internal business information, and what only looks like it."""

import random
from collections.abc import Iterator

from detectors.training.text import business_corpus
from detectors.training.text.row import Row


def rows(rng: random.Random, count: int) -> Iterator[Row]:
    """`count` distinct rows, the same ones for the same state of `rng`."""
    return business_corpus.rows(business_corpus.load("en"), rng, count)
