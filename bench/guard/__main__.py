"""`python -m bench.guard`: what became of harmless traffic, then `bar NAME VALUE LIMIT ok|short`. Exits 1 if short."""

from __future__ import annotations

import asyncio
import sys
import time

from bench.flow.bars import rows
from bench.guard.harmless import run
from bench.guard.sessions import TURNS, sessions


def main() -> None:
    """Run, and say it."""
    began = time.perf_counter()
    outcome = asyncio.run(run(sessions()))
    seconds = time.perf_counter() - began
    lines = [
        f"{outcome.sessions} harmless sessions of {TURNS} turns through the default policy: "
        f"{outcome.requests} requests, {seconds:.0f} s",
        "",
        rows(["findings", "count"], [[name, count] for name, count in sorted(outcome.seen.items())]),
        *(f"refused: {session} ({reason})" for session, reason in outcome.refused.items()),
        "",
        *map(str, bars := outcome.bars()),
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    sys.exit(0 if all(bar.ok for bar in bars) else 1)


if __name__ == "__main__":
    main()
