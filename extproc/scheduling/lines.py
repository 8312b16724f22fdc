"""Requests on their way through the lines: who passes at once, who waits, who is next."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from extproc.scheduling.adaptive import AdaptiveLine
from extproc.scheduling.fair import Entry, QueueFull
from extproc.scheduling.line import Line, Standing
from extproc.scheduling.outcome import Reason
from extproc.scheduling.settle import give_back
from extproc.scheduling.state.claims import Claim, Claims, Grant, Short, Store, never
from extproc.scheduling.ticket import Admitted, Attempt, FlowPlace, PlaceOutcome, Ticket

RETRY = 1.0
"""Seconds after which the head of a line asks again whatever was said, as other replicas give back unheard."""


_OUTCOMES: Mapping[Reason, PlaceOutcome] = {"queue_timeout": "expired", "evicted": "evicted"}


class Lines:
    """The lines of one flow, in order."""

    def __init__(self, lines: Sequence[Line[FlowPlace]], store: Store, *, remote: bool) -> None:
        self._lines = tuple(lines)
        self._by_name = {line.policy.name: line for line in lines}
        self._store = store
        self._remote = remote
        self._again = False
        self._serving = False
        self._dropped: list[Ticket] = []
        self.dropped: Callable[[Ticket, float], None] = _nothing
        """Told of every request that its line has turned away, once the lines are at rest."""

    def __repr__(self) -> str:
        return f"<Lines {', '.join(map(repr, self._lines))}>"

    def plan(self, ticket: Ticket, now: float) -> list[tuple[Claim, ...]]:
        """Passes the local lines as far as nothing holds the request there; gives the claims for the lines behind
        them, as far as nobody waits in front of it."""
        groups: list[tuple[Claim, ...]] = []
        for at in range(ticket.stage, len(ticket.lines)):
            line = ticket.lines[at]
            standing = self._standing(ticket, at, now)
            if isinstance(line, AdaptiveLine):
                if not self._pass_local(line, ticket, standing, now):
                    break
                ticket.stage = at + 1
            elif line.queue.waiting and not line.policy.dry_run:
                break
            else:
                groups.append((line.claim(ticket.job),))
        return groups

    def passed(self, ticket: Ticket, number: int) -> None:
        """The store has granted the next `number` lines."""
        for line in ticket.lines[ticket.stage : ticket.stage + number]:
            line.tally.passed += 1
        ticket.stage += number

    def join(self, place: FlowPlace, short: Short | None, now: float) -> None:
        """The place waits in the line that comes next, or is turned away; `short` is why it did not pass at once."""
        ticket = place.ticket
        line = ticket.lines[ticket.stage]
        standing = self._standing(ticket, ticket.stage, now)
        if short is not None and short.claim.table == line.policy.name:
            if never(short):
                line.tally.refused += 1
                self._turn_away(place, line, "exceeds_quota", now)
                return
            line.hold(short, standing.cost, now + RETRY)
        queue = line.queue
        if queue.waiting >= queue.max_size and (victim := queue.victim(standing.priority)) is not None:
            queue.remove(victim)
            line.blocked_until = -math.inf
            line.tally.evicted += 1
            self._turn_away(victim.item, line, "evicted", now)
        try:
            place.entry = line.join(place, ticket.job, standing, now)
        except QueueFull:
            line.tally.refused += 1
            self._turn_away(place, line, "queue_full", now)
            return
        line.tally.queued += 1
        place.deadline = place.entry.deadline

    def proceed(self, place: FlowPlace, now: float) -> None:
        """The rest of the way for a request that has waited, for another's answer or in an earlier line. With a remote
        store it always queues, so that the store is asked in order."""
        ticket = place.ticket
        groups = self.plan(ticket, now)
        short = None
        if groups and not self._remote:
            answer = self._store.ask(Claims(lines=tuple(groups)), now)
            ticket.claims += answer.taken
            self.passed(ticket, answer.lines)
            self._count_dry(answer)
            short = answer.short
        if ticket.stage == len(ticket.lines):
            self._admit(place, now)
        else:
            self.join(place, short, now)

    def serve(self, now: float) -> None:
        """Expires who has waited too long and admits who is next, for as long as there is room."""
        if self._serving:
            self._again = True
            return
        self._serving = True
        try:
            self._again = True
            while self._again:
                self._again = False
                for line in self._lines:
                    if line.queue.waiting:
                        self._serve(line, now)
                while self._dropped:
                    self.dropped(self._dropped.pop(), now)
        finally:
            self._serving = False

    def attempts(self, now: float) -> list[Attempt]:
        """One for each line whose head may ask, unless it is asking already."""
        found: list[Attempt] = []
        for line in self._lines:
            if line.local or line.asking is not None or now < line.blocked_until:
                continue
            entry = line.head(now)
            if entry is not None:
                line.asking = entry
                found.append(Attempt(line, entry, Claims(lines=((line.claim(entry.item.ticket.job),),))))
        return found

    def answered(self, attempt: Attempt, answer: Grant, now: float) -> None:
        """The store's word on one head."""
        line, entry = attempt.line, attempt.entry
        line.asking = None
        ticket = entry.item.ticket
        ticket.claims += answer.taken
        self._count_dry(answer)
        if not entry.alive:
            give_back(ticket, self._store, now)
            line.blocked_until = -math.inf
        else:
            self._decide(line, entry, answer.short, now)
        self.serve(now)

    def abandon(self, ticket: Ticket, now: float) -> None:
        """The request is given up: out of its line, and everything back."""
        place = ticket.place
        if place is not None and place.outcome == "waiting":
            place.outcome = "left"
            if place.entry is not None and place.entry.alive:
                line = ticket.lines[ticket.stage]
                line.queue.remove(place.entry)
                line.tally.left += 1
                line.blocked_until = -math.inf  # another is next, and may need less
        self._release(ticket, now)

    def touch(self, ticket: Ticket) -> None:
        """Something has gone back: whoever is next in these lines may ask again."""
        for line in ticket.lines:
            line.blocked_until = -math.inf

    def withdraw_local(self, ticket: Ticket, now: float) -> None:
        """The request does not go on to the destination, for reasons of others."""
        for line, cost in ticket.adaptive:
            line.give(cost, now)
            line.blocked_until = -math.inf
        ticket.adaptive = []

    def would_wait(self, name: str) -> None:
        """A line under dry-run would have held a request."""
        self._by_name[name].tally.would_wait += 1

    def _count_dry(self, answer: Grant) -> None:
        for claim in answer.dry_short:
            self.would_wait(claim.table)

    def _serve(self, line: Line[FlowPlace], now: float) -> None:
        for entry in line.queue.expired(now):
            line.tally.expired += 1
            line.blocked_until = -math.inf  # another is next, and may need less
            self._turn_away(entry.item, line, "queue_timeout", now)
        if isinstance(line, AdaptiveLine):
            self._serve_local(line, now)
            return
        while not self._remote and now >= line.blocked_until and (head := line.head(now)) is not None:
            ticket = head.item.ticket
            answer = self._store.ask(Claims(lines=((line.claim(ticket.job),),)), now)
            ticket.claims += answer.taken
            self._decide(line, head, answer.short, now)

    def _serve_local(self, line: AdaptiveLine[FlowPlace], now: float) -> None:
        while now >= line.blocked_until and (entry := line.head(now)) is not None:
            at = line.take(entry.cost, now)
            if at is not None:
                line.blocked_until = at
                return
            entry.item.ticket.adaptive.append((line, entry.cost))
            entry.item.ticket.admitted_at = now
            self._decide(line, entry, None, now)

    def _decide(self, line: Line[FlowPlace], entry: Entry[FlowPlace], short: Short | None, now: float) -> None:
        """The head was granted, or was not."""
        place = entry.item
        if short is not None:
            if never(short):
                line.queue.remove(entry)
                line.tally.refused += 1
                self._turn_away(place, line, "exceeds_quota", now)
            else:
                line.hold(short, entry.cost, now + RETRY)
            return
        line.queue.admit(entry)
        line.tally.passed += 1
        place.ticket.charged.append((line, place.ticket.standings[place.ticket.stage]))
        place.ticket.stage += 1
        self.proceed(place, now)
        self._again = True

    def _admit(self, place: FlowPlace, now: float) -> None:
        place.ticket.waited = now - place.since
        place.end("admitted", Admitted(place.ticket, place.ticket.cache_status))

    def _turn_away(self, place: FlowPlace, line: Line[FlowPlace], reason: Reason, now: float) -> None:
        refused = line.refusal(reason, place.ticket.standings[place.ticket.stage], now)
        self._release(place.ticket, now)
        self._dropped.append(place.ticket)
        place.end(_OUTCOMES.get(reason, "impossible"), refused)

    def _release(self, ticket: Ticket, now: float) -> None:
        ticket.open = False
        give_back(ticket, self._store, now)
        self.withdraw_local(ticket, now)
        self.touch(ticket)
        self._again = True

    def _pass_local(self, line: AdaptiveLine[FlowPlace], ticket: Ticket, standing: Standing, now: float) -> bool:
        """Whether the request goes through; under dry-run it always does."""
        waits = line.queue.waiting > 0 or line.take(standing.cost, now) is not None
        if waits and not line.policy.dry_run:
            return False
        if waits:
            line.tally.would_wait += 1
            line.loop.accepted(standing.cost)
        else:
            line.tally.passed += 1
        ticket.adaptive.append((line, standing.cost))
        ticket.admitted_at = now
        return True

    def _standing(self, ticket: Ticket, at: int, now: float) -> Standing:
        """Computed once per line; then, too, an adaptive line learns that the request has come."""
        if at < len(ticket.standings):
            return ticket.standings[at]
        line = ticket.lines[at]
        standing = line.standing(ticket.job)
        ticket.standings.append(standing)
        if isinstance(line, AdaptiveLine):
            line.loop.asked(standing.cost, now)
        return standing


def _nothing(_ticket: Ticket, _now: float) -> None:
    """Nobody wants to know."""
