"""What an examination costs, in CPU time of the whole process, and for how long a big one holds up an event loop.

CPU time does not grow when another process takes the core; where the machine is idle it is what a clock on the wall
shows. The stall of the loop is time on the wall, the greatest distance between two turns of a loop that does nothing
else.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial
from random import Random

import msgspec

from bench.detectors.benign import prompts
from bench.detectors.table import MISSING, Bar, Bench, Section, quantile, rows
from detectors import Guard

STALL = 15.0
"""Milliseconds: what a 2k prompt may cost anyway."""
_TURNS = 20
"""Messages of a chat whose every message is known."""

_FRESH = 100


class Texts(msgspec.Struct, frozen=True):
    short: list[str]
    """60 to 128 tokens."""
    by_size: dict[int, list[str]]
    """Cut from prompts of both languages."""


def tokens(text: str) -> float:
    """An estimate from above for a vocabulary of some ten thousand pieces: a Chinese character is one, another word 1.5
    or, if it is long, one for every four characters."""
    wide = sum(ord(each) > 0x2E80 for each in text)
    return wide + sum(max(1.5, len(word) / 4) for word in text.split() if word[0] < "\u2e80")


def texts_of(bench: Bench) -> Texts:
    every = [text for texts in prompts(bench.folder, bench.most * 7).values() for text in texts]
    Random(7).shuffle(every)
    short = [text for text in every if 60 <= tokens(text) <= 128]
    mixed = "\n".join(every)
    cut = {
        size: [mixed[at : at + size] for at in range(0, len(mixed) - size, max(size, len(mixed) // number))][:number]
        for size, number in ((2_000, 120), (8_000, 60), (32_000, 12))
    }
    return Texts(short, cut)


def times(work: Callable[[str], object], texts: Sequence[str]) -> list[float]:
    """CPU milliseconds of every second text. The others come first: engines learn their tables from what they read."""
    for text in texts[1::2]:
        work(text)
    return timed(work, texts[::2])


def timed(work: Callable[[str], object], texts: Sequence[str]) -> list[float]:
    """CPU milliseconds of each text."""
    taken = []
    for text in texts:
        began = time.process_time_ns()
        work(text)
        taken.append((time.process_time_ns() - began) / 1e6)
    return taken


def cached_turn(guard: Guard) -> float:
    """Median CPU microseconds to look up a chat of which every message is known, and to judge it."""
    chat = [f"{number}: 请帮我把这段话改得更礼貌一些, and keep it short. " * 4 for number in range(_TURNS)]
    for text in chat:
        guard.check(text)
    taken = []
    for _ in range(500):
        began = time.process_time_ns()
        found = [(text, check) for text in chat if (check := guard.look_up(text)) is not None]
        guard.judge(found)
        taken.append((time.process_time_ns() - began) / 1e3)
        assert len(found) == _TURNS
    return quantile(taken, 0.5)


async def stall(work: Callable[[], object]) -> float:
    """Greatest time in milliseconds between two turns of the loop while `work` runs in a thread."""
    loop = asyncio.get_running_loop()
    job = loop.run_in_executor(None, work)
    longest, last = 0.0, time.perf_counter()
    while not job.done():
        # yields to the selector, which lets the other thread run, as a loop with connections does
        await asyncio.wait([job], timeout=0.0005)
        now = time.perf_counter()
        longest, last = max(longest, now - last), now
    job.result()
    return longest * 1e3


def stalls(guard: Guard, texts: Sequence[str]) -> list[float]:
    """One figure for each text, after a round that is not counted."""

    async def measure() -> list[float]:
        await stall(partial(guard.examine, texts[0]))
        return [await stall(partial(guard.examine, text)) for text in texts]

    return asyncio.run(measure())


def run(bench: Bench) -> Section:
    data = texts_of(bench)
    full = bench.full
    guards = {"patterns and secrets": bench.fast, **({"all detectors": full} if full else {})}
    body: list[list[object]] = []
    figures: dict[tuple[str, int], list[float]] = {}
    fresh = timed(bench.fast.examine, data.short[:_FRESH])
    for name, guard in guards.items():
        for size, texts in ((128, data.short), *data.by_size.items()):
            taken = figures[name, size] = times(guard.examine, texts)
            label = "up to 128 tokens" if size == 128 else f"{size:,} characters"
            body.append(
                [f"{name}, {label}", len(taken), *(f"{quantile(taken, share):.3f}" for share in (0.5, 0.95, 1.0))]
            )
    lags = {name: stalls(guard, data.by_size[32_000][:7]) for name, guard in guards.items()}
    idle = asyncio.run(_idle())
    said = "; ".join(f"{name} {quantile(lag, 0.5):.1f} (longest {max(lag):.1f})" for name, lag in lags.items())
    turn = cached_turn(full or bench.fast)
    missing = "" if full else " The bars of all detectors need the classifier."
    return Section(
        "Cost, CPU milliseconds on one core",
        (
            rows(["what", "texts", "p50", "p95", "max"], body),
            f"Stall of an event loop while 32,000 characters are examined in a thread, ms: {said}; with nothing to do "
            f"{idle:.1f}.",
            f"Patterns and secrets on the first {_FRESH} texts of a new process, while their automata are built: p50 "
            f"{quantile(fresh, 0.5):.3f}, p95 {quantile(fresh, 0.95):.3f}.",
            f"A chat of {_TURNS} known messages: {turn:.1f} us for all of them, with the verdict.{missing}",
        ),
        _bars(figures, lags, turn),
    )


async def _idle() -> float:
    return await stall(lambda: time.sleep(0.2))


def _bars(figures: dict[tuple[str, int], list[float]], lags: dict[str, list[float]], turn: float) -> tuple[Bar, ...]:
    def value(size: int, share: float, name: str = "all detectors") -> float:
        taken = figures.get((name, size))
        return quantile(taken, share) if taken else MISSING

    lag = lags.get("all detectors")
    return (
        Bar("p50-128-tokens-ms", value(128, 0.5), 2.0),
        Bar("p95-128-tokens-ms", value(128, 0.95), 3.0),
        Bar("patterns-secrets-p50-ms", value(128, 0.5, "patterns and secrets"), 0.3),
        Bar("2k-p95-ms", value(2_000, 0.95), 15.0),
        Bar("8k-p95-ms", value(8_000, 0.95), 50.0),
        Bar("32k-ms", value(32_000, 0.5), 200.0),
        Bar("32k-loop-stall-ms", quantile(lag, 0.5) if lag else MISSING, STALL),
        Bar("cached-turn-us", turn, 50.0),
    )
