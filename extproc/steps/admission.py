"""Flow control as a request meets it, and where one request stands with it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from extproc.exchange.values import LocalReply
from extproc.payload.operations.operation import Operation
from extproc.prediction.features import Features
from extproc.prediction.predictor import LengthPrediction
from extproc.scheduling.job import Job
from extproc.scheduling.outcome import Refused
from extproc.scheduling.ticket import Outcome, Prepared, Ticket
from extproc.steps.labels import Labelling


class RequestFlow(Protocol):
    """Flow control of one configuration, as requests see it."""

    @property
    def labelling(self) -> Labelling: ...

    @property
    def predicts(self) -> bool:
        """Whether anything depends on how long an answer will be."""
        ...

    def clock(self) -> float: ...

    def predict(self, found: Features) -> LengthPrediction: ...

    def caches(self, labels: Mapping[str, str]) -> bool:
        """Whether a cache policy is for requests with these labels."""
        ...

    def new_id(self) -> str:
        """Unique among all replicas."""
        ...

    def enter(self, job: Job) -> Outcome | Prepared:
        """`Prepared` where the outcome has to be `ask`ed for."""
        ...

    def ask(self, prepared: Prepared) -> Awaitable[Outcome]: ...

    def learn(self, found: Features, tokens: int, now: float) -> None:
        """An answer has come to its end."""
        ...

    def changed(self) -> None:
        """A ticket was settled or undone: others may go on."""
        ...

    def beside(self, work: Callable[[], LocalReply]) -> Awaitable[LocalReply]:
        """Runs long work in a thread."""
        ...


@dataclass(slots=True)
class Admission:
    """Where one request stands with flow control. Whoever ends the exchange settles its ticket."""

    flow: RequestFlow
    job: Job
    features: Features | None
    """None: nothing is to be learned from its answer."""
    choices: int
    operation: Operation
    outcome: Outcome | Prepared
    entered: float
    passed: float | None = None
    """When flow control was done with it."""
    queued: bool = False
    """Whether it had to wait."""
    storable: bool = True
    """False once the answer itself says that it is not to be kept."""

    @property
    def ticket(self) -> Ticket | None:
        """What the request holds, or held; None where it was refused at once."""
        return None if isinstance(self.outcome, Refused) else self.outcome.ticket

    def waited(self, now: float) -> float:
        """Seconds, until `now` at the most."""
        return (now if self.passed is None else self.passed) - self.entered if self.queued else 0.0

    @property
    def policy(self) -> str:
        """Which policy refused it; empty where none did."""
        return self.outcome.policy if isinstance(self.outcome, Refused) else ""

    @property
    def cache(self) -> str:
        """What the client is told of the cache; empty where no policy for it applies."""
        ticket = self.ticket
        return "" if ticket is None else ticket.cache_status

    @property
    def keep(self) -> int:
        """Bytes of the answer that the cache would take; 0: it wants none."""
        ticket = self.ticket
        if ticket is None or ticket.cache is None or ticket.lookup is None:
            return 0
        return ticket.cache.policy.max_entry_bytes
