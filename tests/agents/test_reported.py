"""A pool whose endpoints are scraped, reported, or both one after the other."""

from __future__ import annotations

import msgspec

from extproc.pool.endpoint import State
from extproc.pool.engines.dns import AddressSource
from extproc.pool.engines.runtime import PoolConfig, PoolRuntime
from extproc.pool.engines.scrape import ScrapeSettings
from extproc.pool.load import EngineLoad
from extproc.pool.policy import PickRequest
from tests.pool.engine import Changes, running_engine

FAST = ScrapeSettings(interval=0.005, timeout=5.0)
A, B = "10.0.0.1:8000", "10.0.0.2:8000"


class Site:
    """A pool on a clock that stands still."""

    def __init__(self, *addresses: str, agents: bool = True) -> None:
        self.now = 0.0
        self.changes = Changes()
        self.told = 0
        self.config = PoolConfig(
            name="p",
            sources=tuple(AddressSource(address=address, labels={"from": "manifest"}) for address in addresses),
            membership="agents" if agents else "static",
            scrape=FAST,
        )
        self.runtime = PoolRuntime(
            self.config,
            clock=lambda: self.now,
            on_change=lambda _, change: self.changes(change),
            on_members=self._count,
        )

    def _count(self) -> None:
        self.told += 1

    def report(self, address: str, running: float, now: float) -> None:
        self.now = now
        self.runtime.agent_reports(address, EngineLoad("vllm", now, running=running, waiting=0.0, source="agent"))

    def shown(self) -> dict[str, State]:
        return {view.address: view.state for view in self.runtime.view().endpoints}


async def test_agents_fill_a_pool_and_empty_it() -> None:
    site = Site()
    await site.runtime.start()
    assert site.told == 0
    site.runtime.agent_joins(A, {"gpu": "h20"})
    site.runtime.agent_joins(B, {})
    assert site.told == 2
    site.report(A, 0.0, 1.0)
    assert site.shown() == {A: State.HEALTHY, B: State.UNKNOWN}
    assert site.told == 2, "a load is no change of members"
    pick = site.runtime.pick(PickRequest())
    gone = pick.candidates[0]
    site.runtime.agent_leaves(gone, "bye")
    site.runtime.agent_leaves(gone, "bye")
    assert site.shown()[gone] is State.DRAINING
    assert site.told == 3
    pick.lease.release(site.now)
    assert list(site.shown()) == [address for address in (A, B) if address != gone]
    await site.runtime.stop()


async def test_our_own_requests_are_not_counted_twice_in_reports() -> None:
    site = Site()
    site.runtime.agent_joins(A, {})
    leases = [site.runtime.pick(PickRequest()).lease for _ in range(4)]
    site.report(A, 5.0, 1.0)
    endpoint = site.runtime.pool.find(A)
    assert endpoint is not None
    assert (endpoint.in_flight, endpoint.foreign) == (4, 1)
    for lease in leases:
        lease.release(site.now)
    site.report(A, 5.0, 1.1)
    assert endpoint.foreign == 1, "the figures may be from before they ended"
    site.report(A, 5.0, 1.2)
    assert endpoint.foreign == 5


async def test_a_report_that_may_be_from_before_a_failure_heals_nothing() -> None:
    site = Site()
    site.runtime.agent_joins(A, {})
    site.report(A, 0.0, 1.0)
    site.now = 1.1
    site.runtime.failed(A)
    site.report(A, 0.0, 1.2)
    assert site.shown() == {A: State.UNREACHABLE}
    site.report(A, 0.0, 1.3)
    assert site.shown() == {A: State.HEALTHY}


async def test_a_listed_endpoint_is_not_scraped_while_its_agent_reports() -> None:
    async with running_engine() as engine:
        site = Site(engine.address, agents=False)
        await site.runtime.start()
        await site.changes.until(engine.address, State.HEALTHY)
        assert site.runtime.admits(engine.address)
        assert not site.runtime.admits(A)
        site.runtime.agent_joins(engine.address, {"from": "agent", "gpu": "h20"})
        asked = len(engine.paths)
        site.report(engine.address, 9.0, 1.0)
        (view,) = site.runtime.view().endpoints
        assert (view.running, view.labels) == (9, {"from": "manifest", "gpu": "h20"})
        assert len(engine.paths) == asked
        site.runtime.agent_leaves(engine.address, "nothing heard from the agent for 3 s")
        assert site.shown() == {engine.address: State.UNREACHABLE}
        await site.changes.until(engine.address, State.HEALTHY)
        assert len(engine.paths) > asked
        assert site.told == 1, "it has been a member all the time"
        await site.runtime.stop()


async def test_a_reload_may_take_the_members_from_the_agents() -> None:
    site = Site(B)
    await site.runtime.start()
    site.runtime.agent_joins(A, {})
    assert set(site.shown()) == {A, B}
    static = msgspec.structs.replace(site.config, membership="static")
    site.runtime.reconfigure(static)
    assert set(site.shown()) == {B}
    assert not site.runtime.admits(A)
    site.runtime.reconfigure(site.config)
    assert set(site.shown()) == {A, B}, "the agent still reports"
    await site.runtime.stop()
