"""The configuration in the form that requests use. Immutable: a request keeps the one it began with."""

from __future__ import annotations

from dataclasses import dataclass, field

from extproc.steps.admission import RequestFlow
from extproc.steps.identity import Identity
from extproc.steps.routes import RouteTable


@dataclass(frozen=True, slots=True)
class Live:
    table: RouteTable
    identity: Identity = field(default_factory=Identity)
    body_limit: int = 32 * 2**20
    """Bytes of a request body, decoded."""
    bodies_limit: int = 1 << 30
    """Bytes of request bodies that are held at one time, over all requests."""
    response_limit: int = 32 * 2**20
    """Bytes of a JSON answer held for editing."""
    longest_wait: float = 0.0
    """Seconds that a request may wait in queues, all together."""
    reads_claims: bool = False
    """Whether any rule looks at JWT claims."""
    flow: RequestFlow | None = None
    """Flow control; None where there are no policies for it."""
    digest: str = ""
    """Of what Envoy has to be rendered from."""
