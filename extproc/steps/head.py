"""The head of a request, decoded as far as somebody asks."""

from __future__ import annotations

from collections.abc import Mapping

from extproc.exchange.values import Headers
from extproc.payload.operations.openai import CHAT
from extproc.payload.operations.operation import Call, Operation, Streams
from extproc.payload.operations.table import OTHER, call_of

CLIENT_CREDENTIALS = ("authorization", "x-api-key", "api-key", "proxy-authorization", "cookie")
"""Never sent to a provider."""


class RequestHead:
    """The request's headers, decoded as far as somebody asks."""

    __slots__ = ("call", "claims", "headers", "host", "method", "operation", "path", "source", "source_labels")

    def __init__(self, headers: Headers, claims: Mapping[str, object] | None = None) -> None:
        self.headers = headers
        self.claims = claims or {}
        self.method = headers.get(":method", b"").decode("latin-1")
        self.path = headers.get(":path", b"/").decode("latin-1")
        self.host = _without_port(headers.get(":authority", b"").decode("latin-1").lower())
        self.call: Call = call_of(self.method, self.path)
        self.operation: Operation = self.call.operation
        if self.operation is OTHER and self.is_bare and self.method == "POST":
            self.operation = CHAT
        self.source = ""
        self.source_labels: Mapping[str, str] = {}

    @property
    def is_websocket(self) -> bool:
        return self.headers.get("upgrade", b"").lower() == b"websocket"

    @property
    def plain_path(self) -> str:
        """Without its query, in the spelling that destinations know."""
        return self.call.path or self.path.partition("?")[0]

    @property
    def asks_stream(self) -> bool:
        """Whether path, query or `accept` say that the answer will be streamed."""
        streams = self.operation.streams
        if streams is Streams.ALWAYS or self.is_websocket:
            return True
        if streams not in (Streams.QUERY, Streams.UNKNOWN):
            return False
        query = self.path.partition("?")[2].split("&")
        events = b"text/event-stream" in self.headers.get("accept", b"")
        return events or "stream=true" in query or "alt=sse" in query

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
