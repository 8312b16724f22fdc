from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest

from extproc.shared.options import RedisOptions
from extproc.shared.store import RedisStore
from tests.shared.clock import Clock
from tests.support.redis import RedisServer, redis_server

Open = Callable[..., Awaitable[RedisStore]]
_numbers = itertools.count()


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    """Not to be hurt: every test has keys of its own in it."""
    with redis_server() as found:
        yield found


@pytest.fixture
def own_server() -> Iterator[RedisServer]:
    with redis_server() as found:
        yield found


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def connect(clock: Clock) -> AsyncIterator[Open]:
    """Stores on one Redis that share state, with one clock that the test moves; no time limit unless one is given."""
    stores: list[RedisStore] = []
    prefix = f"test{next(_numbers)}"

    async def make(redis: RedisServer, **options: Any) -> RedisStore:
        given = {"prefix": prefix, "limit": 30.0, "give_up": 30.0, "retry": 0.01, "own_time": True, **options}
        store = RedisStore(redis.url, clock=clock, options=RedisOptions(**given))
        stores.append(store)
        await store.start()
        return store

    yield make
    for store in stores:
        await store.stop()
