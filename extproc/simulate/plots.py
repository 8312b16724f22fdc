"""Plots as SVG text, to stand in a page without anything loaded from elsewhere."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 640, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 12, 12, 40
COLOURS = ("#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#ff8ab7", "#a463f2", "#97bbf5", "#9c6b4e", "#9498a0")
"""One for each policy, in order, then again from the first. Told apart also by people who do not see all colours."""

Point = tuple[float, float]
Scale = Callable[[float], float]


def colour(index: int) -> str:
    return COLOURS[index % len(COLOURS)]


def lines(series: Mapping[str, Sequence[Point]], *, x: str, y: str, log_x: bool = False) -> str:
    """One line for each name. With `log_x`, x below 1 ms is drawn at 1 ms."""
    points = [point for line in series.values() for point in line]
    if not points:
        return _frame([], x, y)
    xs = [max(point[0], 0.001) if log_x else point[0] for point in points]
    across, ticks_x = _log_scale(min(xs), max(xs)) if log_x else _scale(min(xs), max(xs), _LEFT, WIDTH - _RIGHT)
    up, ticks_y = _scale(0.0, max(point[1] for point in points), HEIGHT - _BOTTOM, _TOP)
    parts = _axes(ticks_x, ticks_y, across, up)
    for index, (name, line) in enumerate(series.items()):
        path = " ".join(f"{across(max(px, 0.001) if log_x else px):.1f},{up(py):.1f}" for px, py in line)
        parts.append(
            f'<polyline fill="none" stroke="{colour(index)}" stroke-width="1.6" points="{path}">'
            f"<title>{escape(name)}</title></polyline>"
        )
    return _frame(parts, x, y)


def bars(groups: Mapping[str, Sequence[tuple[str, float]]], *, y: str) -> str:
    """A group of bars for each name; the bars of a group in order, each with what it shows."""
    values = [value for group in groups.values() for _, value in group]
    up, ticks = _scale(0.0, max(values, default=1.0), HEIGHT - _BOTTOM, _TOP)
    parts = _axes([], ticks, lambda _: 0.0, up)
    room = (WIDTH - _LEFT - _RIGHT) / max(len(groups), 1)
    for index, (name, group) in enumerate(groups.items()):
        width = room * 0.8 / max(len(group), 1)
        for place, (label, value) in enumerate(group):
            left, top = _LEFT + room * (index + 0.1) + width * place, up(value)
            parts.append(
                f'<rect x="{left:.1f}" y="{top:.1f}" width="{width * 0.9:.1f}" height="{HEIGHT - _BOTTOM - top:.1f}" '
                f'fill="{colour(index)}" fill-opacity="{1 - 0.25 * (place % 4):.2f}">'
                f"<title>{escape(name)}, {escape(label)}: {value:.3g}</title></rect>"
            )
    return _frame(parts, "", y)


def _scale(low: float, high: float, begin: float, end: float) -> tuple[Scale, list[float]]:
    """From values to pixels, and some five round values between."""
    span = high - low if high > low else 1.0
    step = 10.0 ** math.floor(math.log10(span / 4))
    step *= next(factor for factor in (1, 2, 5, 10) if span / (step * factor) <= 5)
    first = math.ceil(low / step)
    ticks = [step * number for number in range(first, int((low + span) / step + 1e-9) + 1)]
    return (lambda value: begin + (value - low) / span * (end - begin)), ticks


def _log_scale(low: float, high: float) -> tuple[Scale, list[float]]:
    bottom, top = math.log10(low), math.log10(max(high, low * 10))
    ticks = [10.0**power for power in range(math.ceil(bottom), math.floor(top) + 1)]
    width = WIDTH - _LEFT - _RIGHT
    return (lambda value: _LEFT + (math.log10(value) - bottom) / (top - bottom) * width), ticks


def _axes(ticks_x: Sequence[float], ticks_y: Sequence[float], across: Scale, up: Scale) -> list[str]:
    floor = HEIGHT - _BOTTOM
    parts = [
        f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{up(tick):.1f}" y2="{up(tick):.1f}"/>'
        f'<text x="{_LEFT - 6}" y="{up(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>'
        for tick in ticks_y
    ]
    parts += [
        f'<line class="grid" x1="{across(tick):.1f}" x2="{across(tick):.1f}" y1="{_TOP}" y2="{floor}"/>'
        f'<text x="{across(tick):.1f}" y="{floor + 16}" text-anchor="middle">{tick:g}</text>'
        for tick in ticks_x
    ]
    return parts


def _frame(parts: Sequence[str], x: str, y: str) -> str:
    middle = (HEIGHT - _BOTTOM + _TOP) / 2
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(y)} {escape(x)}">{"".join(parts)}'
        f'<text x="{WIDTH / 2}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x)}</text>'
        f'<text transform="translate(14 {middle}) rotate(-90)" text-anchor="middle">{escape(y)}</text></svg>'
    )
