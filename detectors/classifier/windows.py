"""Long texts in windows: where they lie, and which of a text's windows are read."""

from __future__ import annotations

MOST = 2048
"""Windows of one text that are read where the caller names no number: some 100,000 words."""


def starts(length: int, width: int, overlap: int) -> list[int]:
    """Where windows of WIDTH over LENGTH tokens begin; neighbours share OVERLAP tokens, the last two maybe more."""
    if length <= width:
        return [0]
    step = width - overlap
    return [*range(0, length - width, step), length - width]


def chosen(count: int, most: int) -> list[int]:
    """Which of COUNT windows are read when only MOST may be: the first, the last, and evenly spaced ones between."""
    if count <= most:
        return list(range(count))
    if most <= 1:
        return [0]
    return sorted({round(at * (count - 1) / (most - 1)) for at in range(most)})


def owners(begins: list[int], width: int, length: int) -> list[tuple[int, int]]:
    """Which tokens each window speaks for: neighbours divide what they share in the middle; read windows only."""
    found: list[tuple[int, int]] = []
    for at, begin in enumerate(begins):
        end = min(begin + width, length)
        first, last = begin, end
        if at and begins[at - 1] + width > begin:
            first = (begins[at - 1] + width + begin) // 2
        if at + 1 < len(begins) and begins[at + 1] < end:
            last = (end + begins[at + 1]) // 2
        found.append((first, last))
    return found
