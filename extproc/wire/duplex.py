"""How replies are framed: one for each message, or, where Envoy sends bodies full duplex, as suits the reply.

An Envoy of ours sends whole requests and is told with every reply what to send of the answer. A conformant gateway of
the Gateway API's endpoint picker protocol (proposal 004) sends both bodies full duplex: it wants no reply to the
headers of a request until the endpoint is known, and every byte of both bodies back.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import msgspec
from envoy.extensions.filters.http.ext_proc.v3.processing_mode_pb2 import ProcessingMode

from extproc.exchange.values import BodyMode, BodyReply, Decision, HeadersReply
from extproc.wire import codec
from extproc.wire.facts import Facts

Replies = Sequence[bytes]

_DUPLEX = ProcessingMode.FULL_DUPLEX_STREAMED
_IN_PIECES = (ProcessingMode.STREAMED, ProcessingMode.BUFFERED_PARTIAL)


class Framing(msgspec.Struct, frozen=True):
    """The replies of one stream. The default is that of an Envoy that follows mode overrides."""

    duplex_request: bool = False
    duplex_response: bool = False
    bodies: BodyMode | None = None
    """How answers are sent, where that is not ours to say."""
    may_split: bool = False
    """Envoy may send a request in pieces and sends each of them on before the endpoint can be known."""

    def request_opened(self) -> Replies:
        """To the headers of a request whose body follows."""
        return () if self.duplex_request else (codec.CONTINUE_REQUEST,)

    def held(self, seconds: float) -> Replies:
        """While the request waits. Envoy runs no timer in full duplex."""
        return () if self.duplex_request else (codec.encode_hold(seconds),)

    def decided(self, decision: Decision, raw: bytes, *, with_body: bool, trailers: bool) -> Replies:
        """The request goes on: `raw` is its body as it came, `trailers` says that they follow the body."""
        if not self.duplex_request:
            return (codec.encode_decision(decision, with_body=with_body),)
        head = codec.encode_duplex_decision(decision)
        if not with_body:
            return (head,)
        body = raw if decision.body is None else decision.body
        pieces = codec.encode_pieces("request_body", body, end=not trailers)
        return (head, *pieces, codec.CONTINUE_REQUEST_TRAILERS) if trailers else (head, *pieces)

    def answer_opened(self, reply: HeadersReply, endpoint: str) -> Replies:
        """To the headers of an answer; `endpoint` as for `codec.encode_headers_reply`."""
        return (codec.encode_headers_reply(reply, endpoint, override=self.bodies is None),)

    def answer_piece(self, reply: BodyReply, chunk: bytes, *, end: bool, facts: Facts | None = None) -> Replies:
        """To `chunk`, a piece of an answer; `end`: the last one."""
        if not self.duplex_response:
            return (codec.encode_body_reply(reply, facts),)
        body = chunk if reply.body is None else reply.body
        return codec.encode_pieces("response_body", body, end=end, facts=facts)

    def answer_trailers(self, reply: BodyReply, facts: Facts | None = None) -> Replies:
        """To the trailers of an answer, after what was held back of its body."""
        if not self.duplex_response:
            return (codec.encode_trailers_reply(facts),)
        return (*codec.encode_pieces("response_body", reply.body or b"", end=False), codec.CONTINUE_TRAILERS)


class Pieces:
    """What has come of a request body."""

    __slots__ = ("_pieces", "size")

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self.size = 0

    def add(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self.size += len(piece)

    def take(self) -> bytes:
        pieces, self._pieces = self._pieces, []
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


@cache
def framing(request_mode: int, response_mode: int) -> Framing:
    """From the body modes that Envoy is configured with (values of `ProcessingMode.BodySendMode`).

    Envoy is told what to send only where its configuration leaves the answers out, as ours does; another one has its
    own idea, and may not listen.
    """
    duplex_request = request_mode == _DUPLEX
    bodies = None
    if response_mode != ProcessingMode.NONE:
        bodies = BodyMode.STREAMED
    elif duplex_request:
        bodies = BodyMode.NONE
    return Framing(
        duplex_request=duplex_request,
        duplex_response=response_mode == _DUPLEX,
        bodies=bodies,
        may_split=request_mode in _IN_PIECES,
    )
