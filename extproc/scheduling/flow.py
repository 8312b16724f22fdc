"""All policies together, in one visible order, over one store.

    ramp (403) -> rate limits and concurrency limits (429) -> cache (a hit skips the rest)
    -> adaptive -> quotas -> slots (503/429, each may wait)

What may wait holds as little as possible meanwhile: the adaptive lines, which hold nothing shared, come first, and
slots last. A request that is refused anywhere, or leaves, gives back all that it took.

With a store in this process `enter` and `tick` do everything. With a remote store its caller does the asking:
`prepare`, then `finish` with the answer; and after `tick` or `settle` the `attempts`, each then `answered`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from extproc.scheduling.adaptive import AdaptiveLine
from extproc.scheduling.cache import AnswerCache
from extproc.scheduling.fair import Order
from extproc.scheduling.flights import Flights
from extproc.scheduling.job import Job
from extproc.scheduling.limits import ConcurrencyLimit, RateLimit
from extproc.scheduling.line import Line
from extproc.scheduling.lines import Lines
from extproc.scheduling.outcome import Refused
from extproc.scheduling.policy import Policies
from extproc.scheduling.quota import QuotaLine
from extproc.scheduling.ramp import Ramp
from extproc.scheduling.settle import give_back, settle_claims, settle_signals
from extproc.scheduling.slots import SlotLine
from extproc.scheduling.state.claims import Claims, Grant, Short, Store
from extproc.scheduling.state.memory import MemoryStore
from extproc.scheduling.ticket import Admitted, Attempt, End, FlowPlace, Hit, Outcome, Prepared, Ticket

Part = Ramp | RateLimit | ConcurrencyLimit | AnswerCache | Line[FlowPlace]
Kept = TypeVar(
    "Kept",
    Ramp,
    RateLimit,
    ConcurrencyLimit,
    AnswerCache,
    AdaptiveLine[FlowPlace],
    QuotaLine[FlowPlace],
    SlotLine[FlowPlace],
)


class Flow:
    """One configuration's policies. A `Keeper`."""

    def __init__(
        self,
        policies: Policies,
        now: float,
        *,
        store: Store | None = None,
        remote: bool = False,
        orders: Mapping[str, Order] | None = None,
        before: Flow | None = None,
    ) -> None:
        """`orders`: the order within a flow, by policy, for those with `ordering: shortest`. `before`: the flow of the
        configuration so far; policies that have not changed go on as they are, with their queues, multipliers and
        ramps, and this flow is to be ticked as soon as it takes over. `remote`: the store is not asked here but by
        whoever calls.
        """
        self.policies = policies
        self.store: Store = store if store is not None else before.store if before is not None else MemoryStore()
        old: dict[str, Part] = {part.policy.name: part for part in before.parts} if before is not None else {}
        orders = orders or {}

        def kept(new: Kept) -> Kept:
            part = old.get(new.policy.name)
            return part if isinstance(part, type(new)) and part.policy == new.policy else new

        self.ramps = tuple(kept(Ramp(policy, now)) for policy in policies.ramps)
        self.rates = tuple(kept(RateLimit(policy)) for policy in policies.rates)
        self.concurrency = tuple(kept(ConcurrencyLimit(policy)) for policy in policies.concurrency)
        self.caches = tuple(kept(AnswerCache(policy)) for policy in policies.caches)
        self.adaptive = tuple(kept(AdaptiveLine[FlowPlace](p, orders.get(p.name))) for p in policies.adaptive)
        quotas = tuple(kept(QuotaLine[FlowPlace](p, orders.get(p.name))) for p in policies.quotas)
        slots = tuple(kept(SlotLine[FlowPlace](p, orders.get(p.name))) for p in policies.slots)
        self.lines: tuple[Line[FlowPlace], ...] = (*self.adaptive, *quotas, *slots)
        self.parts: tuple[Part, ...] = (*self.ramps, *self.rates, *self.concurrency, *self.caches, *self.lines)
        limits: tuple[RateLimit | ConcurrencyLimit, ...] = (*self.rates, *self.concurrency)
        self._limits = {limit.policy.name: limit for limit in limits}
        self._tokens = frozenset(p.name for p in (*policies.rates, *policies.quotas) if p.unit == "tokens")
        self._queues = Lines(self.lines, self.store, remote=remote)
        self._flights = Flights(self._queues)
        self._last = now
        if before is None:
            self.tick(now)

    def __repr__(self) -> str:
        return f"<Flow of {len(self.parts)} policies>"

    @property
    def idle(self) -> bool:
        """Whether nobody waits. A flow that was replaced is ticked until it is."""
        return not any(line.queue.waiting for line in self.lines) and not any(cache.flights for cache in self.caches)

    def enter(self, job: Job, now: float) -> Outcome:
        """One request, with the store in this process."""
        prepared = self.prepare(job, now)
        if isinstance(prepared, Refused):
            return prepared
        return self.finish(prepared, self.store.ask(prepared.ask, now), now)

    def prepare(self, job: Job, now: float) -> Prepared | Refused:
        """The question to the store. `finish` follows in any case, even if the request has gone meanwhile."""
        self._last = now
        labels = job.labels
        ramps = tuple(ramp for ramp in self.ramps if ramp.match(labels))
        for ramp in ramps:
            if ramp.accepts(job, now):
                ramp.tally.passed += 1
            elif ramp.policy.dry_run:
                ramp.tally.would_refuse += 1
            else:
                ramp.tally.refused += 1
                return ramp.refusal()
        ticket = Ticket(self, job, ramps, tuple(line for line in self.lines if line.match(labels)))
        limits = tuple(limit.claim(job) for limit in self._limits.values() if limit.match(labels))
        self._look_for_cache(ticket, now)
        lookup = ticket.lookup if ticket.cache is not None and not ticket.cache.policy.dry_run else None
        groups = () if ticket.follows else tuple(self._queues.plan(ticket, now))
        return Prepared(ticket, Claims(limits, lookup, groups))

    def finish(self, prepared: Prepared, answer: Grant, now: float) -> Outcome:
        """How the request goes on, given the store's answer."""
        ticket = prepared.ticket
        ticket.claims += answer.taken
        self._count(prepared, answer)
        if not ticket.open:
            give_back(ticket, self.store, now)
            self._queues.touch(ticket)
            return Refused(policy="", kind="slots", reason="left", status=503)
        short = answer.short
        if short is not None and (limit := self._limits.get(short.claim.table)) is not None:
            self.undo(ticket, now)
            return limit.refusal(short, now)
        cache = ticket.cache
        if cache is not None and not cache.policy.dry_run:
            if answer.entry is not None:
                return self._hit(ticket, answer, now)
            cache.tally.misses += 1
            if ticket.follows:
                return self._wait(ticket, None, now)
        self._queues.passed(ticket, answer.lines)
        if ticket.stage == len(ticket.lines):
            return Admitted(ticket, ticket.cache_status)
        return self._wait(ticket, short, now)

    def tick(self, now: float) -> None:
        """Time has passed: multipliers and ramps move, waiting requests go on or expire."""
        self._last = now
        for line in self.adaptive:
            line.tick(now)
        for ramp in self.ramps:
            ramp.tick(now)
        self._flights.expire(now)
        self._queues.serve(now)

    def next_event(self) -> float:
        """When `tick` has something to do, at the latest; infinity: not before something else happens."""
        times = [self._flights.next_deadline()]
        times += [line.loop.next_tick() for line in self.adaptive]
        times += [ramp.next_tick() for ramp in self.ramps]
        times += [line.next_event() for line in self.lines]
        return min(times)

    def attempts(self, now: float) -> list[Attempt]:
        """The questions to a remote store for those who are next in their lines; each is `answered`."""
        return self._queues.attempts(now)

    def answered(self, attempt: Attempt, answer: Grant, now: float) -> None:
        """Admits the head of a line or lets it wait on. More `attempts` may follow."""
        self._queues.answered(attempt, answer, now)

    def settle(self, ticket: Ticket, end: End, now: float) -> None:
        """See `Ticket.settle`."""
        if not ticket.open:
            return
        if ticket.place is not None and ticket.place.outcome == "waiting":
            self.undo(ticket, now)
            return
        ticket.open = False
        self._last = now
        settle_claims(ticket, end, self._tokens, self.store, now)
        settle_signals(ticket, end, now)
        self._queues.touch(ticket)
        self._queues.serve(now)
        self._flights.landed(ticket, end, self.store, now)
        self._queues.serve(now)

    def undo(self, ticket: Ticket, now: float | None = None) -> None:
        """See `Ticket.undo`."""
        if not ticket.open:
            return
        now = self._last if now is None else now
        self._queues.abandon(ticket, now)
        self._flights.abandoned(ticket, now)
        self._queues.serve(now)

    def _look_for_cache(self, ticket: Ticket, now: float) -> None:
        """Where the answer would be, and whether an identical request is on its way already."""
        job = ticket.job
        cache = next((cache for cache in self.caches if cache.match(job.labels)), None)
        if cache is None:
            return
        if not job.cache_key:
            ticket.cache_status = "bypass"
            return
        ticket.cache, ticket.lookup = cache, cache.lookup(job)
        if cache.policy.dry_run:
            found = self.store.look_up(ticket.lookup, now)
            cache.tally.hits += found is not None
            cache.tally.misses += found is None
            return
        ticket.cache_status = "miss"
        ticket.follows = self._flights.would_join(ticket)

    def _hit(self, ticket: Ticket, answer: Grant, now: float) -> Hit:
        assert answer.entry is not None and ticket.cache is not None  # noqa: S101 -- the caller has looked
        ticket.cache.tally.hits += 1
        ticket.cache_status = "hit"
        self._queues.withdraw_local(ticket, now)
        self._flights.found(ticket, answer.entry, now)
        return Hit(ticket, answer.entry)

    def _wait(self, ticket: Ticket, short: Short | None, now: float) -> Outcome:
        place = ticket.place = FlowPlace(ticket, now)
        if not ticket.follows:
            self._queues.join(place, short, now)
        elif not self._flights.join(place, now):
            self._queues.proceed(place, now)
        self._queues.serve(now)
        if place.outcome == "waiting":
            return place
        result = place.result
        assert result is not None  # noqa: S101 -- nobody can have left yet
        return result

    def _count(self, prepared: Prepared, answer: Grant) -> None:
        """What the limits did, and every policy under dry-run."""
        short = answer.short
        refused = self._limits.get(short.claim.table) if short is not None else None
        if refused is not None:
            refused.tally.refused += 1
        else:
            for claim in prepared.ask.limits:
                if not claim.dry:
                    self._limits[claim.table].tally.passed += 1
        for claim in answer.dry_short:
            if (limit := self._limits.get(claim.table)) is not None:
                limit.tally.would_refuse += 1
            else:
                self._queues.would_wait(claim.table)
