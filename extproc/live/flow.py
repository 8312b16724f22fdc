"""Flow control at work: the policies in force, the timer that moves them, and the state that they share."""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import uuid
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from extproc.live.flow_status import status_of
from extproc.live.policies import labelling_of, policies_of
from extproc.live.predictor import PredictorFile
from extproc.live.request_flow import LiveFlow, Result, Saturation, schedulers
from extproc.prediction.predictor import LengthPredictor
from extproc.resources.kinds.gateway import SharedState
from extproc.resources.secrets import SecretStore
from extproc.resources.snapshot import Snapshot
from extproc.scheduling import report
from extproc.scheduling.fair import Order
from extproc.scheduling.flow import Flow
from extproc.scheduling.job import Job
from extproc.scheduling.policy import Policies
from extproc.scheduling.ramp import Command
from extproc.scheduling.shortest import Shortest, Shortness
from extproc.scheduling.state.memory import MemoryStore
from extproc.scheduling.status import Explanation, PolicyState
from extproc.telemetry.flow import FlowStatus

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
    """One per process, within its event loop. `prepare` makes a configuration's flow, its `commit` puts it in force."""

    def __init__(self, clock: Callable[[], float], saturation: Saturation = lambda _pool: None) -> None:
        self.clock = clock
        self.predictor_file = PredictorFile()
        self._saturation = saturation
        self._memory = MemoryStore()
        self._stores: dict[SharedState, RedisStore] = {}
        self._closing: dict[SharedState, asyncio.TimerHandle] = {}
        self._claimed: RedisStore | None = None
        """That of a change which is being made."""
        self._live_flow: LiveFlow | None = None
        self._retired: list[LiveFlow] = []
        self._timer: asyncio.TimerHandle | None = None
        self._observe_at = math.inf
        self._tasks: set[asyncio.Task[Any]] = set()
        self._process = uuid.uuid4().hex[:12]
        self._numbers = itertools.count()

    def __repr__(self) -> str:
        return f"<FlowControl {self._live_flow!r} and {len(self._retired)} before it>"

    async def prepare(self, snapshot: Snapshot, secrets: SecretStore) -> FlowChange:
        """The flow of a configuration. Policies that have not changed go on as they are, with those who wait. Raises
        FlowError."""
        spec = snapshot.gateway.spec
        file = None if spec.predictor.file is None else snapshot.directory / Path(spec.predictor.file)
        policies = policies_of(snapshot)
        labelling = labelling_of(snapshot, policies)
        found = await self.predictor_file.prepare(file)
        if not policies.every() and file is None:
            return FlowChange(self, file, found)
        settings = spec.shared_state
        store = None if settings is None else await self._store(settings, secrets)
        before = self._live_flow.flow if self._live_flow is not None else None
        flow = Flow(
            policies,
            self.clock(),
            store=self._memory if store is None else store.near,
            remote=store is not None,
            orders=_orders(policies),
            before=before,
        )
        live_flow = LiveFlow(self, flow, labelling, store, keeps_learning=file is not None)
        return FlowChange(self, file, found, live_flow, settings)

    def keep(self, settings: SharedState, store: RedisStore) -> None:
        """The store is one of the process's from here on, which `stop` disconnects."""
        self._stores[settings], self._claimed = store, None

    def drop(self, store: RedisStore) -> bool:
        """A store that `prepare` gave is not needed after all; gives whether it has to be stopped."""
        self._claimed = None
        return store not in self._stores.values()

    def use(self, live_flow: LiveFlow | None) -> None:
        """From here on new requests go through `live_flow`; who waits in an earlier one is served to the end."""
        if self._live_flow is not None and self._live_flow is not live_flow:
            self._retired.append(self._live_flow)
        self._retired = [each for each in self._retired if not each.flow.idle]
        self._live_flow = live_flow
        if live_flow is not None:
            live_flow.flow.tick(self.clock())
        if live_flow is not None and live_flow.store is not None:
            live_flow.store.ramps = lambda: live_flow.flow.ramps
        self._close_unused(live_flow)
        self._observe_at = self.clock() if live_flow is not None and live_flow.watches else math.inf
        self.changed()

    async def stop(self) -> None:
        """Once no request is left."""
        for timer in (self._timer, *self._closing.values()):
            if timer is not None:
                timer.cancel()
        self._live_flow, self._retired = None, []
        if self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        for store in self._stores.values():
            await store.stop()
        await self.predictor_file.stop()

    def new_id(self) -> str:
        return f"{self._process}-{next(self._numbers)}"

    def spawn(self, work: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
        """Runs to its end, whoever waits for it or not."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def changed(self, live_flow: LiveFlow | None = None) -> None:
        """Something was taken, given back or decided: questions to a remote store follow, and the timer."""
        if (
            live_flow is not None
            and live_flow is not self._live_flow
            and live_flow not in self._retired
            and not live_flow.flow.idle
        ):
            self._retired.append(live_flow)  # a request that began before the configuration changed has come to it late
        now = self.clock()
        live_flows = self._live_flows()
        for live_flow in live_flows:
            live_flow.attempts(now)
        at = min((live_flow.flow.next_event() for live_flow in live_flows), default=math.inf)
        self._arm(min(at, self._observe_at), now)

    async def states(self) -> list[PolicyState]:
        """Every policy in force, for people; of a remote store as it is now."""
        live_flow = self._live_flow
        if live_flow is None:
            return []
        if live_flow.store is not None:
            await live_flow.store.look(live_flow.flow, self.clock())
        return report.state(live_flow.flow, self.clock())

    async def explain(self, job: Job) -> list[Explanation]:
        """What every policy would do with a request that came now."""
        live_flow = self._live_flow
        if live_flow is None:
            return []
        if live_flow.store is not None:
            await live_flow.store.look(live_flow.flow, self.clock(), job)
        return report.explain(live_flow.flow, job, self.clock())

    def command(self, policy: str, command: Command) -> bool:
        """Steers a load ramp by its name; False where there is none of that name."""
        live_flow = self._live_flow
        for ramp in live_flow.flow.ramps if live_flow is not None else ():
            if ramp.policy.name == policy:
                ramp.command(command, self.clock())
                self.changed()
                return True
        return False

    def status(self) -> FlowStatus:
        """For the metrics. What a remote store holds is shown as it was at the scrape before."""
        live_flow = self._live_flow
        if live_flow is None:
            return FlowStatus()
        now = self.clock()
        if live_flow.store is not None:
            self.spawn(live_flow.store.look(live_flow.flow, now))
        return status_of(live_flow, self.predictor_file.predictor, now)

    def _live_flows(self) -> Sequence[LiveFlow]:
        return self._retired if self._live_flow is None else [self._live_flow, *self._retired]

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
        if now >= self._observe_at and self._live_flow is not None:
            self._live_flow.observe(self._saturation, now)
            self._observe_at = now + _OBSERVE
        for live_flow in self._live_flows():
            live_flow.flow.tick(now)
        self._retired = [live_flow for live_flow in self._retired if not live_flow.flow.idle]
        self.changed()

    def _close_unused(self, live_flow: LiveFlow | None) -> None:
        """What is no longer configured stays for a while, as requests hold parts of its state."""
        loop = asyncio.get_running_loop()
        for settings, store in self._stores.items():
            used = live_flow is not None and store is live_flow.store
            if used and settings in self._closing:
                self._closing.pop(settings).cancel()
            elif not used and settings not in self._closing:
                self._closing[settings] = loop.call_later(_GRACE, self._close, settings)

    def _close(self, settings: SharedState) -> None:
        if self._stores[settings] is self._claimed:  # a change is being made that will use it again
            self._closing[settings] = asyncio.get_running_loop().call_later(_GRACE, self._close, settings)
            return
        del self._closing[settings]
        self.spawn(self._stores.pop(settings).stop())

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("fault in flow control", exc_info=error)

    async def _store(self, settings: SharedState, secrets: SecretStore) -> RedisStore:
        """The store of these settings, connected: one that is in use, or a new one."""
        store = self._stores.get(settings)
        if store is None:
            from extproc.shared.options import RedisOptions
            from extproc.shared.store import RedisStore

            secret = secrets.resolve(settings.redis)
            if secret is None:
                raise FlowError("there is no address of Redis where `sharedState.redis` points")
            options = RedisOptions(prefix=settings.prefix, limit=settings.timeout)
            try:
                store = RedisStore(secret.reveal(), clock=self.clock, options=options)
            except ValueError as error:
                raise FlowError(f"the address of Redis cannot be used: {error}") from None
            await store.start()
        self._claimed = store
        return store


class FlowChange:
    """A configuration's flow control, made ready."""

    def __init__(
        self,
        control: FlowControl,
        file: Path | None,
        found: LengthPredictor | None,
        live_flow: LiveFlow | None = None,
        settings: SharedState | None = None,
    ) -> None:
        """`file` is the predictor's, `found` what it holds if that is used, `settings` are of the flow's store."""
        self.live_flow = live_flow
        """None where the configuration has no traffic policies."""
        self._control = control
        self._file = file
        self._found = found
        self._settings = settings

    def commit(self) -> None:
        store = None if self.live_flow is None else self.live_flow.store
        if self._settings is not None and store is not None:
            self._control.keep(self._settings, store)
        self._control.predictor_file.use(self._file, self._found)
        self._control.use(self.live_flow)

    async def undo(self) -> None:
        store = None if self.live_flow is None else self.live_flow.store
        if store is not None and self._control.drop(store):
            await store.stop()


def _orders(policies: Policies) -> dict[str, Order]:
    return {
        name: Shortest(Shortness(guard=scheduler.guard, slack=scheduler.slack))
        for name, scheduler in schedulers(policies)
        if scheduler.ordering == "shortest"
    }
