"""A load ramp: a growing share of requests is let through, forward, back or held by feedback or by hand.

Progress is a position in seconds along the steps. Between two steps the share is linear. Going forward moves the
position with the clock, going backward against it, at the same speed; a reset puts it to 0. Forward and backward
together hold. Sticky: a request is accepted if the hash of its label value falls under the share, so whoever is in
stays in while the share grows.
"""

from __future__ import annotations

from typing import Literal

import msgspec
import xxhash

from extproc.scheduling.job import Job
from extproc.scheduling.labels import compile_match
from extproc.scheduling.outcome import Kind, Refused, Tally
from extproc.scheduling.policy import Criterion, LoadRamping
from extproc.scheduling.state.claims import Store
from extproc.scheduling.status import Explanation, PolicyState, Subject
from extproc.scheduling.window import WindowSum

Command = Literal["auto", "forward", "backward", "hold", "reset"]
"""What a person asks for. `auto` gives the ramp back to its criteria; `reset` goes to the start and holds there."""
_FINE = 1 << 32
_LEAST_SAMPLES = 3
"""Requests within the window below which criteria are not judged, and the ramp holds."""


class RampState(msgspec.Struct, frozen=True):
    """Everything that replicas share about a ramp. The higher `version` wins; of equal ones, the higher position."""

    position: float = 0.0
    direction: Literal[-1, 0, 1] = 0
    at: float = 0.0
    """When `position` was right."""
    command: Command = "auto"
    version: int = 0


class Ramp:
    """One LoadRampingPolicy. It keeps nothing in the store."""

    kind: Kind = "ramp"

    def __init__(self, policy: LoadRamping, now: float) -> None:
        self.policy = policy
        self.match = compile_match(policy.match)
        self.tally = Tally()
        self.length = sum(step.duration for step in policy.steps)
        self.state = RampState(at=now, direction=self._undriven())
        self._errors = WindowSum(policy.interval)
        self._latency = WindowSum(policy.interval)
        self._next = now + policy.interval

    def __repr__(self) -> str:
        return f"<Ramp {self.policy.name} {self.state!r}>"

    def position(self, now: float) -> float:
        state = self.state
        return min(self.length, max(0.0, state.position + state.direction * max(0.0, now - state.at)))

    def percentage(self, now: float) -> float:
        """Share of requests that is accepted, 0..100."""
        return self._at_step(now)[1]

    def step(self, now: float) -> int:
        """Index of the step that the ramp is in."""
        return self._at_step(now)[0]

    def accepts(self, job: Job, now: float) -> bool:
        label = self.policy.sticky_label_key
        who = job.labels.get(label) or job.id if label else job.id
        drawn = xxhash.xxh3_64_intdigest(f"{self.policy.name}\0{who}".encode("utf-8", "surrogatepass")) % _FINE
        return drawn < self.percentage(now) / 100 * _FINE

    def status(self, _store: Store, now: float) -> PolicyState:
        return PolicyState(
            name=self.policy.name,
            kind=self.kind,
            dry_run=self.policy.dry_run,
            counts=self.tally.counts(),
            percentage=self.percentage(now),
            step=self.step(now),
            command=self.state.command,
            direction=self.state.direction,
        )

    def explain(self, _store: Store, job: Job, now: float) -> Explanation:
        accepts, share = self.accepts(job, now), f"{self.percentage(now):.1f} % are let through"
        return Explanation(
            policy=self.policy.name,
            kind=self.kind,
            says="pass" if accepts else "refuse",
            dry_run=self.policy.dry_run,
            detail=share if accepts else f"ramped_out; {share}",
        )

    def subject(self, _job: Job | None) -> Subject | None:
        return None

    def refusal(self) -> Refused:
        return Refused(
            policy=self.policy.name,
            kind="ramp",
            reason="ramped_out",
            status=self.policy.denied_status,
            retry_after=None,
        )

    def observe(self, now: float, *, failed: bool, latency: float | None) -> None:
        """How a request that was let through has ended."""
        self._errors.add(1.0 if failed else 0.0, now)
        if latency is not None:
            self._latency.add(latency, now)

    def command(self, command: Command, now: float) -> None:
        """By hand; overrides the criteria until `auto`."""
        position = 0.0 if command == "reset" else self.position(now)
        directions: dict[Command, Literal[-1, 0, 1]] = {"forward": 1, "backward": -1, "auto": self._undriven()}
        self._change(position, directions.get(command, 0), command, now)

    def tick(self, now: float) -> bool:
        """Judges the criteria if it is time. Whether the shared state has changed."""
        if now < self._next and self._next - now <= self.policy.interval:
            return False
        self._next = now + self.policy.interval
        if self.state.command != "auto" or not self._driven():
            return False
        before = self.state
        enough = self._errors.number(now) >= _LEAST_SAMPLES
        if enough and self._exceeds(self.policy.reset, now):
            if self.position(now) > 0:
                self._change(0.0, 0, "auto", now)
            return self.state is not before
        backward = enough and self._exceeds(self.policy.backward, now)
        if self.policy.forward is None:
            forward = self.policy.start and not backward
        else:
            forward = enough and not self._exceeds(self.policy.forward, now)
        direction: Literal[-1, 0, 1] = 0 if forward == backward else 1 if forward else -1
        if direction != before.direction:
            self._change(self.position(now), direction, "auto", now)
        return self.state is not before

    def next_tick(self) -> float:
        return self._next

    def adopt(self, state: RampState) -> None:
        """Another replica's view; the newer one wins."""
        mine = self.state
        if (state.version, state.position) > (mine.version, mine.position):
            self.state = state

    def _change(self, position: float, direction: Literal[-1, 0, 1], command: Command, now: float) -> None:
        self.state = RampState(position, direction, now, command, self.state.version + 1)

    def _driven(self) -> bool:
        policy = self.policy
        return not (policy.forward is None and policy.backward is None and policy.reset is None)

    def _undriven(self) -> Literal[0, 1]:
        return 1 if self.policy.start and not self._driven() else 0

    def _exceeds(self, criterion: Criterion | None, now: float) -> bool:
        if criterion is None:
            return False
        rate, latency = self._errors.mean(now), self._latency.mean(now)
        over_rate = criterion.error_rate is not None and rate is not None and rate > criterion.error_rate
        return over_rate or (criterion.latency is not None and latency is not None and latency > criterion.latency)

    def _at_step(self, now: float) -> tuple[int, float]:
        """Step and share. The first step holds its own target for its duration, the others approach theirs."""
        rest = self.position(now)
        steps = self.policy.steps
        share = steps[0].target_accept_percentage
        for index, step in enumerate(steps):
            if rest < step.duration or index == len(steps) - 1:
                done = min(1.0, rest / step.duration) if step.duration > 0 else 1.0
                return index, share + (step.target_accept_percentage - share) * done
            rest -= step.duration
            share = step.target_accept_percentage
        raise AssertionError("a ramp has at least one step")
