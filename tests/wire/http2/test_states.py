"""Every state with every input: what the table has, and that the rest raises."""

from __future__ import annotations

from itertools import product

import pytest

from extproc.wire.http2.frames import Code, StreamFault
from extproc.wire.http2.states import TABLE, Input, LocalFault, State, advance

PEERS = {Input.DATA, Input.END, Input.RESET}


@pytest.mark.parametrize(("state", "found"), list(product(State, Input)))
def test_what_is_not_in_the_table_raises(state: State, found: Input) -> None:
    if found in TABLE[state]:
        assert advance(state, found) is TABLE[state][found]
    elif found in PEERS:
        with pytest.raises(StreamFault) as caught:
            advance(state, found)
        assert caught.value.code is Code.STREAM_CLOSED
    else:
        with pytest.raises(LocalFault):
            advance(state, found)


def test_nothing_leaves_a_closed_stream_and_every_stream_can_be_closed() -> None:
    assert TABLE[State.CLOSED] == {}
    for state in set(State) - {State.CLOSED}:
        for ending in (Input.RESET, Input.SEND_RESET, Input.SEND_TRAILERS):
            assert advance(state, ending) is State.CLOSED


def test_the_peer_speaks_once_to_its_end_and_the_answer_opens_once() -> None:
    for state in (State.HEARD, State.HEARD_ANSWERING):
        assert not {Input.DATA, Input.END} & set(TABLE[state])
    for state in (State.ANSWERING, State.HEARD_ANSWERING):
        assert Input.SEND_HEADERS not in TABLE[state]
    for state in (State.OPEN, State.HEARD):
        assert Input.SEND_DATA not in TABLE[state]
