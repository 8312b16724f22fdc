"""The first bytes of a connection: HTTP/2's preface, or somebody who meant to speak something else."""

from __future__ import annotations

import re

from extproc.wire.http2 import frames
from extproc.wire.http2.frames import PREFACE, Code

_HTTP_1 = re.compile(rb"[A-Z]{3,10} ")
_TLS_HANDSHAKE = b"\x16\x03"
_TLS_ALERT = bytes((21, 3, 1, 0, 2, 2, 70))
"""Fatal: protocol version (RFC 5246, section 7.2)."""
_TEXT = b"This port speaks gRPC over HTTP/2, without TLS.\n"
_HTTP_1_ANSWER = (
    b"HTTP/1.1 505 HTTP Version Not Supported\r\nconnection: close\r\ncontent-type: text/plain\r\n"
    b"content-length: %d\r\n\r\n%s" % (len(_TEXT), _TEXT)
)


class Stranger(Exception):
    """The peer does not speak HTTP/2. `goodbye` is something that it may understand."""

    def __init__(self, kind: str, goodbye: bytes) -> None:
        super().__init__(f"a peer that speaks {kind}")
        self.goodbye = goodbye


def greeted(data: bytes) -> bool:
    """Whether `data`, the first bytes of a connection, begins with the whole preface; False while it still may.
    Raises Stranger."""
    if data.startswith(PREFACE):
        return True
    if PREFACE.startswith(data):
        return False
    if data.startswith(_TLS_HANDSHAKE[: len(data)]):
        raise Stranger("TLS", _TLS_ALERT)
    if _HTTP_1.match(data):
        raise Stranger("HTTP/1", _HTTP_1_ANSWER)
    raise Stranger("something else", frames.goaway(0, Code.PROTOCOL_ERROR, "not HTTP/2"))
