"""A number of slots for all: beyond it requests wait by priority."""

from __future__ import annotations

from extproc.scheduling.fair import Order
from extproc.scheduling.job import Job
from extproc.scheduling.line import Line, Waiter
from extproc.scheduling.outcome import Kind
from extproc.scheduling.policy import ConcurrencyScheduling
from extproc.scheduling.state.claims import SlotClaim
from extproc.scheduling.window import WindowSum

_WINDOW = 30.0


class SlotLine(Line[Waiter]):
    """One ledger. How fast it serves is measured."""

    kind: Kind = "slots"

    def __init__(self, policy: ConcurrencyScheduling, order: Order | None = None) -> None:
        super().__init__(policy, policy.unit, "predicted", order)
        self._config = policy
        self._served = WindowSum(_WINDOW)

    def claim(self, job: Job) -> SlotClaim:
        config = self._config
        return SlotClaim(
            config.name, "", job.id, config.max_concurrency, config.max_inflight_duration, dry=config.dry_run
        )

    @property
    def slots(self) -> int:
        return self._config.max_concurrency

    def served(self, cost: float, now: float) -> None:
        """A request of this cost has given its slot back."""
        self._served.add(cost, now)

    def rate(self, now: float) -> float:
        return self._served.total(now) / _WINDOW
