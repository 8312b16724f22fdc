"""Identical requests in flight become one: who waits for whose answer."""

from __future__ import annotations

import math
from heapq import heapify, heappop, heappush

from extproc.scheduling.cache import AnswerCache, Flight, keepable
from extproc.scheduling.lines import Lines
from extproc.scheduling.state.claims import CacheEntry, Store
from extproc.scheduling.ticket import End, FlowPlace, Hit, Ticket

_SPARE = 64


class Flights:
    """Joins requests to the one in flight and lets them go again. Local to one replica."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        lines.dropped = self.abandoned
        self._deadlines: list[tuple[float, int, FlowPlace]] = []
        self._number = 0
        self._joined = 0

    def __repr__(self) -> str:
        return f"<Flights {self._joined} joined>"

    def would_join(self, ticket: Ticket) -> bool:
        """Whether a request like this is on its way. If none is, this one leads."""
        cache, key = _place_of(ticket)
        flight: Flight[Ticket, FlowPlace] | None = cache.flights.get(key)
        if flight is None:
            cache.flights[key] = Flight(ticket)
            ticket.leads = True
            return False
        return len(flight.followers) < cache.policy.max_joined

    def join(self, place: FlowPlace, now: float) -> bool:
        """Whether the place waits behind an identical request; if there is none any more, this one leads."""
        cache, key = _place_of(place.ticket)
        flight: Flight[Ticket, FlowPlace] | None = cache.flights.get(key)
        if flight is None:
            cache.flights[key] = Flight(place.ticket)
            place.ticket.leads = True
            return False
        if len(flight.followers) >= cache.policy.max_joined:
            return False
        place.joined = True
        place.deadline = now + cache.policy.join_timeout
        flight.followers[place] = None
        self._joined += 1
        self._number += 1
        heappush(self._deadlines, (place.deadline, self._number, place))
        if len(self._deadlines) > 2 * self._joined + _SPARE:
            self._deadlines = [item for item in self._deadlines if item[2].joined]
            heapify(self._deadlines)
        return True

    def found(self, ticket: Ticket, entry: CacheEntry, now: float) -> None:
        """Another replica has put the answer into the cache meanwhile."""
        self._answer(ticket, entry)

    def landed(self, ticket: Ticket, end: End, store: Store, now: float) -> None:
        """The request was sent and has ended: its answer is kept, and given to those who wait for it."""
        cache, lookup = ticket.cache, ticket.lookup
        if cache is None or lookup is None or ticket.cache_status == "hit":
            return
        answer, policy, usage = end.answer, cache.policy, end.usage
        fits = answer is not None and end.completed and len(answer) <= policy.max_entry_bytes
        if answer is not None and fits and keepable(answer, policy.safe_tools):
            prompt, completion = (usage.prompt_tokens, usage.completion_tokens) if usage is not None else (0, 0)
            entry = CacheEntry(answer, prompt, completion, now, now + policy.ttl)
            store.keep(lookup, entry, cache.bounds, now)
            self._answer(ticket, entry)
        elif ticket.leads and end.completed:
            self._scatter(ticket, now)
        else:
            self.abandoned(ticket, now)

    def abandoned(self, ticket: Ticket, now: float) -> None:
        """No answer will come from this request: the first of those who wait for it is sent in its place."""
        if ticket.cache is None or ticket.lookup is None:
            return
        key = ticket.lookup.key
        flight: Flight[Ticket, FlowPlace] | None = ticket.cache.flights.get(key)
        if flight is None:
            return
        if ticket.place is not None and ticket.place.joined:
            del flight.followers[ticket.place]
            self._part(ticket.place)
        while flight.leader is ticket or not flight.leader.open:
            flight.leader.leads = False
            if not flight.followers:
                del ticket.cache.flights[key]
                return
            first = next(iter(flight.followers))
            del flight.followers[first]
            self._part(first)
            flight.leader = first.ticket
            first.ticket.leads = True
            self._lines.proceed(first, now)

    def expire(self, now: float) -> None:
        """Those who have waited long enough for another's answer go by themselves."""
        while self._deadlines and (self._deadlines[0][0] <= now or not self._deadlines[0][2].joined):
            place = heappop(self._deadlines)[2]
            if place.joined:
                cache, key = _place_of(place.ticket)
                flight = cache.flights[key]
                del flight.followers[place]
                self._part(place)
                flight.leader.leads = False  # too slow, or lost: whoever comes now waits for this one
                flight.leader = place.ticket
                place.ticket.leads = True
                self._lines.proceed(place, now)

    def next_deadline(self) -> float:
        """Infinity while nobody waits for another's answer."""
        while self._deadlines and not self._deadlines[0][2].joined:
            heappop(self._deadlines)
        return self._deadlines[0][0] if self._deadlines else math.inf

    def _answer(self, ticket: Ticket, entry: CacheEntry) -> None:
        """Whoever brought the answer, all who wait for it get it."""
        cache, key = _place_of(ticket)
        flight: Flight[Ticket, FlowPlace] | None = cache.flights.get(key)
        if flight is None:
            return
        followers, flight.followers = flight.followers, {}
        if flight.leader is ticket:
            ticket.leads = False
            del cache.flights[key]
        for place in followers:
            cache.tally.hits += 1
            cache.tally.misses -= 1
            self._part(place)
            place.ticket.cache_status = "hit"
            place.end("answered", Hit(place.ticket, entry))

    def _scatter(self, ticket: Ticket, now: float) -> None:
        """The answer is whole and not for others, so theirs will not be either."""
        cache, key = _place_of(ticket)
        ticket.leads = False
        for place in cache.flights.pop(key).followers:
            self._part(place)
            self._lines.proceed(place, now)

    def _part(self, place: FlowPlace) -> None:
        place.joined = False
        self._joined -= 1


def _place_of(ticket: Ticket) -> tuple[AnswerCache, str]:
    assert ticket.cache is not None and ticket.lookup is not None  # noqa: S101 -- only such tickets come here
    return ticket.cache, ticket.lookup.key
