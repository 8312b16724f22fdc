"""The head of a request, decoded as far as somebody asks."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b

import msgspec

from extproc.exchange.values import Headers
from extproc.payload.operations.openai import CHAT
from extproc.payload.operations.operation import Call, Operation, Streams
from extproc.payload.operations.table import OTHER, call_of

CLIENT_CREDENTIALS = (
    *("authorization", "x-api-key", "api-key", "x-goog-api-key", "ocp-apim-subscription-key", "x-auth-token"),
    *("proxy-authorization", "cookie"),
)
"""Of labels that read one of these there is a digest only."""
_IDENTIFYING = CLIENT_CREDENTIALS[:6]
UNKNOWN = "unknown"
"""The source of callers of whom nothing is known."""


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
    def identity(self) -> str:
        """Stands for the caller: digests of the verified token's subject and of the credentials that it sends, which
        nobody else can name. Empty where there is neither."""
        claims = [str(self.claims[name]) for name in ("iss", "sub", "client_id") if name in self.claims]
        sent = {name: digest(value) for name in _IDENTIFYING if (value := self.text(name))}
        return _hashed(msgspec.json.encode([claims, sent])) if claims or sent else ""

    @property
    def tenant(self) -> str:
        """Who the request counts for: its source, or its caller's identity where there is no source."""
        return self.source if self.source not in ("", UNKNOWN) else self.identity or UNKNOWN

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


def digest(value: str) -> str:
    """Stands for a credential: the same for the same one, and does not tell it. Neither the scheme (`Bearer`, in any
    case) nor spaces around and inside it make another one, as they would be a fresh quota for the asking."""
    words = value.split()
    return _hashed(" ".join(words[1:] or words).encode("utf-8", "surrogatepass"))


def _hashed(value: bytes) -> str:
    return f"blake2b:{blake2b(value, digest_size=16).hexdigest()}"


def _without_port(authority: str) -> str:
    if authority.startswith("["):
        return authority.partition("]")[0] + "]"
    return authority.partition(":")[0]
