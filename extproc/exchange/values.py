"""What goes into and comes out of an exchange: plain values, no protocol buffers."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto

import msgspec

from extproc.exchange.endings import Ending
from extproc.payload.guard.fields import OpenFilter
from extproc.payload.operations.openai import CHAT
from extproc.payload.operations.operation import Operation

Headers = Mapping[str, bytes]
"""Lower-case name to value; several lines of one name are joined with a comma."""
HeaderList = tuple[tuple[str, bytes], ...]
Metadata = Mapping[str, Mapping[str, str | float | bool]]
"""Dynamic metadata: namespace, key, value."""


class BodyMode(Enum):
    """How Envoy is asked to send a response body."""

    NONE = auto()
    BUFFERED = auto()
    STREAMED = auto()


class ResponsePlan(msgspec.Struct, frozen=True):
    """What the answer to one request needs. Decided with the request, carried out when the answer comes."""

    count: bool = True
    """Read usage from the answer."""
    model: str | None = None
    """Name to put in place of the model in the answer."""
    envoy_counts: bool = False
    """Envoy counts the tokens of an event stream, and takes the usage chunk out if that has to be done; nothing else
    needs it. Other answers are read here."""
    strip_usage: bool = False
    """Take the usage chunk out again, because the client did not ask for it."""
    set_headers: HeaderList = ()
    remove_headers: tuple[str, ...] = ()
    """Lower-case names; a trailing `*` stands for every name with that prefix."""
    open_filter: OpenFilter | None = None
    """Makes the filter of each text of the answer; None: texts pass as they are."""
    fail_closed: bool = False
    """Nothing may pass that the filters have not seen."""
    watch_only: bool = False
    """Filters look at the texts, and what they make of them is not used."""
    refusal: str = ""
    """What the client reads in place of a text that a filter denied."""
    operation: Operation = CHAT
    stream: bool = False
    """Whether a stream was asked for."""
    keep: int = 0
    """Bytes of the answer, as unstreamed JSON, up to which it is kept whole for others; 0: it is not."""

    @property
    def edits_body(self) -> bool:
        return self.model is not None or self.strip_usage or self.open_filter is not None


def names_in(headers: Headers, patterns: tuple[str, ...]) -> tuple[str, ...]:
    """The headers that are there of those that `patterns` name, where a trailing `*` stands for every name with that
    prefix: Envoy removes exact names only."""
    names: list[str] = []
    for pattern in patterns:
        if pattern.endswith("*"):
            names += [name for name in headers if name.startswith(pattern[:-1]) and not name.startswith(":")]
        elif pattern in headers:
            names.append(pattern)
    return tuple(names)


class Decision(msgspec.Struct, frozen=True):
    """The request goes on to its destination, changed like this."""

    metadata: Metadata
    set_headers: HeaderList = ()
    remove_headers: tuple[str, ...] = ()
    body: bytes | None = None
    """None leaves the body as it came."""
    plan: ResponsePlan = ResponsePlan()


class LocalReply(msgspec.Struct, frozen=True):
    """Sluice answers in place of a destination: a refusal, or something it knows by itself."""

    ending: Ending
    status: int
    body: bytes
    headers: HeaderList = ()


class HeadersReply(msgspec.Struct, frozen=True):
    """Reply to the response headers."""

    mode: BodyMode = BodyMode.NONE
    set_headers: HeaderList = ()
    remove_headers: tuple[str, ...] = ()


class BodyReply(msgspec.Struct, frozen=True):
    """Reply to a piece of the response body."""

    body: bytes | None = None
    """None lets the piece through as it came."""
    set_headers: HeaderList = ()
    """Only of use where the whole body is buffered."""
    broken: bool = False
    """The answer had to be decoded for an edit and cannot be: what the client has of it must not look complete."""


UNCHANGED = BodyReply()
