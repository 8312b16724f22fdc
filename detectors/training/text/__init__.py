"""Generators of training text; each module exposes `rows(rng, count) -> Iterator[Row]`."""
