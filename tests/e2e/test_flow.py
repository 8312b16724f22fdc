"""Quotas, concurrency, queues and ramps in front of real requests."""

from __future__ import annotations

import queue
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import openai
import pytest

from tests.support.chat import Chat, chat
from tests.support.far_side import FarSide
from tests.support.gateway import Gateway, Gateways, Manifest, pool, route
from tests.support.held import Call, Held
from tests.support.processes import wait_until
from tests.support.traffic import concurrency, host, ramp, rate, slots, workload

TIER = "http__request__header__x-tier"
USER = "http.request.header.x-user"
HOSTS = ("users", "tokens", "many", "limited", "queue", "small", "hasty", "ramp", "sticky", "dry")
TIERS = [workload("gold", 100, **{TIER: "gold"}), workload("bronze", 1, **{TIER: "bronze"})]
POLICIES = [
    rate("users", 2, 0.02, host("users"), limitByLabelKey=USER),
    rate("tokens", 100, 0.001, host("tokens"), unit="tokens", reserve="max_tokens"),
    rate("many", 10, 0.001, host("many")),
    rate("both", 50, 0.001, host("both")),
    concurrency("limited", 1, host("limited")),
    slots("queue", 1, host("queue"), workloads=TIERS),
    slots("small", 1, host("small"), maxSize=1, workloads=[workload("all", 1)]),
    slots("hasty", 1, host("hasty"), workloads=[], defaultWorkloadParameters={"queueTimeout": "1500ms"}),
    ramp("ramp", 0, host("ramp")),
    ramp("sticky", 50, host("sticky"), labelKey=USER),
    rate("dry", 1, 0.001, host("dry"), dryRun=True),
]


@pytest.fixture(scope="module")
def held(far_side: FarSide) -> Iterator[Held]:
    with Held(far_side) as one:
        yield one


@pytest.fixture(scope="module")
def manifests(held: Held) -> list[Manifest]:
    """Every host has a policy of its own name, all lead to one server that holds what it gets."""
    routes = [route(name, name, {"backendRefs": [{"pool": "gpus"}]}) for name in HOSTS]
    gone = route("both", "both", {"backendRefs": [{"pool": "gone"}]})
    return [pool("gpus", [held.address]), pool("gone", ["127.0.0.1:1"]), *routes, gone, *POLICIES]


@pytest.fixture(scope="module")
def gateway(gateways: Gateways, manifests: list[Manifest]) -> Gateway:
    return gateways.start(*manifests, limits={"messageTimeout": "1s"})


def counted(gateway: Gateway, kind: str, name: str, result: str) -> float:
    return gateway.metric("sluice_policy_requests_total", policy=f"{kind}/{name}", result=result)


def queued(gateway: Gateway, name: str, number: int) -> None:
    policy = f"ConcurrencySchedulingPolicy/{name}"
    wait_until(lambda: gateway.metric("sluice_policy_waiting", policy=policy) == number, f"{number} in {name}", 20)


def served(gateway: Gateway, held: Held, name: str, **options: str) -> Call:
    """A request that goes through, up to its arrival."""
    call: list[Call] = []
    with Chat(gateway.port, name, **options) as one:  # type: ignore[arg-type]
        call.append(held.next())
        call[0].answer()
        assert one.reply().status == 200
    return call[0]


@contextmanager
def answering(held: Held) -> Iterator[None]:
    """Whatever arrives is answered at once."""
    over = threading.Event()

    def work() -> None:
        while not over.is_set():
            try:
                held.next(0.1).answer()
            except queue.Empty:
                continue

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_a_user_over_quota_gets_a_429_that_the_official_client_understands(gateway: Gateway, held: Held) -> None:
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="any", max_retries=0) as client:
        for _ in range(2):
            with Chat(gateway.port, "users", headers={"x-user": "ann"}) as one:
                held.next().answer()
                assert one.reply().status == 200
        with pytest.raises(openai.RateLimitError) as caught:
            client.chat.completions.create(
                model="m",
                messages=[{"role": "user", "content": "hi"}],
                extra_headers={"host": "users", "x-user": "ann"},
            )
        error, headers = caught.value, caught.value.response.headers
        assert (error.code, error.type) == ("rate_limited", "rate_limit_error")
        assert headers["x-sluice-reason"] == "rate_limited"
        assert 40 <= int(headers["retry-after"]) <= 50  # one in 50 seconds flows in
    with Chat(gateway.port, "users", headers={"x-user": "bob"}) as one:
        held.next().answer()
        assert one.reply().status == 200
    assert gateway.log_line(reason="rate_limited")


def test_tokens_are_reserved_before_and_settled_after(gateway: Gateway, held: Held) -> None:
    """100 tokens: a prompt of few and at most 60 tokens of answer. The answer has 8 in all."""
    with Chat(gateway.port, "tokens", max_tokens=60) as first:
        call = held.next()
        reply = chat(gateway.port, "tokens", max_tokens=60)
        assert (reply.status, reply.error["code"]) == (429, "rate_limited")
        call.answer()
        assert first.reply().status == 200
    with Chat(gateway.port, "tokens", max_tokens=60, stream=True) as second:
        call = held.next()
        call.event("a")
        call.end()
        assert second.head()[0] == 200
        assert second.remaining() == "a"
    wait_until(lambda: round(gateway.metric("sluice_policy_left", policy="RateLimitingPolicy/tokens")) == 84, "settled")
    reply = chat(gateway.port, "tokens", max_tokens=1000)
    assert (reply.status, reply.error["code"]) == (429, "exceeds_quota")
    assert "retry-after" not in reply.headers


def test_a_hundred_at_once_pass_a_quota_of_ten_ten_times(gateway: Gateway, held: Held) -> None:
    def one(number: int) -> int:
        return chat(gateway.port, "many").status if number % 2 else streamed()

    def streamed() -> int:
        with Chat(gateway.port, "many", stream=True) as stream:
            status, _ = stream.head()
            if status == 200:
                stream.remaining()
            return status

    with ThreadPoolExecutor(100) as clients:
        answers = [clients.submit(one, number) for number in range(100)]
        for _ in range(10):
            call = held.next()
            if call.json["stream"]:
                call.end()
            else:
                call.answer()
        statuses = Counter(answer.result(60) for answer in answers)
    assert statuses == {200: 10, 429: 90}
    assert counted(gateway, "RateLimitingPolicy", "many", "refused") == 90


def test_a_limit_on_concurrency_is_free_again_when_an_exchange_ends_in_any_way(gateway: Gateway, held: Held) -> None:
    with Chat(gateway.port, "limited") as first:
        call = held.next()
        reply = chat(gateway.port, "limited")
        assert (reply.status, reply.error["code"], reply.error["type"]) == (
            429,
            "too_many_in_flight",
            "rate_limit_error",
        )
        assert reply.headers["retry-after"] == "1"
        call.answer()
        assert first.reply().status == 200
    with Chat(gateway.port, "limited", stream=True) as second:
        call = held.next()
        call.event("a")
        assert second.head()[0] == 200
    assert call.gone.wait(20), "the client has left"
    wait_until(lambda: gateway.metric("sluice_policy_left", policy="ConcurrencyLimitingPolicy/limited") == 1, "a slot")
    with Chat(gateway.port, "limited", stream=True):
        call = held.next()
        call.event("a")
        call.reset()
    served(gateway, held, "limited")


def test_waiting_requests_are_admitted_by_priority(gateway: Gateway, held: Held) -> None:
    with Chat(gateway.port, "queue", model="first") as first:
        call = held.next()
        with Chat(gateway.port, "queue", model="bronze", headers={"x-tier": "bronze"}) as bronze:
            queued(gateway, "queue", 1)
            with Chat(gateway.port, "queue", model="gold", headers={"x-tier": "gold"}) as gold:
                queued(gateway, "queue", 2)
                call.answer()
                assert first.reply().status == 200
                for connection, model in ((gold, "gold"), (bronze, "bronze")):
                    call = held.next()
                    assert call.json["model"] == model
                    call.answer()
                    assert connection.reply().status == 200
    queued(gateway, "queue", 0)
    assert gateway.metric("sluice_policy_wait_seconds_count") >= 2


def test_a_client_that_leaves_the_queue_frees_its_place(gateway: Gateway, held: Held) -> None:
    with Chat(gateway.port, "small", model="first") as first:
        call = held.next()
        with Chat(gateway.port, "small", model="gone"):
            queued(gateway, "small", 1)
            reply = chat(gateway.port, "small")
            assert (reply.status, reply.error["code"]) == (503, "queue_full")
            assert reply.headers["x-sluice-queue-position"] == "2"
        queued(gateway, "small", 0)
        with Chat(gateway.port, "small", model="next") as following:
            queued(gateway, "small", 1)
            call.answer()
            assert first.reply().status == 200
            call = held.next()
            assert call.json["model"] == "next"
            call.answer()
            assert following.reply().status == 200
    assert counted(gateway, "ConcurrencySchedulingPolicy", "small", "left") == 1


def test_who_waits_too_long_is_told_when_to_come_back(gateway: Gateway, held: Held) -> None:
    """It waits longer than Envoy waits for a filter that is silent."""
    with Chat(gateway.port, "hasty") as first:
        call = held.next()
        reply = chat(gateway.port, "hasty")
        assert (reply.status, reply.error["code"], reply.error["type"]) == (503, "queue_timeout", "server_error")
        assert int(reply.headers["retry-after"]) >= 1
        call.answer()
        assert first.reply().status == 200
    served(gateway, held, "hasty")


def test_a_ramp_refuses_and_is_sticky(gateway: Gateway, held: Held) -> None:
    reply = chat(gateway.port, "ramp")
    assert (reply.status, reply.error["code"], reply.error["type"]) == (403, "ramped_out", "permission_error")

    users = [f"user{number}" for number in range(12)]
    with ThreadPoolExecutor(len(users)) as clients:

        def round_of() -> list[int]:
            answers = [clients.submit(chat, gateway.port, "sticky", headers={"x-user": user}) for user in users]
            return [answer.result(60).status for answer in answers]

        with answering(held):
            once = round_of()
            assert round_of() == once
    assert set(once) == {200, 403}


def test_a_dry_run_counts_and_refuses_nobody(gateway: Gateway, held: Held) -> None:
    for _ in range(3):
        served(gateway, held, "dry")
    assert counted(gateway, "RateLimitingPolicy", "dry", "would_refuse") == 2


def test_requests_that_wait_survive_a_reload(gateway: Gateway, held: Held, manifests: list[Manifest]) -> None:
    with Chat(gateway.port, "queue", model="first") as first:
        call = held.next()
        with Chat(gateway.port, "queue", model="second") as second, Chat(gateway.port, "small", model="other") as busy:
            other = held.next()
            assert other.json["model"] == "other"
            queued(gateway, "queue", 1)
            changed = slots("small", 5, host("small"), workloads=[workload("all", 1)])
            gateway.configure(
                *[
                    changed if each["metadata"]["name"] == "small" and each["kind"].endswith("Policy") else each
                    for each in manifests
                ]
            )
            queued(gateway, "queue", 1)
            call.answer()
            assert first.reply().status == 200
            call = held.next()
            assert call.json["model"] == "second"
            call.answer()
            other.answer()
            assert (second.reply().status, busy.reply().status) == (200, 200)
    gateway.configure(*manifests)
    served(gateway, held, "small")


def test_a_request_that_no_endpoint_takes_gives_everything_back(gateway: Gateway) -> None:
    wait_until(lambda: gateway.metric("sluice_endpoint_up", pool="gone") == 0, "the endpoint to be found gone", 20)
    for _ in range(3):
        reply = chat(gateway.port, "both")
        assert (reply.status, reply.error["code"]) == (503, "no_endpoints")
    assert round(gateway.metric("sluice_policy_left", policy="RateLimitingPolicy/both")) == 50
