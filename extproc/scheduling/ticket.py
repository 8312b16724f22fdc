"""What a request holds (its ticket) and where it waits (its place). A flow hands them out."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal, Protocol

import msgspec

from extproc.scheduling.adaptive import AdaptiveLine
from extproc.scheduling.cache import AnswerCache
from extproc.scheduling.fair import Entry
from extproc.scheduling.job import Job, Spent
from extproc.scheduling.line import Line, Standing
from extproc.scheduling.outcome import Refused
from extproc.scheduling.ramp import Ramp
from extproc.scheduling.state.claims import CacheEntry, Claim, Claims, Lookup

CacheStatus = Literal["hit", "miss", "bypass", ""]
"""For `x-sluice-cache`; empty where no cache policy is for the request."""
PlaceOutcome = Literal["waiting", "admitted", "answered", "expired", "evicted", "impossible", "left"]
_OVERDUE = 1.0
"""Seconds after its deadline when a waiting request looks by itself: the flow's own timer serves all who wait."""


class Keeper(Protocol):
    """The flow, as tickets and places see it."""

    def settle(self, ticket: Ticket, end: End, now: float) -> None: ...

    def undo(self, ticket: Ticket, now: float | None) -> None: ...

    def tick(self, now: float) -> None: ...


class End(msgspec.Struct, frozen=True, kw_only=True):
    """How an exchange that was sent has ended."""

    usage: Spent | None = None
    """Real, or estimated where the destination worked without saying; None: it used nothing."""
    latency: float | None = None
    """Seconds from admission to the end of the answer."""
    ttft: float | None = None
    failed: bool = False
    """The destination answered with an error, or not at all. A client that leaves is no failure."""
    completed: bool = False
    """The answer, with status 200, came whole."""
    answer: bytes | None = None
    """That answer as unstreamed JSON, where a cache policy is for the request and no `cache-control` forbids it."""


class Ticket:
    """What one request holds. Exactly one of `settle` and `undo` takes effect, once; more calls are harmless."""

    __slots__ = (
        "adaptive",
        "admitted_at",
        "cache",
        "cache_status",
        "charged",
        "claims",
        "flow",
        "follows",
        "job",
        "leads",
        "lines",
        "lookup",
        "open",
        "place",
        "ramps",
        "stage",
        "standings",
        "waited",
    )

    def __init__(self, flow: Keeper, job: Job, ramps: tuple[Ramp, ...], lines: tuple[Line[FlowPlace], ...]) -> None:
        self.flow = flow
        self.job = job
        self.ramps = ramps
        self.lines = lines
        self.standings: list[Standing] = []
        """Of the lines passed or waited in, in order."""
        self.stage = 0
        """Index of the line that comes next."""
        self.claims: list[Claim] = []
        """Taken from the store."""
        self.charged: list[tuple[Line[FlowPlace], Standing]] = []
        """Lines that it was admitted to from the queue, and so paid for with its flow's turn. Where nobody waits, turns
        cost nothing."""
        self.adaptive: list[tuple[AdaptiveLine[FlowPlace], float]] = []
        """Taken from adaptive lines."""
        self.admitted_at: float | None = None
        """When the last adaptive line let it pass."""
        self.cache: AnswerCache | None = None
        self.lookup: Lookup | None = None
        self.leads = False
        """Identical requests wait for this one's answer."""
        self.follows = False
        """It found an identical request on its way when it came."""
        self.cache_status: CacheStatus = ""
        self.place: FlowPlace | None = None
        self.waited = 0.0
        """Seconds before it was admitted."""
        self.open = True

    def __repr__(self) -> str:
        return f"<Ticket {self.job.id} {'open' if self.open else 'settled'} {len(self.claims)} claims>"

    def settle(self, now: float, end: End | None = None) -> None:
        """The request was sent, and has ended in whatever way. Tokens are corrected to real usage, slots released.
        Of a request that still waits it is `undo`."""
        self.flow.settle(self, end or End(), now)

    def undo(self, now: float | None = None) -> None:
        """The request was never sent: everything goes back, its count included; from a queue it leaves."""
        self.flow.undo(self, now)


class Admitted(msgspec.Struct, frozen=True):
    """The request may be sent."""

    ticket: Ticket
    cache: CacheStatus = ""


class Hit(msgspec.Struct, frozen=True):
    """The answer is known. The ticket is settled when it has been given."""

    ticket: Ticket
    entry: CacheEntry


class FlowPlace:
    """One request's place, either in a line or (`joined`) behind an identical request. The driver sets `wake`, which is
    called once when the wait is over; `result` then says how it goes on (None after `leave`)."""

    __slots__ = ("deadline", "entry", "joined", "outcome", "result", "since", "ticket", "wake")

    work: ClassVar[None] = None
    longest: ClassVar[float] = 0.0

    def __init__(self, ticket: Ticket, now: float) -> None:
        self.ticket = ticket
        self.since = now
        self.deadline = now
        self.outcome: PlaceOutcome = "waiting"
        self.result: Admitted | Hit | Refused | None = None
        self.entry: Entry[FlowPlace] | None = None
        self.joined = False
        self.wake: Callable[[], None] = _nothing

    def __repr__(self) -> str:
        return f"<FlowPlace {self.ticket.job.id} {self.outcome} since={self.since:g}>"

    @property
    def over(self) -> bool:
        return self.outcome != "waiting"

    def pause(self, now: float) -> float:
        """Seconds until `retry` is due."""
        return max(0.0, self.deadline - now) + _OVERDUE

    def retry(self, now: float) -> None:
        """Time has passed: whoever can go on does, whoever has waited too long leaves."""
        self.ticket.flow.tick(now)

    def leave(self, now: float) -> None:
        """The client has gone: whatever the request holds goes back. Harmless once the ticket is settled."""
        self.ticket.undo(now)

    def end(self, outcome: PlaceOutcome, result: Admitted | Hit | Refused | None) -> None:
        """The flow's own: the wait is over."""
        self.outcome = outcome
        self.result = result
        self.wake()


class Prepared(msgspec.Struct, frozen=True):
    """A request whose `ask` a store has to decide."""

    ticket: Ticket
    ask: Claims


class Attempt(msgspec.Struct, frozen=True):
    """The head of a line, whose `ask` a store has to decide."""

    line: Line[FlowPlace]
    entry: Entry[FlowPlace]
    ask: Claims


Outcome = Admitted | Refused | FlowPlace | Hit


def _nothing() -> None:
    """Nobody awaits the place yet."""
