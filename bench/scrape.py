"""`python -m bench.scrape`: what it costs to read the load of 100 engines every 200 ms, in CPU cores of the gateway.

The engines are a process of its own that answers each request with a page of an engine's length, so that only the
gateway's side is measured: connections, HTTP, extraction, and taking the load over into the pool.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import re
import sys
import time
from collections.abc import AsyncIterator, Iterator
from itertools import cycle
from multiprocessing.connection import Connection
from random import Random
from typing import cast

import click
import uvloop

from extproc.pool.endpoint import State
from extproc.pool.engines.scrape import Scraper, ScrapeSettings
from extproc.pool.policies import make_policy
from extproc.pool.pool import Pool

LIMIT = 0.1
_ENDPOINTS = 100
_INTERVAL = 0.2
_WARM_UP = 1.0
_WINDOWS = 5


_FIGURES = {
    "vllm": """# HELP vllm:num_requests_running Number of requests in model execution batches.
vllm:num_requests_running{engine="0",model_name="qwen3-8b"} 3.0
vllm:num_requests_waiting{engine="0",model_name="qwen3-8b"} 2.0
vllm:kv_cache_usage_perc{engine="0",model_name="qwen3-8b"} 0.25
vllm:prompt_tokens_total{engine="0",model_name="qwen3-8b"} 8.128902e+06
vllm:generation_tokens_total{engine="0",model_name="qwen3-8b"} 7.557572e+06
""",
    "sglang": """# HELP sglang:token_usage The token usage.
sglang:token_usage{engine_type="unified",tp_rank="0"} 0.28
sglang:num_running_reqs{engine_type="unified",tp_rank="0"} 4.0
sglang:num_queue_reqs{engine_type="unified",tp_rank="0"} 1.0
sglang:gen_throughput{engine_type="unified",tp_rank="0"} 86.5
sglang:prompt_tokens_total{engine_type="unified",tp_rank="0"} 8.128902e+06
sglang:generation_tokens_total{engine_type="unified",tp_rank="0"} 7.557572e+06
""",
}
_INFO = {
    "vllm": """vllm:cache_config_info{block_size="16",engine="0",num_gpu_blocks="31250"} 1.0
vllm:lora_requests_info{max_lora="4",running_lora_adapters="a,b",waiting_lora_adapters=""} 1.7e+09
""",
    "sglang": """sglang:cache_config_info{num_pages="20480",page_size="64"} 1.0
""",
}


def page(dialect: str, size: int, step: int = 0) -> bytes:
    """What an engine prints: its gauges, then histograms of `size` bytes in all, then how it is set up. The gauges and
    counters are different ones at each step.
    """
    row = '%s:request_time_per_output_token_seconds_bucket{engine="0",le="%s",model_name="qwen3-8b"} %d.0\n'
    rows = [row % (dialect, 0.01 * n, n * 3) for n in range(size // len(row % (dialect, 0.01, 3)))]
    figures = re.sub(r"\} (\d)", rf"}} {step + 1}\1" if step else r"} \1", _FIGURES[dialect])
    figures = re.sub(r"(usage\S*) \d+\.", r"\1 0.", figures)
    return "".join((figures, *rows, _INFO[dialect])).encode()


class _Engine(asyncio.Protocol):
    def __init__(self, answers: Iterator[bytes]) -> None:
        self._answers = answers

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        for _ in range(data.count(b"\r\n\r\n")):
            self._transport.write(next(self._answers))


def _answer(body: bytes) -> bytes:
    head = f"HTTP/1.1 200 OK\r\ncontent-type: text/plain; version=0.0.4\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _serve(bodies: list[bytes], count: int, ports: Connection) -> None:
    answers = [_answer(body) for body in bodies]

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        servers = [await loop.create_server(lambda: _Engine(cycle(answers)), "127.0.0.1", 0) for _ in range(count)]
        ports.send([server.sockets[0].getsockname()[1] for server in servers])
        await loop.create_future()

    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(serve())


@contextlib.asynccontextmanager
async def _engines(bodies: list[bytes], count: int) -> AsyncIterator[list[str]]:
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(bodies, count, theirs), daemon=True)
    process.start()
    try:
        ports: list[int] = await asyncio.to_thread(ours.recv)
        yield [f"127.0.0.1:{port}" for port in ports]
    finally:
        process.kill()
        await asyncio.to_thread(process.join)


class _CountingPool(Pool):
    reads = 0

    def scrape_begins(self, address: str, now: float) -> None:
        self.reads += 1
        super().scrape_begins(address, now)


async def measure(bodies: list[bytes], seconds: float) -> tuple[float, float]:
    """Cores used, and scrapes per second, in the best of `_WINDOWS`: other work on the machine only adds to them."""
    async with _engines(bodies, _ENDPOINTS) as addresses:
        pool = _CountingPool("p", make_policy("least-request"), retry_count=2, stale_after=2.0, random=Random(1))
        pool.set_members({address: {} for address in addresses}, time.monotonic())
        scraper = Scraper(
            pool,
            ScrapeSettings(interval=_INTERVAL),
            clock=time.monotonic,
            random=Random(2),
            on_change=lambda _: None,
        )
        scraper.watch(addresses)
        await asyncio.sleep(_WARM_UP)
        windows = []
        for _ in range(_WINDOWS):
            reads, cpu, wall = pool.reads, time.process_time(), time.monotonic()
            await asyncio.sleep(seconds)
            wall = time.monotonic() - wall
            windows.append(((time.process_time() - cpu) / wall, (pool.reads - reads) / wall))
        endpoints = pool.view(time.monotonic()).endpoints
        await scraper.stop()
        assert all(endpoint.state is State.HEALTHY and endpoint.running is not None for endpoint in endpoints)
    return min(windows)


@click.command()
@click.option("--seconds", default=1.0, show_default=True, help="Length of each of five measurements.")
def main(seconds: float) -> None:
    """Measure scraping; exit status 1 if the bar is missed."""
    sys.stdout.write(f"{_ENDPOINTS} endpoints, one scrape every {_INTERVAL:g} s each\n\n")
    sys.stdout.write("| engine | page KB | scrapes/s | us/scrape | cores |\n|---|---|---|---|---|\n")
    worst = 0.0
    for dialect, size in (("vllm", 30_000), ("vllm", 100_000), ("sglang", 100_000)):
        bodies = [page(dialect, size, step) for step in range(3)]
        cores, rate = uvloop.run(measure(bodies, seconds))
        worst = max(worst, cores)
        cells = (dialect, f"{len(bodies[0]) / 1000:.0f}", f"{rate:.0f}", f"{cores / rate * 1e6:.0f}", f"{cores:.3f}")
        sys.stdout.write(f"| {' | '.join(cells)} |\n")
        sys.stdout.flush()
    verdict = "ok" if worst <= LIMIT else "short"
    sys.stdout.write(f"\nbar scrape-100-cores {worst:.3f} {LIMIT:g} {verdict}\n")
    sys.exit(verdict != "ok")


if __name__ == "__main__":
    main()
