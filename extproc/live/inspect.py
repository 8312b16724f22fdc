"""One place to look at flow control, and to command its ramps; live, or of a configuration that does not run."""

from __future__ import annotations

import time
from collections.abc import Callable
from random import Random

from msgspec.structs import replace

from extproc.accounting.estimator import Estimator
from extproc.live.build import build
from extproc.live.flow import FlowControl
from extproc.pool.policies import make_policy
from extproc.pool.pool import Pool
from extproc.resources.secrets import SecretStore
from extproc.resources.snapshot import Snapshot
from extproc.scheduling.ramp import Command
from extproc.scheduling.status import PolicyState
from extproc.steps.explain import Expect, Explained, WrittenRequest, explained
from extproc.steps.live import Live


class Inspection:
    """A `PolicyInspection` over what is in force at the moment of each question."""

    def __init__(self, control: FlowControl, live: Callable[[], Live], expect: Expect) -> None:
        """`expect` as in `Request`."""
        self._control = control
        self._live = live
        self._expect = expect

    def __repr__(self) -> str:
        return f"<Inspection {self._control!r}>"

    async def state(self) -> list[PolicyState]:
        return await self._control.states()

    async def command(self, name: str, command: Command) -> PolicyState:
        if not self._control.command(name, command):
            raise KeyError(name)
        return next(each for each in await self.state() if each.name == name)

    async def explain(self, asked: WrittenRequest) -> Explained:
        found, job = explained(self._live(), asked, self._expect, self._control.clock())
        return found if job is None else replace(found, policies=await self._control.explain(job))


async def explain_offline(snapshot: Snapshot, secrets: SecretStore, asked: WrittenRequest) -> Explained:
    """As if it were the first request: every bucket as at the start, nobody in a queue, no endpoint asked. What was
    learned of answers is read from the predictor's file, if the configuration names one."""
    gateway = replace(snapshot.gateway, spec=replace(snapshot.gateway.spec, shared_state=None))
    snapshot = replace(snapshot, gateway=gateway)
    control = FlowControl(time.monotonic)
    try:
        change = await control.prepare(snapshot, secrets)
        change.commit()
        live_flow = change.live_flow
        live = build(snapshot, secrets, {name: _pool(name) for name in snapshot.pools}, flow=live_flow)
        return await Inspection(control, lambda: live, Estimator().expect).explain(asked)
    finally:
        await control.stop()


def _pool(name: str) -> Pool:
    """Stands for a pool that nobody is sent to."""
    return Pool(name, make_policy("round-robin"), retry_count=0, stale_after=1.0, random=Random(0))  # noqa: S311
