"""Admitted load that follows the destination's health: down fast by what was observed, up again slowly.

Section 3 of the algorithms page. Overload: signal > setpoint. Then
`multiplier = observed acceptance x clamp((signal / setpoint) ** -1, 0.1, 1)`, otherwise +0.025 every 10 s up to 2.0,
where everything passes. Admission is by a bucket that fills at `incoming rate x multiplier`. The latency signals
compare a 30 s mean with 1.25 times an 1800 s mean.

What was admitted before a cut says nothing about the load after it. So a cut empties the short window, later answers to
earlier requests stay out of it, and until enough is known the multiplier holds: otherwise one backlog would be paid for
again every interval until it has drained, at the price of an idle destination.
"""

from __future__ import annotations

import math

import msgspec

from extproc.scheduling.fair import Order
from extproc.scheduling.job import Job
from extproc.scheduling.line import Line, Standing, Waiter
from extproc.scheduling.outcome import Kind
from extproc.scheduling.policy import AverageLatencyScheduling
from extproc.scheduling.state.bucket import SLACK
from extproc.scheduling.state.claims import Short, Store
from extproc.scheduling.status import PolicyState, Subject
from extproc.scheduling.window import WindowSum

_LEAST_SAMPLES = 5
"""Latencies within the short window below which nothing is concluded."""
_BURST = 1.0
"""Seconds of the admitted rate that may be saved up."""


class Adaptive:
    """The loop: signals in, multiplier out. Local to one replica, as its signals are."""

    def __init__(self, policy: AverageLatencyScheduling) -> None:
        self.policy = policy
        self.multiplier = policy.max_multiplier
        self.overloaded = False
        self._short = WindowSum(policy.short_term)
        self._long = WindowSum(policy.long_term)
        self._cut = -math.inf
        self._incoming = WindowSum(policy.short_term)
        self._asked = 0.0
        self._accepted = 0.0
        self._next: float | None = None
        self._since: float | None = None

    def __repr__(self) -> str:
        return f"<Adaptive x{self.multiplier:g}>"

    @property
    def open(self) -> bool:
        """Whether nothing is held back."""
        return self.multiplier >= self.policy.max_multiplier

    def observe(self, value: float, now: float, since: float | None = None) -> None:
        """A saturation, or a latency or TTFT in seconds of a request admitted at `since`, as the signal says."""
        if not math.isfinite(value) or value < 0:
            return
        if self.policy.signal != "saturation":
            self._long.add(value, now)
        if since is None or since >= self._cut:
            self._short.add(value, now)

    def asked(self, cost: float, now: float) -> None:
        """A request has come, whatever becomes of it."""
        if self._since is None:
            self._since = now
        self._incoming.add(cost, now)
        self._asked += cost

    def accepted(self, cost: float) -> None:
        self._accepted += cost

    def withdrawn(self, cost: float, now: float) -> None:
        """An accepted request did not go on, for reasons of others: as if it had not come."""
        self._incoming.add(-cost, now, -1)
        self._asked -= cost
        self._accepted -= cost

    def incoming_rate(self, now: float) -> float:
        """Cost per second; over the time there was where that is shorter than the window."""
        total = self._incoming.total(now)
        if self._since is None:
            return 0.0
        return total / min(self.policy.short_term, max(1.0, now - self._since))

    def usual_cost(self, now: float) -> float:
        """Mean cost of a request within the short window; 0 where none came."""
        return self._incoming.mean(now) or 0.0

    def signal(self, now: float) -> tuple[float, float] | None:
        """Signal and setpoint; None while too little is known."""
        if self.policy.signal == "saturation":
            mean = self._short.mean(now)
            return None if mean is None else (mean, self.policy.setpoint)
        short, long = self._short.mean(now), self._long.mean(now)
        if short is None or long is None or self._short.count < _LEAST_SAMPLES or long <= 0:
            return None
        return short, self.policy.tolerance * long

    def tick(self, now: float) -> bool:
        """Moves the multiplier if it is time. Whether it did."""
        interval = self.policy.interval
        if self._next is None or self._next > now + interval:  # the first, or the clock has stepped back
            self._next = now + interval
            return False
        if now < self._next:
            return False
        self._next = now + interval
        self._move(now)
        self._asked = self._accepted = 0.0
        return True

    def next_tick(self) -> float:
        """When the multiplier may move next; infinity before the first tick."""
        return math.inf if self._next is None else self._next

    def _move(self, now: float) -> None:
        policy, found = self.policy, self.signal(now)
        self.overloaded = found is not None and found[0] > found[1]
        if found is None and 0 <= now - self._cut < policy.short_term:
            return
        if found is None or not self.overloaded:
            self.multiplier = min(policy.max_multiplier, self.multiplier + policy.linear_increment)
            return
        signal, setpoint = found
        gradient = setpoint / signal if setpoint > 0 else 0.0
        gradient = min(policy.max_gradient, max(policy.min_gradient, gradient))
        acceptance = min(1.0, max(0.0, self._accepted / self._asked)) if self._asked > 0 else 1.0
        self.multiplier = min(policy.max_multiplier, acceptance * gradient)
        self._cut = now
        self._short = WindowSum(policy.short_term)


class AdaptiveLine(Line[Waiter]):
    """Requests wait where the loop admits fewer than come. Its bucket is local: it lends to one request at a time."""

    kind: Kind = "adaptive"
    local = True

    def __init__(self, policy: AverageLatencyScheduling, order: Order | None = None) -> None:
        super().__init__(policy, policy.unit, "predicted", order)
        self.loop = Adaptive(policy)
        self._level = 0.0
        self._at: float | None = None
        self._usual = 0.0
        """Mean cost of the requests that came lately."""

    def take(self, cost: float, now: float) -> float | None:
        """None: taken. Otherwise when it can be.

        A request that costs more than a second's fill needs no more than that; the rest is a debt. So no request is too
        large, and the rate is kept.
        """
        if not self.loop.open:
            level, rate = self._fill(now), self.rate(now)
            need = min(cost, rate * _BURST)
            if level + SLACK < need or rate <= 0:
                return now + (need - level) / rate if rate > 0 else math.inf
            self._level = level - cost
        self.loop.accepted(cost)
        return None

    def give(self, cost: float, now: float) -> None:
        """A request that was admitted here did not go on."""
        self.loop.withdrawn(cost, now)
        if not self.loop.open:
            self._level = self._fill(now) + cost

    def rate(self, now: float) -> float:
        """Never less than one usual request an interval: those show whether the destination has recovered."""
        self._usual = self.loop.usual_cost(now) or self._usual
        return max(self.loop.incoming_rate(now) * self.loop.multiplier, self._usual / self.loop.policy.interval)

    def wait(self, cost: float, now: float) -> float:
        """Seconds until a request of this cost could pass, were it the head."""
        rate = self.rate(now)
        if self.loop.open or rate <= 0:
            return 0.0
        return max(0.0, (min(cost, rate * _BURST) - self._fill(now) - SLACK) / rate)

    def status(self, store: Store, now: float) -> PolicyState:
        found = self.loop.signal(now)
        return msgspec.structs.replace(
            super().status(store, now),
            multiplier=self.loop.multiplier,
            overloaded=self.loop.overloaded,
            signal=found[0] if found is not None else None,
            setpoint=found[1] if found is not None else None,
        )

    def subject(self, _job: Job | None) -> Subject | None:
        return None

    def _held(self, _store: Store, _job: Job, standing: Standing, now: float) -> tuple[bool, float, Short | None]:
        ready = self.wait(standing.cost, now)
        return ready > 0, ready, None

    def tick(self, now: float) -> bool:
        """Whether the multiplier has moved; then the head may try again."""
        was_open = self.loop.open
        moved = self.loop.tick(now)
        if moved:
            self.blocked_until = -math.inf
            if was_open and not self.loop.open:
                self._level, self._at = 0.0, now
        return moved

    def _fill(self, now: float) -> float:
        rate = self.rate(now)
        if self._at is None:
            self._at = now
        if now > self._at:
            self._level = min(rate * _BURST, self._level + rate * (now - self._at))
            self._at = now
        return self._level
