"""Flow control at work: the timer, changes of configuration, what is learned, a store that fails."""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from extproc.live.flow import FlowChange, FlowControl, FlowError
from extproc.live.request_flow import LiveFlow, counts_tokens, longest_wait
from extproc.resources.kinds.gateway import SharedState
from extproc.resources.load import load
from extproc.resources.secrets import SecretStore
from extproc.resources.snapshot import Snapshot
from extproc.scheduling.job import Job
from extproc.scheduling.policy import Caching, ConcurrencyScheduling, Policies, QuotaScheduling, RateLimiting
from extproc.scheduling.ticket import Admitted, End, FlowPlace, Outcome, Prepared
from extproc.scheduling.workloads import Scheduler, Workload, WorkloadParameters
from extproc.spec import Duration
from tests.support.gateway import Manifest, manifest, pool, route
from tests.support.traffic import rate, slots

ONE = slots("one", 1, [])
_numbers = itertools.count()


class Kit:
    """A process's flow control and the configurations that are put in force one after another."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.full: float | None = None
        self.control = FlowControl(time.monotonic, lambda _pool: self.full)

    def snapshot(self, *manifests: Manifest, **gateway: Any) -> Snapshot:
        all_ = [*manifests, manifest("Gateway", "g", **gateway)]
        (self.directory / "all.yaml").write_text(yaml.safe_dump_all(all_))
        return load(self.directory, environ={})

    async def use(self, *manifests: Manifest, **gateway: Any) -> LiveFlow:
        change = await self.prepare(*manifests, **gateway)
        change.commit()
        return cast("LiveFlow", change.live_flow)

    async def prepare(self, *manifests: Manifest, **gateway: Any) -> FlowChange:
        snapshot = self.snapshot(*manifests, **gateway)
        return await self.control.prepare(snapshot, SecretStore({}, self.directory))


@pytest.fixture
async def kit(tmp_path: Path) -> AsyncIterator[Kit]:
    found = Kit(tmp_path)
    yield found
    await found.control.stop()


def job() -> Job:
    return Job(id=f"j{next(_numbers)}", labels={"tenant": "t"}, endpoint="pool/gpus m")


def admitted(outcome: Outcome | Prepared | None) -> Admitted:
    assert isinstance(outcome, Admitted), outcome
    return outcome


def waits(live_flow: LiveFlow) -> tuple[FlowPlace, asyncio.Event]:
    place = live_flow.enter(job())
    assert isinstance(place, FlowPlace), place
    woken = asyncio.Event()
    place.wake = woken.set
    return place, woken


async def test_who_waits_is_woken_by_a_release_and_by_the_timer(kit: Kit) -> None:
    live_flow = await kit.use(slots("one", 1, [], defaultWorkloadParameters={"queueTimeout": "50ms"}))
    first = admitted(live_flow.enter(job()))
    place, woken = waits(live_flow)
    first.ticket.settle(live_flow.clock(), End())
    await woken.wait()
    second = admitted(place.result)
    late, woken = waits(live_flow)
    await woken.wait()
    assert late.outcome == "expired"
    second.ticket.settle(live_flow.clock())


async def test_who_waits_goes_on_under_the_next_configuration(kit: Kit) -> None:
    live_flow = await kit.use(ONE, rate("r", 5, 1, []))
    first = admitted(live_flow.enter(job()))
    place, woken = waits(live_flow)
    after = await kit.use(ONE, rate("r", 6, 1, []))
    assert not isinstance(after.enter(job()), Admitted), "the slot is still taken"
    first.ticket.settle(live_flow.clock())
    await woken.wait()
    admitted(place.result).ticket.settle(live_flow.clock())


async def test_a_request_may_come_late_to_a_gate_that_was_replaced(kit: Kit) -> None:
    live_flow = await kit.use(slots("one", 1, [], defaultWorkloadParameters={"queueTimeout": "50ms"}))
    (await kit.prepare()).commit()
    first = admitted(live_flow.enter(job()))
    place, woken = waits(live_flow)
    await woken.wait()
    assert place.outcome == "expired"
    first.ticket.settle(live_flow.clock())


async def test_a_configuration_that_is_not_put_in_force_changes_nothing(kit: Kit) -> None:
    live_flow = await kit.use(ONE)
    first = admitted(live_flow.enter(job()))
    place, woken = waits(live_flow)
    await (await kit.prepare(slots("one", 9, []))).undo()
    assert not woken.is_set()
    first.ticket.settle(live_flow.clock())
    await woken.wait()
    assert place.outcome == "admitted"


async def test_who_waits_is_served_after_the_policies_are_gone(kit: Kit) -> None:
    live_flow = await kit.use(ONE)
    first = admitted(live_flow.enter(job()))
    place, woken = waits(live_flow)
    (await kit.prepare()).commit()
    first.ticket.settle(live_flow.clock())
    await woken.wait()
    assert place.outcome == "admitted"
    assert await kit.control.states() == []
    assert kit.control.status().policies == ()


async def test_a_saturated_pool_lowers_what_its_requests_may_be(kit: Kit) -> None:
    core = {"signal": "saturation", "setpoint": 0.5}
    gpus = [pool("gpus", ["127.0.0.1:1"]), route("r", "*", {"backendRefs": [{"pool": "gpus"}]})]
    live_flow = await kit.use(*gpus, manifest("AverageLatencySchedulingPolicy", "a", loadSchedulingCore=core))
    admitted(live_flow.enter(job()))
    kit.full = 2.0
    loop = live_flow.flow.adaptive[0].loop
    now = live_flow.clock()
    live_flow.observe(lambda pool: {"gpus": 2.0}[pool], now)
    assert loop.signal(now) == (2.0, 0.5)


async def test_what_is_learned_survives_a_restart(kit: Kit, tmp_path: Path) -> None:
    from extproc.prediction.features import PredictionInput, features

    seen = features(PredictionInput(model="m", text="write a poem"))
    live_flow = await kit.use(predictor={"file": "lengths.bin"})
    for _ in range(50):
        live_flow.learn(seen, 77, live_flow.clock())
    known = live_flow.predict(seen)
    await kit.control.stop()
    again = Kit(tmp_path)
    other = await again.use(predictor={"file": "lengths.bin"})
    assert other.predict(seen).median == pytest.approx(known.median, rel=1e-3)
    assert set(await asyncio.to_thread(os.listdir, tmp_path)) == {"all.yaml", "lengths.bin"}
    await again.control.stop()


async def test_a_file_that_cannot_be_read_is_a_warning(
    kit: Kit, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "lengths.bin").write_bytes(b"nonsense")
    await kit.use(predictor={"file": "lengths.bin"})
    assert "begins anew" in caplog.text
    assert kit.control.predictor_file.predictor.learned == 0


async def test_a_ramp_takes_commands_by_name(kit: Kit) -> None:
    ramp = manifest("LoadRampingPolicy", "r", loadRamp={"steps": [{"targetAcceptPercentage": 10, "duration": "1h"}]})
    await kit.use(ramp)
    assert kit.control.command("LoadRampingPolicy/r", "hold")
    assert not kit.control.command("LoadRampingPolicy/other", "hold")
    (state,) = await kit.control.states()
    assert state.command == "hold"


async def test_a_fault_in_the_shared_state_lets_requests_pass(kit: Kit, caplog: pytest.LogCaptureFixture) -> None:
    live_flow = await kit.use(ONE)

    class Broken:
        async def ask(self, _ask: object, _now: float) -> object:
            raise TypeError("a fault")

    live_flow.store = Broken()  # type: ignore[assignment]
    live_flow.flow = type(live_flow.flow)(live_flow.flow.policies, live_flow.clock(), remote=True)
    prepared = live_flow.enter(job())
    assert isinstance(prepared, Prepared)
    admitted(await live_flow.ask(prepared))
    assert "without being counted" in caplog.text


async def test_a_request_that_leaves_while_it_is_asked_for_holds_nothing(kit: Kit) -> None:
    live_flow = await kit.use(ONE)
    answer = asyncio.Event()
    store = live_flow.flow.store

    class Slow:
        async def ask(self, ask: Any, now: float) -> object:
            await answer.wait()
            return store.ask(ask, now)

    live_flow.store = Slow()  # type: ignore[assignment]
    live_flow.flow = type(live_flow.flow)(live_flow.flow.policies, live_flow.clock(), store=store, remote=True)
    prepared = live_flow.enter(job())
    assert isinstance(prepared, Prepared)
    asked = asyncio.ensure_future(live_flow.ask(prepared))
    await asyncio.sleep(0)
    asked.cancel()
    prepared.ticket.undo(live_flow.clock())
    answer.set()
    await asyncio.gather(*kit.control._tasks)
    levels = store.levels("ConcurrencySchedulingPolicy/one", 9, live_flow.clock())
    assert all(level.left == 1 for level in levels)


async def test_shared_state_that_is_no_longer_configured_is_left(kit: Kit) -> None:
    stopped = asyncio.Event()

    class Store:
        async def stop(self) -> None:
            stopped.set()

    settings = SharedState(redis="redis://h")
    kit.control._stores[settings] = Store()  # type: ignore[assignment]
    await kit.use(ONE)
    assert not stopped.is_set(), "requests may still settle with it"
    kit.control._close(settings)
    await stopped.wait()
    assert not kit.control._stores


async def test_an_address_of_redis_that_makes_no_sense_is_refused(kit: Kit) -> None:
    with pytest.raises(FlowError, match="Redis"):
        await kit.use(ONE, sharedState={"redis": "redis://host:port/x"})


def test_the_longest_wait_is_that_of_all_queues_together() -> None:
    patient = Scheduler(workloads=[Workload(name="w", parameters=WorkloadParameters(queue_timeout=Duration(40)))])
    policies = Policies(
        quotas=(QuotaScheduling(name="q", bucket_capacity=1, fill_amount=1, scheduler=patient),),
        slots=(ConcurrencyScheduling(name="s", max_concurrency=1),),
        caches=(Caching(name="c"),),
    )
    assert longest_wait(policies) == 40 + 10 + 30
    assert longest_wait(Policies()) == 0


@pytest.mark.parametrize(
    ("policies", "expected"),
    [
        (Policies(rates=(RateLimiting(name="r", bucket_capacity=1, fill_amount=1),)), False),
        (Policies(rates=(RateLimiting(name="r", bucket_capacity=1, fill_amount=1, unit="tokens"),)), True),
        (Policies(slots=(ConcurrencyScheduling(name="s", max_concurrency=1, unit="requests"),)), False),
        (
            Policies(
                slots=(
                    ConcurrencyScheduling(
                        name="s", max_concurrency=1, unit="requests", scheduler=Scheduler(ordering="shortest")
                    ),
                )
            ),
            True,
        ),
    ],
)
def test_lengths_are_predicted_only_where_they_matter(policies: Policies, expected: bool) -> None:
    assert counts_tokens(policies) is expected
