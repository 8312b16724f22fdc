"""Flow control as the requests of one configuration meet it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from extproc.exchange.values import LocalReply
from extproc.live.predictor import PredictorFile
from extproc.prediction.features import Features
from extproc.prediction.predictor import LengthPrediction
from extproc.scheduling.flow import Flow
from extproc.scheduling.job import Job
from extproc.scheduling.policy import AverageLatencyScheduling, ConcurrencyScheduling, Policies, QuotaScheduling
from extproc.scheduling.state.claims import Claims
from extproc.scheduling.state.claims import Grant as StoreAnswer
from extproc.scheduling.ticket import Attempt, Outcome, Prepared
from extproc.scheduling.workloads import Scheduler
from extproc.steps.labels import Labelling

if TYPE_CHECKING:
    from extproc.shared.store import RedisStore

log = logging.getLogger("sluice.flow")

Result = TypeVar("Result")
Saturation = Callable[[str], float | None]
"""How full a pool is, by name: 1.0 is full; None: not known."""
_LONGEST_WAIT = 3500.0
"""Envoy is told at most so many seconds that the filter may take."""


class Control(Protocol):
    """What a live_flow needs of the process's flow control."""

    clock: Callable[[], float]
    predictor_file: PredictorFile

    def new_id(self) -> str: ...

    def spawn(self, work: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]: ...

    def changed(self, live_flow: LiveFlow) -> None: ...


class LiveFlow:
    """The policies of one configuration, for its requests: a `RequestFlow`."""

    def __init__(
        self,
        control: Control,
        flow: Flow,
        labelling: Labelling,
        store: RedisStore | None,
        *,
        keeps_learning: bool = False,
    ) -> None:
        """`keeps_learning`: answers are learned from even where no policy asks for it."""
        self.flow = flow
        self.labelling = labelling
        self.store = store
        """None: the state is in this process."""
        self.predicts = keeps_learning or labelling.predicts or counts_tokens(flow.policies)
        self.longest_wait = longest_wait(flow.policies)
        self.clock = control.clock
        self._control = control
        self._watched = [line for line in flow.adaptive if line.loop.policy.signal == "saturation"]
        self._behind: dict[str, set[str]] = {line.policy.name: set() for line in self._watched}

    def __repr__(self) -> str:
        return f"<LiveFlow {self.flow!r}>"

    @property
    def watches(self) -> bool:
        """Whether any policy follows the saturation of pools."""
        return bool(self._watched)

    def caches(self, labels: Mapping[str, str]) -> bool:
        return any(cache.match(labels) for cache in self.flow.caches)

    def new_id(self) -> str:
        return self._control.new_id()

    def predict(self, found: Features) -> LengthPrediction:
        return self._control.predictor_file.predictor.predict(found)

    def learn(self, found: Features, tokens: int, now: float) -> None:
        self._control.predictor_file.predictor.learn(found, tokens, now)

    def enter(self, job: Job) -> Outcome | Prepared:
        now = self.clock()
        for line in self._watched:
            room, _, rest = job.endpoint.partition("/")
            if room == "pool" and line.match(job.labels):
                self._behind[line.policy.name].add(rest.partition(" ")[0])
        if self.store is None:
            outcome: Outcome | Prepared = self.flow.enter(job, now)
        else:
            prepared = self.flow.prepare(job, now)
            outcome = prepared
            if isinstance(prepared, Prepared):
                ask = prepared.ask
                if not (ask.limits or ask.lookup or ask.lines):
                    outcome = self.flow.finish(prepared, StoreAnswer(), now)
        self.changed()
        return outcome

    async def ask(self, prepared: Prepared) -> Outcome:
        """Goes on to its end even if the request has left meanwhile, since what was taken has to be given back."""
        return await asyncio.shield(self._control.spawn(self._ask(prepared)))

    def changed(self) -> None:
        self._control.changed(self)

    async def beside(self, work: Callable[[], LocalReply]) -> LocalReply:
        return await asyncio.to_thread(work)

    def observe(self, saturation: Saturation, now: float) -> None:
        """Tells the policies that follow it how full the pools are that their requests went to."""
        for line in self._watched:
            found = [value for name in self._behind[line.policy.name] if (value := saturation(name)) is not None]
            if found:
                line.loop.observe(max(found), now)

    def attempts(self, now: float) -> None:
        """Asks a remote store for those who are next in their lines."""
        if self.store is None:
            return
        for attempt in self.flow.attempts(now):
            self._control.spawn(self._attempt(attempt))

    async def _ask(self, prepared: Prepared) -> Outcome:
        answer = await self._answer(prepared.ask)
        outcome = self.flow.finish(prepared, answer, self.clock())
        self.changed()
        return outcome

    async def _attempt(self, attempt: Attempt) -> None:
        self.flow.answered(attempt, await self._answer(attempt.ask), self.clock())
        self.changed()

    async def _answer(self, ask: Claims) -> StoreAnswer:
        """The store's, which knows itself what to do where Redis fails. A fault in it lets requests pass uncounted."""
        assert self.store is not None  # noqa: S101 -- only then is anybody asked
        try:
            return await self.store.ask(ask, self.clock())
        except Exception:
            log.exception("fault in the shared state: a request passes without being counted")
            return StoreAnswer(lines=len(ask.lines))


def longest_wait(policies: Policies) -> float:
    """Seconds that a request may wait if it waits as long as it may in every queue."""
    waits = [_patience(scheduler) for _, scheduler in schedulers(policies)]
    joined = max((cache.join_timeout for cache in policies.caches), default=0.0)
    return min(_LONGEST_WAIT, sum(waits) + joined)


def counts_tokens(policies: Policies) -> bool:
    """Whether anything depends on the length of an answer before it is known."""
    units = {policy.unit for policy in policies.rates} | {policy.unit for policy in policies.quotas}
    units |= {policy.unit for policy in policies.adaptive} | {policy.unit for policy in policies.slots}
    return "tokens" in units or any(each.ordering == "shortest" for _, each in schedulers(policies))


def schedulers(policies: Policies) -> list[tuple[str, Scheduler]]:
    """Every policy in front of which requests wait, by name."""
    scheduling: list[AverageLatencyScheduling | QuotaScheduling | ConcurrencyScheduling]
    scheduling = [*policies.adaptive, *policies.quotas, *policies.slots]
    return [(policy.name, policy.scheduler) for policy in scheduling]


def _patience(scheduler: Scheduler) -> float:
    each = (*(workload.parameters for workload in scheduler.workloads), scheduler.default_workload_parameters)
    return max(parameters.queue_timeout for parameters in each)
