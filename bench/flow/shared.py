"""Flow control's state in Redis: what one decision costs on loopback. `python -m bench.flow.shared`."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

import redis

from bench.flow.bars import Bar, quantile, rows
from extproc.scheduling.state.claims import BucketClaim, Claims, Lookup, Return, SlotClaim
from extproc.shared.options import RedisOptions
from extproc.shared.store import RedisStore

DECISIONS = 3000
COUNTED = 500
TOGETHER = 64
_TENANTS = 50


def run() -> list[Bar]:
    """The bars; without a redis-server on the PATH there are none."""
    return report()[1]


def report() -> tuple[str, list[Bar]]:
    if shutil.which("redis-server") is None:
        return "Redis: no redis-server on the PATH, nothing measured", []
    with _server() as port:
        return asyncio.run(_measure(port))


@contextmanager
def _server() -> Iterator[int]:
    """A redis-server of its own on a free port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    with tempfile.TemporaryDirectory(prefix="bench-redis-") as folder:
        command = ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--dir", folder]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            _wait_for(port)
            yield port
        finally:
            process.terminate()
            process.wait(10)


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 10
    with redis.Redis(port=port) as client:
        while True:
            try:
                client.ping()
            except redis.ConnectionError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
            else:
                return


async def _measure(port: int) -> tuple[str, list[Bar]]:
    options = RedisOptions(limit=1.0, heartbeat=1000.0)  # heartbeats are not to be counted as trips of a decision
    store = RedisStore(f"redis://127.0.0.1:{port}", clock=time.monotonic, options=options)
    await store.start()
    try:
        await asyncio.gather(*(_decide(store, n) for n in range(200)))
        before = _scripts(port)
        for number in range(COUNTED):
            await _decide(store, number, settle=False)
        after = _scripts(port)
        alone = [await _decide(store, n) for n in range(DECISIONS)]
        since = time.perf_counter()
        crowd: list[float] = []
        for start in range(0, DECISIONS, TOGETHER):
            crowd += await asyncio.gather(*(_decide(store, start + n) for n in range(TOGETHER)))
        speed = len(crowd) / (time.perf_counter() - since)
    finally:
        await store.stop()
    table = rows(
        ("a decision over six policies in Redis", "p50 ms", "p95 ms", "p99 ms", "a second"),
        [_row("one after another", alone, 1 / (sum(alone) / len(alone))), _row(f"{TOGETHER} together", crowd, speed)],
    )
    trips, server = ((late - early) / COUNTED for early, late in zip(before, after, strict=True))
    text = f"{table}\nRedis's own time for a decision: {server:.0f} us"
    return text, [
        Bar("redis-p50-ms", quantile(alone, 0.5) * 1000, 0.5),
        Bar("redis-round-trips", trips, 1),
    ]


async def _decide(store: RedisStore, number: int, *, settle: bool = True) -> float:
    """Seconds until the answer of one ask; slots are given back afterwards, outside of the time."""
    tenant, name = f"tenant-{number % _TENANTS}", f"request-{number}"
    ask = Claims(
        (
            BucketClaim("rate", tenant, 1.0, 1e9, 1e6, 1e9, 10_000),
            BucketClaim("tokens", tenant, 700.0, 1e12, 1e6, 1e12, 10_000),
            SlotClaim("each", tenant, name, 10_000, 600.0, 10_000),
        ),
        Lookup("cache", f"{number:032x}"),
        ((BucketClaim("quota", "", 700.0, 1e12, 1e6, 1e12),), (SlotClaim("slots", "", name, 10_000, 600.0),)),
    )
    since = time.perf_counter()
    answer = await store.ask(ask, time.monotonic())
    took = time.perf_counter() - since
    assert answer.lines == 2 and store.shared, answer
    if settle:
        store.settle([Return(claim) for claim in answer.taken if isinstance(claim, SlotClaim)], time.monotonic())
    return took


def _row(name: str, times: list[float], speed: float) -> tuple[object, ...]:
    return name, *(round(quantile(times, share) * 1000, 3) for share in (0.5, 0.95, 0.99)), round(speed)


def _scripts(port: int) -> tuple[int, float]:
    """Commands of any kind that ran a script, and the server's microseconds in them."""
    with redis.Redis(port=port) as client:
        stats = client.info("commandstats")
    assert isinstance(stats, dict)
    found = [stats.get(f"cmdstat_{name}", {}) for name in ("eval", "evalsha")]
    return sum(int(one.get("calls", 0)) for one in found), sum(float(one.get("usec", 0)) for one in found)


if __name__ == "__main__":
    said, bars = report()
    sys.stdout.write("\n".join([said, "", *map(str, bars)]) + "\n")
    sys.exit(0 if all(bar.ok for bar in bars) else 1)
