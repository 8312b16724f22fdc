"""Two filters behind two Envoys, one Redis between them."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.chat import Chat, chat
from tests.support.far_side import FarSide
from tests.support.gateway import Gateway, Gateways, pool, route
from tests.support.held import Held
from tests.support.processes import wait_until
from tests.support.redis import RedisServer, redis_server
from tests.support.traffic import cache, host, rate, slots

HOSTS = ("quota", "queue", "kept", "load")
BUSY = 8
"""Clients that never pause."""


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with redis_server() as found:
        yield found


@pytest.fixture(scope="module")
def held(far_side: FarSide) -> Iterator[Held]:
    with Held(far_side) as one:
        yield one


@pytest.fixture(scope="module")
def two(gateways: Gateways, far_side: FarSide, held: Held, redis: RedisServer) -> tuple[Gateway, Gateway]:
    engine = far_side.engine(answer_tokens=4)
    manifests = [
        pool("held", [held.address]),
        pool("engine", [engine.address]),
        *[route(name, name, {"backendRefs": [{"pool": "held" if name == "queue" else "engine"}]}) for name in HOSTS],
        rate("quota", 10, 0.001, host("quota")),
        slots("queue", 1, host("queue"), defaultWorkloadParameters={"queueTimeout": "60s"}),
        cache("kept", host("kept"), scopeLabelKeys=[]),
        rate("load", 1_000_000, 1_000_000, host("load"), unit="tokens"),
        slots("load", 100, host("load")),
    ]
    shared = {"redis": "${REDIS}", "timeout": "500ms"}
    first, second = (gateways.start(*manifests, environ={"REDIS": redis.url}, sharedState=shared) for _ in range(2))
    for each in (first, second):
        wait_until(lambda each=each: each.metric("sluice_shared_replicas") == 2, "both filters to know of each other")  # type: ignore[misc]
    return first, second


def test_a_quota_is_one_for_both(two: tuple[Gateway, Gateway]) -> None:
    with ThreadPoolExecutor(40) as clients:
        answers = [clients.submit(chat, two[number % 2].port, "quota", model="qwen3-8b") for number in range(40)]
        statuses = Counter(answer.result(60).status for answer in answers)
    assert statuses == {200: 10, 429: 30}


def test_a_slot_freed_at_one_lets_a_request_go_on_at_the_other(two: tuple[Gateway, Gateway], held: Held) -> None:
    with Chat(two[0].port, "queue", model="first") as first:
        call = held.next()
        with Chat(two[1].port, "queue", model="second") as second:
            policy = "ConcurrencySchedulingPolicy/queue"
            wait_until(lambda: two[1].metric("sluice_policy_waiting", policy=policy) == 1, "it to wait", 20)
            call.answer()
            assert first.reply().status == 200
            call = held.next()
            assert call.json["model"] == "second"
            call.answer()
            assert second.reply().status == 200


def test_an_answer_kept_by_one_is_given_by_the_other(two: tuple[Gateway, Gateway]) -> None:
    first = chat(two[0].port, "kept", model="qwen3-8b")
    wait_until(lambda: two[1].metric("sluice_cache_entries") == 1, "the answer in Redis", 20)
    second = chat(two[1].port, "kept", model="qwen3-8b", stream=True)
    assert (first.headers["x-sluice-cache"], second.headers["x-sluice-cache"]) == ("miss", "hit")


def test_no_request_is_lost_while_redis_dies_and_comes_back(two: tuple[Gateway, Gateway], redis: RedisServer) -> None:
    over = threading.Event()
    statuses: Counter[int] = Counter()

    def client(number: int) -> Counter[int]:
        seen: Counter[int] = Counter()
        while not over.is_set():
            seen[chat(two[number % 2].port, "load", model="qwen3-8b", max_tokens=2).status] += 1
        return seen

    def shared(wanted: bool) -> None:
        for each in two:
            wait_until(lambda each=each: each.metric("sluice_shared_up") == wanted, f"shared: {wanted}", 20)  # type: ignore[misc]

    with ThreadPoolExecutor(BUSY) as clients:
        running = [clients.submit(client, number) for number in range(BUSY)]
        try:
            served = two[0].metric("sluice_exchanges_total")
            wait_until(lambda: two[0].metric("sluice_exchanges_total") > served + 20, "load", 20)
            redis.kill()
            shared(False)
            served = two[0].metric("sluice_exchanges_total")
            wait_until(lambda: two[0].metric("sluice_exchanges_total") > served + 20, "load without Redis", 20)
            redis.start()
            shared(True)
            served = two[0].metric("sluice_exchanges_total")
            wait_until(lambda: two[0].metric("sluice_exchanges_total") > served + 20, "load with Redis again", 20)
        finally:
            over.set()
        for each in running:
            statuses += each.result(60)
    assert set(statuses) == {200}, statuses
    for one in two:
        assert one.filter.output().count("of every limit holds here") == 1
        wait_until(lambda one=one: one.metric("sluice_shared_undelivered") == 0, "everything delivered", 20)  # type: ignore[misc]
