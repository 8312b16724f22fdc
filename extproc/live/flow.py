"""Flow control at work: the policies in force, the timer that moves them, and the state that they share."""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import uuid
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from extproc.live.gate import FlowGate, Result, Saturation, schedulers
from extproc.live.policies import labelling_of, policies_of
from extproc.live.predictor import Learned
from extproc.prediction.predictor import Predictor
from extproc.resources.kinds.gateway import SharedState
from extproc.resources.secrets import SecretStore
from extproc.resources.snapshot import Snapshot
from extproc.scheduling import report
from extproc.scheduling.fair import Order
from extproc.scheduling.flow import Flow
from extproc.scheduling.job import Job
from extproc.scheduling.policy import Policies
from extproc.scheduling.ramp import Command
from extproc.scheduling.shortest import Shortest
from extproc.scheduling.state.memory import MemoryStore
from extproc.telemetry.flow import FlowStatus, PredictorStatus, SharedStatus

if TYPE_CHECKING:
    from extproc.shared.store import RedisStore

log = logging.getLogger("sluice.flow")

_OBSERVE = 1.0
"""Seconds between two looks at the pools' saturation."""
_GRACE = 60.0
"""Seconds that requests have to settle with a shared state that is no longer configured."""
_LEAST_PAUSE = 0.001
"""Seconds between two turns of the timer, whatever the policies say."""


class FlowError(Exception):
    """Flow control cannot be set up as configured."""


class FlowControl:
    """One per process, within its event loop. `prepare` makes a configuration's gate, `use` puts it in force."""

    def __init__(self, clock: Callable[[], float], saturation: Saturation = lambda _pool: None) -> None:
        self.clock = clock
        self.learned = Learned()
        self.keeps_learning = False
        """Whether answers are learned from even where no policy asks for it."""
        self._saturation = saturation
        self._memory = MemoryStore()
        self._stores: dict[SharedState, RedisStore] = {}
        self._closing: dict[SharedState, asyncio.TimerHandle] = {}
        self._gate: FlowGate | None = None
        self._retired: list[FlowGate] = []
        self._timer: asyncio.TimerHandle | None = None
        self._observe_at = math.inf
        self._tasks: set[asyncio.Task[Any]] = set()
        self._process = uuid.uuid4().hex[:12]
        self._numbers = itertools.count()

    def __repr__(self) -> str:
        return f"<FlowControl {self._gate!r} and {len(self._retired)} before it>"

    async def prepare(self, snapshot: Snapshot, secrets: SecretStore) -> FlowGate | None:
        """The gate of a configuration; None where it has no traffic policies. Policies that have not changed go on as
        they are, with those who wait. Raises FlowError."""
        spec = snapshot.gateway.spec
        file = spec.predictor.file
        await self.learned.use(None if file is None else snapshot.directory / Path(file))
        self.keeps_learning = file is not None
        policies = policies_of(snapshot)
        if not policies.every() and not self.keeps_learning:
            return None
        store = await self._store(spec.shared_state, secrets)
        before = self._gate.flow if self._gate is not None else None
        flow = Flow(
            policies,
            self.clock(),
            store=self._memory if store is None else store.near,
            remote=store is not None,
            orders=_orders(policies),
            before=before,
        )
        return FlowGate(self, flow, labelling_of(snapshot, policies), store)

    def use(self, gate: FlowGate | None) -> None:
        """From here on new requests go through `gate`; who waits in an earlier one is served to the end."""
        if self._gate is not None and self._gate is not gate:
            self._retired.append(self._gate)
        self._retired = [each for each in self._retired if not each.flow.idle]
        self._gate = gate
        if gate is not None and gate.store is not None:
            gate.store.ramps = lambda: gate.flow.ramps
        self._close_unused(gate)
        self._observe_at = self.clock() if gate is not None and gate.watches else math.inf
        self.changed()

    async def stop(self) -> None:
        """Once no request is left."""
        for timer in (self._timer, *self._closing.values()):
            if timer is not None:
                timer.cancel()
        self._gate, self._retired = None, []
        if self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        for store in self._stores.values():
            await store.stop()
        await self.learned.stop()

    def new_id(self) -> str:
        return f"{self._process}-{next(self._numbers)}"

    def spawn(self, work: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
        """Runs to its end, whoever waits for it or not."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def changed(self, gate: FlowGate | None = None) -> None:
        """Something was taken, given back or decided, at `gate`: questions to a remote store follow, and the timer."""
        if gate is not None and gate is not self._gate and gate not in self._retired and not gate.flow.idle:
            self._retired.append(gate)  # a request that began before the configuration changed has come to it late
        now = self.clock()
        gates = self._gates()
        for gate in gates:
            gate.attempts(now)
        at = min((gate.flow.next_event() for gate in gates), default=math.inf)
        self._arm(min(at, self._observe_at), now)

    async def states(self) -> list[report.PolicyState]:
        """Every policy in force, for people; of a remote store as it is now."""
        gate = self._gate
        if gate is None:
            return []
        if gate.store is not None:
            await gate.store.look(gate.flow, self.clock())
        return report.state(gate.flow, self.clock())

    async def explain(self, job: Job) -> list[report.Explanation]:
        """What every policy would do with a request that came now."""
        gate = self._gate
        if gate is None:
            return []
        if gate.store is not None:
            await gate.store.look(gate.flow, self.clock(), job)
        return report.explain(gate.flow, job, self.clock())

    def command(self, policy: str, command: Command) -> bool:
        """Steers a load ramp by its name; False where there is none of that name."""
        gate = self._gate
        for ramp in gate.flow.ramps if gate is not None else ():
            if ramp.policy.name == policy:
                ramp.command(command, self.clock())
                self.changed()
                return True
        return False

    def status(self) -> FlowStatus:
        """For the metrics. What a remote store holds is shown as it was at the scrape before."""
        gate = self._gate
        if gate is None:
            return FlowStatus()
        now = self.clock()
        states = report.state(gate.flow, now)
        waiting: Counter[tuple[str, str]] = Counter()
        for line in gate.flow.lines:
            for (workload, _), _, number, _ in line.queue.flows(line.queue.max_size):
                waiting[line.policy.name, workload] += number
        if gate.store is not None:
            self.spawn(gate.store.look(gate.flow, now))
        return FlowStatus(
            policies=states,
            waiting=waiting,
            predictor=_predictor(self.learned.predictor) if gate.predicts else None,
            shared=None if gate.store is None else _shared(gate.store),
        )

    def _gates(self) -> Sequence[FlowGate]:
        return self._retired if self._gate is None else [self._gate, *self._retired]

    def _arm(self, at: float, now: float) -> None:
        """The timer fires at `at` at the latest."""
        if at == math.inf:
            return
        loop = asyncio.get_running_loop()
        when = loop.time() + max(_LEAST_PAUSE, at - now)
        if self._timer is not None:
            if self._timer.when() <= when:
                return
            self._timer.cancel()
        self._timer = loop.call_at(when, self._tick)

    def _tick(self) -> None:
        self._timer = None
        now = self.clock()
        if now >= self._observe_at and self._gate is not None:
            self._gate.observe(self._saturation, now)
            self._observe_at = now + _OBSERVE
        for gate in self._gates():
            gate.flow.tick(now)
        self._retired = [gate for gate in self._retired if not gate.flow.idle]
        self.changed()

    def _close_unused(self, gate: FlowGate | None) -> None:
        """What is no longer configured stays for a while, as requests hold parts of its state."""
        loop = asyncio.get_running_loop()
        for settings, store in self._stores.items():
            used = gate is not None and store is gate.store
            if used and settings in self._closing:
                self._closing.pop(settings).cancel()
            elif not used and settings not in self._closing:
                self._closing[settings] = loop.call_later(_GRACE, self._close, settings)

    def _close(self, settings: SharedState) -> None:
        del self._closing[settings]
        self.spawn(self._stores.pop(settings).stop())

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("fault in flow control", exc_info=error)

    async def _store(self, settings: SharedState | None, secrets: SecretStore) -> RedisStore | None:
        """The store of these settings, connected."""
        if settings is None:
            return None
        store = self._stores.get(settings)
        if store is None:
            from extproc.shared.options import Options
            from extproc.shared.store import RedisStore

            secret = secrets.resolve(settings.redis)
            if secret is None:
                raise FlowError("there is no address of Redis where `sharedState.redis` points")
            options = Options(prefix=settings.prefix, limit=settings.timeout)
            try:
                store = RedisStore(secret.reveal(), clock=self.clock, options=options)
            except ValueError as error:
                raise FlowError(f"the address of Redis cannot be used: {error}") from None
            await store.start()
            self._stores[settings] = store
        return store


def _orders(policies: Policies) -> dict[str, Order]:
    return {name: Shortest() for name, scheduler in schedulers(policies) if scheduler.ordering == "shortest"}


def _predictor(predictor: Predictor) -> PredictorStatus:
    errors = predictor.errors
    return PredictorStatus(
        learned=predictor.learned,
        observed=errors.observed,
        absolute=errors.absolute,
        relative=errors.relative,
        covered=errors.covered,
        tau=errors.tau(),
    )


def _shared(store: RedisStore) -> SharedStatus:
    counters = store.counters
    undelivered, dropped = store.undelivered
    return SharedStatus(
        connected=store.mode == "shared",
        replicas=store.replicas,
        undelivered=undelivered,
        counts={
            "failures": counters.failures,
            "local": counters.local,
            "late": counters.late,
            "unknown": counters.unknown,
            "emptied": counters.emptied,
            "unkept": counters.unkept,
            "dropped": dropped,
        },
    )
