"""Pool, scraper and DNS together."""

from __future__ import annotations

import logging

import msgspec
import pytest

from extproc.pool.endpoint import Change, State
from extproc.pool.engines.dns import AddressSource
from extproc.pool.engines.runtime import PoolConfig, PoolRuntime, log_change
from extproc.pool.engines.scrape import ScrapeSettings
from extproc.pool.policy import PickRequest
from tests.pool.engine import Changes, hang, page, running_engine
from tests.pool.pages import vllm_page

FAST = ScrapeSettings(interval=0.005, timeout=5.0)


def config(*addresses: str) -> PoolConfig:
    return PoolConfig(name="p", sources=tuple(AddressSource(address=address) for address in addresses), scrape=FAST)


def live(*addresses: str) -> tuple[PoolRuntime, Changes]:
    changes = Changes()
    return PoolRuntime(config(*addresses), on_change=lambda _, change: changes(change)), changes


async def test_requests_go_where_the_engine_is_least_busy() -> None:
    async with running_engine() as busy, running_engine() as idle:
        busy.answer, idle.answer = page(vllm_page(running=8, waiting=4)), page(vllm_page(running=0, waiting=0))
        runtime, changes = live(busy.address, f"localhost:{idle.port}")
        await runtime.start()
        assert runtime.pick(PickRequest()).candidates, "usable before the first scrape"
        for engine in (busy, idle):
            await changes.until(engine.address, State.HEALTHY)
            await engine.asked(2)
        assert {runtime.pick(PickRequest()).candidates[0] for _ in range(5)} == {idle.address}
        await runtime.stop()


async def test_a_reload_keeps_load_state_and_answers() -> None:
    async with running_engine() as stays, running_engine() as goes, running_engine() as comes:
        runtime, changes = live(stays.address, goes.address)
        await runtime.start()
        await changes.until(goes.address, State.HEALTHY)
        leases = [runtime.pick(PickRequest()).lease for _ in range(4)]
        new = msgspec.structs.replace(config(stays.address, comes.address), policy="round-robin", retry_count=0)
        runtime.reconfigure(new)
        before = {view.address: (view.state, view.in_flight) for view in runtime.view().endpoints}
        assert before[goes.address] == (State.DRAINING, 2)
        assert before[stays.address][1] == 2
        await changes.until(comes.address, State.HEALTHY)
        assert {runtime.pick(PickRequest()).candidates for _ in range(2)} == {(stays.address,), (comes.address,)}
        for lease in leases:
            lease.release(runtime.clock())
        after = {view.address: view.in_flight for view in runtime.view().endpoints}
        assert after == {stays.address: 1, comes.address: 1}
        await runtime.stop()


async def test_a_refused_reload_changes_nothing() -> None:
    async with running_engine() as engine:
        runtime, _ = live(engine.address)
        await runtime.start()
        for bad in (
            config("nonsense"),
            msgspec.structs.replace(config("10.0.0.1:1"), policy="best"),
            msgspec.structs.replace(config("10.0.0.1:1"), name="q"),
        ):
            with pytest.raises((ValueError, KeyError)):
                runtime.reconfigure(bad)
            assert [view.address for view in runtime.view().endpoints] == [engine.address]
            assert runtime.config == config(engine.address)
        await runtime.stop()


async def test_a_reported_failure_counts_until_the_next_good_scrape() -> None:
    async with running_engine() as engine, running_engine() as other:
        runtime, changes = live(engine.address, other.address)
        await runtime.start()
        await changes.until(engine.address, State.HEALTHY)
        engine.answer = hang
        await engine.asked(1)
        runtime.failed(engine.address)
        await changes.until(engine.address, State.UNREACHABLE)
        assert runtime.pick(PickRequest()).candidates == (other.address,)
        await runtime.stop()


def test_each_change_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        log_change("p", Change("10.0.0.1:80", State.HEALTHY, State.UNREACHABLE, "connection refused"))
        log_change("p", Change("10.0.0.1:80", State.UNREACHABLE, State.HEALTHY, ""))
        log_change("p", Change("10.0.0.1:80", State.HEALTHY, None, "no longer a member"))
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("WARNING", "pool p: endpoint 10.0.0.1:80 is unreachable (connection refused)"),
        ("INFO", "pool p: endpoint 10.0.0.1:80 is healthy (ok)"),
        ("INFO", "pool p: endpoint 10.0.0.1:80 is gone (no longer a member)"),
    ]
