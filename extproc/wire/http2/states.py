"""The life of a stream, as a table. What is not in the table raises and changes nothing.

A server's view of RFC 9113, section 5.1, with the answer's progress added: a gRPC answer is headers, data and trailers,
or trailers alone. The peer's half is over once it has said END_STREAM ("heard"). An answer that is complete while the
peer could still send is followed by RST_STREAM, so it closes the stream either way.
"""

from __future__ import annotations

from enum import IntEnum

from extproc.wire.http2.frames import Code, StreamFault


class State(IntEnum):
    OPEN = 0
    """The request's headers are here, nothing has been answered."""
    ANSWERING = 1
    """The answer's headers are out."""
    HEARD = 2
    """The peer has said everything, nothing has been answered."""
    HEARD_ANSWERING = 3
    CLOSED = 4


class Input(IntEnum):
    DATA = 0
    """From the peer, as are END (END_STREAM on whatever frame) and RESET."""
    END = 1
    RESET = 2
    SEND_HEADERS = 3
    """From this side, as are the following."""
    SEND_DATA = 4
    SEND_TRAILERS = 5
    SEND_RESET = 6


OPEN, ANSWERING, HEARD, HEARD_ANSWERING, CLOSED = State
DATA, END, RESET, SEND_HEADERS, SEND_DATA, SEND_TRAILERS, SEND_RESET = Input
# As globals: to look an enum's member up costs more than the transition.


class LocalFault(Exception):
    """This side was about to send what its stream does not allow: a defect of the caller."""


TABLE: dict[State, dict[Input, State]] = {
    OPEN: {
        DATA: OPEN,
        END: HEARD,
        RESET: CLOSED,
        SEND_HEADERS: ANSWERING,
        SEND_TRAILERS: CLOSED,
        SEND_RESET: CLOSED,
    },
    ANSWERING: {
        DATA: ANSWERING,
        END: HEARD_ANSWERING,
        RESET: CLOSED,
        SEND_DATA: ANSWERING,
        SEND_TRAILERS: CLOSED,
        SEND_RESET: CLOSED,
    },
    HEARD: {
        RESET: CLOSED,
        SEND_HEADERS: HEARD_ANSWERING,
        SEND_TRAILERS: CLOSED,
        SEND_RESET: CLOSED,
    },
    HEARD_ANSWERING: {
        RESET: CLOSED,
        SEND_DATA: HEARD_ANSWERING,
        SEND_TRAILERS: CLOSED,
        SEND_RESET: CLOSED,
    },
    CLOSED: {},
}


def advance(state: State, found: Input) -> State:
    """The state after `found`. Raises StreamFault where the peer, LocalFault where this side may not do so."""
    after = TABLE[state].get(found)
    if after is not None:
        return after
    if found >= SEND_HEADERS:
        raise LocalFault(f"{found.name} on a stream that is {state.name}")
    raise StreamFault(Code.STREAM_CLOSED, f"{found.name} on a stream that is {state.name}")
