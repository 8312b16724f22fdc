"""The stall of a loop."""

from __future__ import annotations

import asyncio
import threading

import pytest

from bench.detectors.cost import stall, tokens


def test_a_chinese_character_is_a_token_and_an_english_word_more_than_one() -> None:
    assert tokens("你好 two words") == 2 + 3.0


async def test_the_loop_turns_while_the_work_runs() -> None:
    """Work that ends only after a turn of the loop does not hang the measurement."""
    turned = threading.Event()
    asyncio.get_running_loop().call_soon(turned.set)
    assert await stall(turned.wait) >= 0.0


async def test_a_fault_of_the_work_is_not_swallowed() -> None:
    def fail() -> None:
        raise LookupError

    with pytest.raises(LookupError):
        await stall(fail)
