"""Messages in pieces."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.wire.http2.messages import RESOURCE_EXHAUSTED, UNIMPLEMENTED, Assembler, MessageFault
from tests.wire.http2.peer import framed


@given(st.lists(st.binary(max_size=40), max_size=8), st.lists(st.integers(0, 400), max_size=20))
def test_any_split_gives_the_same_messages(sent: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(map(framed, sent))
    borders = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    assembler = Assembler(lambda: 1000)
    found = []
    for begin, end in pairwise(borders):
        found += assembler.add(stream[begin:end])
        assert 0 <= assembler.size <= 1000
    assert found == sent
    assert assembler.complete
    assert assembler.size == 0


def test_a_message_that_is_too_large_is_refused_before_it_comes() -> None:
    with pytest.raises(MessageFault) as caught:
        Assembler(lambda: 10).add(b"\0\0\0\0\x0b")
    assert caught.value.status == RESOURCE_EXHAUSTED


def test_a_compressed_message_is_refused() -> None:
    with pytest.raises(MessageFault) as caught:
        Assembler(lambda: 10).add(b"\1\0\0\0\1a")
    assert caught.value.status == UNIMPLEMENTED


def test_half_a_message_is_not_complete() -> None:
    assembler = Assembler(lambda: 10)
    for piece in (b"\0", b"\0\0\0\3a"):
        assert assembler.add(piece) == []
        assert not assembler.complete
    assert assembler.add(b"bc") == [b"abc"]
