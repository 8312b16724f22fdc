"""One request on its way through the steps: what came in, and what the steps have found out so far."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from extproc.exchange.endings import REFUSALS, Ending, error_body
from extproc.exchange.values import HeaderList, LocalReply
from extproc.payload.document import Document
from extproc.pool.pool import Lease
from extproc.steps.admission import Admission, RequestFlow
from extproc.steps.head import RequestHead
from extproc.steps.protection import Rendered
from extproc.steps.routes import Backend, HostRoutes, RouteRule
from extproc.steps.watch import Guarding

JSON_TYPE = ("content-type", b"application/json")


@dataclass(slots=True, weakref_slot=True)
class Request:
    """Mutable state of one request; each step reads what earlier ones wrote."""

    head: RequestHead
    routes: HostRoutes
    candidates: tuple[RouteRule, ...]
    """Rules whose conditions on the headers hold, in order."""
    body_limit: int
    now: float
    expect: Callable[[str, int], tuple[int, int]]
    """Prompt and completion tokens that a model makes of so many bytes of prompt; 0 is unknown."""

    raw: bytes = b""
    """The body as it came."""
    body: bytes = b""
    """The body, decoded from its content encoding."""
    document: Document | None = None
    """None where there is no JSON body."""
    requested_model: str = ""
    prompt_bytes: int = 0

    rule: RouteRule | None = None
    backend: Backend | None = None
    target_model: str = ""
    stream: bool = False

    set_headers: list[tuple[str, bytes]] = field(default_factory=list)
    remove_headers: list[str] = field(default_factory=list)
    new_body: bytes | None = None
    strip_usage: bool = False
    endpoints: str = ""
    """Candidate endpoints, the chosen one first, as Envoy wants them."""
    lease: Lease | None = None
    subset: frozenset[str] | None = None
    """Addresses to which the gateway limits the choice of an endpoint; None: no limit."""
    guarding: Guarding | None = None
    """What security policies found; None where none applies."""
    flow: RequestFlow | None = None
    """Flow control; None where there are no policies for it."""
    admission: Admission | None = None
    envoy: Rendered | None = None
    """What Envoy says of itself; None of another gateway, which says nothing."""

    def forget_body(self) -> None:
        """The request is on its way: an answer may take minutes, and needs none of these bytes."""
        self.raw = self.body = b""
        self.document = self.new_body = None


def refuse(ending: Ending, message: str, *, code: str | None = None, param: str | None = None) -> LocalReply:
    """Sluice's own error answer: OpenAI's error object and the reason as a header."""
    refusal = REFUSALS[ending]
    headers: HeaderList = (JSON_TYPE, ("x-sluice-reason", (code or ending.value).encode()))
    if refusal.retry_after is not None:
        headers += (("retry-after", b"%d" % refusal.retry_after),)
    return LocalReply(ending, refusal.status, error_body(ending, message, code=code, param=param), headers)
