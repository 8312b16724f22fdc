"""The scraper against real servers. Nothing here waits for a time, only for what the server or the pool has seen."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from random import Random

import pytest
from aiohttp import web

from extproc.pool.endpoint import EndpointView, State
from extproc.pool.engines import scrape
from extproc.pool.engines.scrape import Scraper, ScrapeSettings
from extproc.pool.policies import make_policy
from extproc.pool.policy import PickRequest
from extproc.pool.pool import Pool
from tests.pool.engine import Answer, Changes, Engine, endless, hang, page, reset, running_engine
from tests.pool.pages import big_vllm_page, sglang_page, vllm_page

FAST = ScrapeSettings(interval=0.005, timeout=5.0)
HASTY = ScrapeSettings(interval=0.005, timeout=0.05)


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    async with running_engine() as one:
        yield one


class Bench:
    """A pool with its scraper, and what they told."""

    def __init__(self, *addresses: str, settings: ScrapeSettings = FAST) -> None:
        self.pool = Pool("p", make_policy("least-request"), retry_count=2, stale_after=2.0, random=Random(1))
        self.pool.set_members({address: {} for address in addresses}, time.monotonic())
        self.changes = Changes()
        self.scraper = Scraper(self.pool, settings, clock=time.monotonic, random=Random(2), on_change=self.changes)
        self.addresses = addresses

    async def __aenter__(self) -> Bench:
        self.scraper.watch(self.addresses)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.scraper.stop()

    def shown(self, address: str) -> EndpointView:
        return next(view for view in self.pool.view(time.monotonic()).endpoints if view.address == address)


async def test_load_arrives_and_follows_the_engine(engine: Engine) -> None:
    engine.answer = page(big_vllm_page())
    async with Bench(engine.address) as bench:
        await bench.changes.until(engine.address, State.HEALTHY)
        view = bench.shown(engine.address)
        assert (view.engine, view.running, view.waiting, view.kv_usage) == ("vllm", 3, 2, 0.25)
        assert view.metrics_age is not None
        assert view.metrics_age >= 0
        engine.answer = page(sglang_page(waiting=9))
        await engine.asked(3)
        assert (bench.shown(engine.address).engine, bench.shown(engine.address).waiting) == ("sglang", 9)
    assert len(engine.connections) == 1, "scrapes share a connection"
    assert set(engine.paths) == {"/metrics"}


async def test_path_and_query_are_sent_as_configured(engine: Engine) -> None:
    settings = ScrapeSettings(path="/v1/metrics?name=a%2Fb", interval=0.005)
    async with Bench(engine.address, settings=settings):
        await engine.asked(1)
    assert engine.paths[0] == "/v1/metrics?name=a%2Fb"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (page(status=503), "HTTP 503"),
        (page(status=500), "HTTP 500"),
        (reset, "connection"),
        (hang, "no answer within 0.05 s"),
    ],
)
async def test_trouble_takes_the_endpoint_out_and_it_returns_by_itself(
    answer: Answer, reason: str, engine: Engine
) -> None:
    async with Bench(engine.address) as bench:
        await bench.changes.until(engine.address, State.HEALTHY)
        engine.answer = answer
        bench.scraper.settings = HASTY if answer is hang else FAST
        change = await bench.changes.until(engine.address, State.UNREACHABLE)
        assert reason in change.reason
        engine.answer = page()
        bench.scraper.settings = FAST
        await bench.changes.until(engine.address, State.HEALTHY)
        assert bench.pool.pick(PickRequest(), time.monotonic()).candidates == (engine.address,)


async def test_fewer_misses_in_a_row_than_the_limit_leave_it_in(engine: Engine) -> None:
    """Two errors, an answer, two errors, and so on: never one too many."""

    async def flaky(request: web.Request) -> web.StreamResponse:
        return await page(status=200 if len(engine.paths) % scrape.MISSES == 0 else 503)(request)

    engine.answer = flaky
    async with Bench(engine.address) as bench:
        await engine.asked(4 * scrape.MISSES)
        assert bench.shown(engine.address).state is State.HEALTHY
        assert State.UNREACHABLE not in [change.state for change in bench.changes.all]


async def test_a_refused_connection_takes_it_out_and_a_restart_brings_it_back(engine: Engine) -> None:
    async with Bench(engine.address) as bench:
        await bench.changes.until(engine.address, State.HEALTHY)
        await engine.down()
        change = await bench.changes.until(engine.address, State.UNREACHABLE)
        assert change.reason
        await engine.up()
        await bench.changes.until(engine.address, State.HEALTHY)


async def test_one_that_never_was_there_is_unreachable_with_its_reason() -> None:
    async with running_engine() as engine:
        address = engine.address
    async with Bench(address) as bench:
        change = await bench.changes.until(address, State.UNREACHABLE)
        assert change.reason == "connection refused"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (page(status=404), "HTTP 404"),
        (page(status=302), "HTTP 302"),
        (page(b"\x00\xff garbage"), "no figures of a known engine"),
        (page(b"python_info 1\n"), "no figures of a known engine"),
        (endless, "longer than"),
    ],
)
async def test_an_answer_without_figures_is_reachable_with_unknown_load(
    answer: Answer, reason: str, engine: Engine
) -> None:
    engine.answer = answer
    async with Bench(engine.address) as bench:
        change = await bench.changes.until(engine.address, State.HEALTHY)
        assert reason in change.reason
        view = bench.shown(engine.address)
        assert (view.engine, view.running) == (None, None)
        await engine.asked(3)
        assert len(bench.changes.all) == 1, "told once and not per scrape"


async def test_a_slow_endpoint_delays_no_other() -> None:
    async with running_engine() as slow, running_engine() as quick:
        slow.answer = hang
        async with Bench(slow.address, quick.address) as bench:
            await slow.asked_in_all(1)
            await bench.changes.until(quick.address, State.HEALTHY)
            await quick.asked(20)
            assert len(slow.paths) == 1
            assert bench.shown(slow.address).state is State.UNKNOWN


async def test_unwatched_endpoints_are_asked_no_more() -> None:
    async with running_engine() as gone, running_engine() as kept:
        async with Bench(gone.address, kept.address) as bench:
            await bench.changes.until(gone.address, State.HEALTHY)
            bench.scraper.watch([kept.address])
            await kept.asked(1)
            asked = len(gone.paths)
            await kept.asked(20)
            assert len(gone.paths) <= asked + 1
        asked = len(kept.paths)
        await asyncio.sleep(0)
        assert len(kept.paths) == asked


async def test_our_own_requests_are_not_counted_twice(engine: Engine) -> None:
    engine.answer = page(vllm_page(running=3, waiting=2))
    async with Bench(engine.address) as bench:
        leases = [bench.pool.pick(PickRequest(), time.monotonic()).lease for _ in range(4)]
        await engine.asked(2)
        endpoint = bench.pool.find(engine.address)
        assert endpoint is not None
        assert (endpoint.in_flight, endpoint.foreign) == (4, 1)
        for lease in leases:
            lease.release(time.monotonic())
        await engine.asked(3)
        assert endpoint.foreign == 5


async def test_a_crash_in_the_listener_is_logged(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    crashed = asyncio.Event()

    def listener(change: object) -> None:
        asyncio.get_running_loop().call_soon(crashed.set)
        raise RuntimeError("listener")

    bench = Bench(engine.address)
    scraper = Scraper(bench.pool, FAST, clock=time.monotonic, random=Random(0), on_change=listener)
    with caplog.at_level(logging.ERROR):
        scraper.watch([engine.address])
        await crashed.wait()
        await scraper.stop()
    assert f"scrape {engine.address}" in caplog.text


def test_the_limit_of_a_page_leaves_room_for_real_ones() -> None:
    assert len(vllm_page(ranks=32)) < scrape.MAX_PAGE


async def test_a_look_is_taken_at_once_and_once_between_two_scrapes(engine: Engine) -> None:
    """An hour between two scrapes stands for any pause."""
    async with Bench(engine.address, settings=ScrapeSettings(interval=3600.0)) as bench:
        await bench.changes.until(engine.address, State.HEALTHY)
        await engine.down()
        bench.scraper.look(engine.address)
        await bench.changes.until(engine.address, State.UNREACHABLE)
        asked = len(engine.paths)
        await engine.up()
        for _ in range(100):
            bench.scraper.look(engine.address)
            await asyncio.sleep(0)
        assert len(engine.paths) == asked, "a suspicion per request does not become a scrape per request"
        bench.scraper.look("10.0.0.1:1")  # nobody watches it
