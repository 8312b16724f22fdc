"""One request on its way through the steps: what came in, and what the steps have found out so far."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from extproc.exchange.endings import REFUSALS, Ending, error_body
from extproc.exchange.values import HeaderList, Headers, LocalReply
from extproc.payload.chat import Operation, operation_of
from extproc.payload.document import Document
from extproc.pool.pool import Lease
from extproc.steps.routes import Backend, HostRoutes, RouteRule

if TYPE_CHECKING:
    from extproc.steps.admit import Admission, RequestFlow
    from extproc.steps.guard import Guarding

JSON_TYPE = ("content-type", b"application/json")


class RequestHead:
    """The request's headers, decoded as far as somebody asks."""

    __slots__ = ("claims", "headers", "host", "method", "operation", "path", "source", "source_labels")

    def __init__(self, headers: Headers, claims: Mapping[str, object] | None = None) -> None:
        self.headers = headers
        self.claims = claims or {}
        self.method = headers.get(":method", b"").decode("latin-1")
        self.path = headers.get(":path", b"/").decode("latin-1")
        self.host = _without_port(headers.get(":authority", b"").decode("latin-1").lower())
        self.operation: Operation = operation_of(self.path)
        if self.operation is Operation.OTHER and self.is_bare and self.method == "POST":
            self.operation = Operation.CHAT_COMPLETIONS
        self.source = ""
        self.source_labels: Mapping[str, str] = {}

    @property
    def is_websocket(self) -> bool:
        return self.headers.get("upgrade", b"").lower() == b"websocket"

    @property
    def is_bare(self) -> bool:
        """Whether the client wrote nothing but the host: `curl http://provider-host -d …` means a chat."""
        return self.path.partition("?")[0] in ("", "/")

    def text(self, name: str) -> str | None:
        """A header's value; bytes that are not UTF-8 are kept as Latin-1, so that no header can fail a request."""
        value = self.headers.get(name)
        if value is None:
            return None
        try:
            return value.decode()
        except UnicodeDecodeError:
            return value.decode("latin-1")


def _without_port(authority: str) -> str:
    if authority.startswith("["):
        return authority.partition("]")[0] + "]"
    return authority.partition(":")[0]


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
