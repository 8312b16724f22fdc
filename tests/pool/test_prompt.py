from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from xxhash import xxh64_intdigest

from extproc.pool.prompt import Prompt


def test_blocks_are_chained_from_model_and_salt() -> None:
    prompt = Prompt([b"abcdefgh" * 3], model="m", salt="s")
    seed = xxh64_intdigest(b"m\0s")
    first = xxh64_intdigest(b"abcdefgh" * 2, seed)
    assert list(prompt.blocks(16, 100)) == [first], "the second block is not full"
    assert list(Prompt([b"abcdefgh" * 4], model="m", salt="s").blocks(16, 100)) == [
        first,
        xxh64_intdigest(b"abcdefgh" * 2, first),
    ]


def test_model_salt_and_every_earlier_byte_matter() -> None:
    text = b"x" * 64
    chains = {
        tuple(Prompt([body], model=model, salt=salt).blocks(16, 100))
        for body, model, salt in (
            (text, "m", ""),
            (text, "n", ""),
            (text, "m", "tenant"),
            (b"y" + text[1:], "m", ""),
        )
    }
    assert len(chains) == 4
    assert len({chain[-1] for chain in chains}) == 4


@given(st.lists(st.binary(max_size=80), min_size=1, max_size=4), st.binary(max_size=100), st.integers(1, 20))
def test_a_longer_prompt_keeps_the_blocks_of_what_it_begins_with(pieces: list[bytes], more: bytes, limit: int) -> None:
    short = Prompt(pieces, model="m").blocks(16, limit)
    long = Prompt([*pieces[:-1], pieces[-1] + more], model="m").blocks(16, limit)
    assert list(long[: len(short)]) == list(short)
    assert len(long) <= limit


def test_pieces_do_not_run_into_each_other() -> None:
    one = Prompt([b"ab" * 8, b"cd" * 8], model="m").blocks(8, 9)
    other = Prompt([b"ab" * 8 + b"cd", b"cd" * 7], model="m").blocks(8, 9)
    assert one[:2] == other[:2]
    assert one[2] != other[2]


def test_nothing_is_hashed_before_it_is_asked_for_and_then_once() -> None:
    class Counted(bytes):
        copies = 0

        def __bytes__(self) -> bytes:
            Counted.copies += 1
            return self[:]

    prompt = Prompt([Counted(b"z" * 64)], model="m")
    assert Counted.copies == 0
    prompt.blocks(16, 100)
    prompt.blocks(16, 100)
    assert Counted.copies == 1


def test_tokens_of_a_block_are_its_share_of_the_prompt() -> None:
    assert Prompt([b"a" * 1000], model="m").tokens_per_block(100, 250) == 25
    assert Prompt([], model="m").tokens_per_block(100, 250) == 0
    traced = Prompt.hashed((1, 2, 3), 512)
    assert (traced.blocks(256, 4), traced.tokens_per_block(256, 7)) == ((1, 2, 3), 512)
