"""One line of a result, and figures of lists of times."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec


class Bar(msgspec.Struct, frozen=True):
    """`value` must not be above `limit`; with `least`, not below it."""

    name: str
    value: float
    limit: float
    least: bool = False

    @property
    def ok(self) -> bool:
        return self.value >= self.limit if self.least else self.value <= self.limit

    def __str__(self) -> str:
        return f"bar {self.name} {self.value:.4g} {self.limit:.4g} {'ok' if self.ok else 'short'}"


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def quantile(values: Sequence[float], share: float) -> float:
    """The least value that is not below a `share` of all; 0 of none."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def rows(head: Sequence[str], body: Sequence[Sequence[object]]) -> str:
    """A table as text, the first column to the left."""
    cells = [list(head), *[[_shown(cell) for cell in row] for row in body]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in cells
    )


def _shown(cell: object) -> str:
    return f"{cell:.4g}" if isinstance(cell, float) else str(cell)
