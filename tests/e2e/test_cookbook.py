"""Every recipe of the flow control cookbook, as it is printed but for addresses, in front of requests."""

from __future__ import annotations

import json
import queue
import re
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import msgspec
import pytest
import yaml

from extproc.scheduling.status import PolicyState
from tests.support.chat import Chat, chat
from tests.support.documents import PAGES
from tests.support.far_side import FarSide
from tests.support.gateway import Gateway, Gateways, Manifest
from tests.support.held import Call, Held
from tests.support.processes import wait_until

PAGE = PAGES["docs/flow-cookbook.md"].read_text(encoding="utf-8")
HEADINGS = re.findall(r"^## (.+)$", PAGE, re.MULTILINE)
HOST = "chat.internal"


class Kitchen:
    """Where recipes run: each on a gateway of its own, in front of servers that hold what they get."""

    def __init__(self, gateways: Gateways, servers: list[Held]) -> None:
        self._gateways = gateways
        self._servers = servers

    def cook(self, heading: str) -> Gateway:
        documents = list(yaml.safe_load_all(_recipe(heading)))
        spec: dict[str, Any] = {}
        for document in documents:
            if document["kind"] == "InferencePool":
                for endpoint, server in zip(document["spec"]["endpoints"], self._servers, strict=False):
                    endpoint["address"] = server.address
            elif document["kind"] == "LLMProvider":
                document["spec"] |= {"protocol": "http", "port": 80}
                spec["hostAliases"] = {document["spec"]["host"]: self._servers[0].address}
            elif document["kind"] == "Gateway":
                spec |= document["spec"]
        manifests: list[Manifest] = [document for document in documents if document["kind"] != "Gateway"]
        return self._gateways.start(*manifests, environ={"DASHSCOPE_API_KEY": "k"}, **spec)

    def next(self) -> Call:
        """The next request that arrives at any of the servers."""
        return self._servers[0].next()

    @property
    def arrived(self) -> int:
        return sum(server.arrived for server in self._servers)


def _recipe(heading: str) -> str:
    section = PAGE.partition(f"\n## {heading}\n")[2]
    return section.partition("```yaml\n")[2].partition("```")[0]


@pytest.fixture(scope="module")
def kitchen(gateways: Gateways, far_side: FarSide) -> Iterator[Kitchen]:
    calls: queue.Queue[Call] = queue.Queue()
    with Held(far_side, calls) as one, Held(far_side, calls) as two:
        yield Kitchen(gateways, [one, two])


def state(gateway: Gateway, name: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = json.loads(gateway.admin_text("/policies"))
    return next(each for each in found if each["name"] == name)


def waiting(gateway: Gateway, name: str, number: int) -> None:
    wait_until(lambda: state(gateway, name)["waiting"] == number, f"{number} waiting at {name}", 20)


def post(gateway: Gateway, path: str, body: Any) -> Any:
    data = json.dumps(body).encode()
    request = urllib.request.Request(gateway.admin + path, data, {"content-type": "application/json"})  # noqa: S310
    with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310 -- the test's own server
        return json.loads(response.read())


@contextmanager
def sent(kitchen: Kitchen, gateway: Gateway, host: str = HOST, **options: Any) -> Iterator[tuple[Chat, Call]]:
    """A request that has arrived and has not been answered."""
    with Chat(gateway.port, host, **options) as one:
        yield one, kitchen.next()


def served(kitchen: Kitchen, gateway: Gateway, host: str = HOST, **options: Any) -> None:
    with sent(kitchen, gateway, host, **options) as (one, call):
        call.answer()
        assert one.reply().status == 200


def test_every_recipe_has_a_test() -> None:
    assert HEADINGS == [
        "A quota for every user",
        "Batch behind interactive",
        "Protect a small pool",
        "Ramp a new model",
        "Do not pay twice",
        "Stay within a provider's limit",
    ]


def test_a_quota_for_every_user(kitchen: Kitchen) -> None:
    gateway = kitchen.cook("A quota for every user")
    ann, bob = {"user-id": "ann"}, {"user-id": "bob"}
    with sent(kitchen, gateway, headers=ann, max_tokens=15_000) as (first, call):
        refused = chat(gateway.port, HOST, headers=ann, max_tokens=15_000)
        assert (refused.status, refused.error["code"]) == (429, "rate_limited")
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        served(kitchen, gateway, headers=bob, max_tokens=15_000)
        call.answer()
        assert first.reply().status == 200

    def left() -> float:
        levels = state(gateway, "RateLimitingPolicy/user-quota")["levels"]
        return min(float(level["left"]) for level in levels)

    wait_until(lambda: left() > 19_000, "the unused tokens to come back", 20)
    served(kitchen, gateway, headers=ann, max_tokens=15_000)


def test_batch_behind_interactive(kitchen: Kitchen) -> None:
    gateway = kitchen.cook("Batch behind interactive")
    slots = "ConcurrencySchedulingPolicy/slots"
    batch = {"x-class": "batch"}
    with ExitStack() as stack:
        running = [stack.enter_context(sent(kitchen, gateway, headers=batch)) for _ in range(4)]
        later = stack.enter_context(Chat(gateway.port, HOST, model="batch", headers=batch))
        waiting(gateway, slots, 1)
        first = stack.enter_context(Chat(gateway.port, HOST, model="interactive"))
        waiting(gateway, slots, 2)
        for (before, call), chat_, model in zip(running, (first, later), ("interactive", "batch"), strict=False):
            call.answer()
            assert before.reply().status == 200
            arrived = kitchen.next()
            assert arrived.json["model"] == model
            arrived.answer()
            assert chat_.reply().status == 200


def test_protect_a_small_pool(kitchen: Kitchen) -> None:
    gateway = kitchen.cook("Protect a small pool")
    turns = "ConcurrencySchedulingPolicy/turns"
    web, data, search = ({"x-team": name} for name in ("web", "data", "search"))
    kinds = [each.kind for each in msgspec.json.decode(gateway.admin_text("/policies"), type=list[PolicyState])]
    assert kinds == ["concurrency", "adaptive", "slots"]
    with ExitStack() as stack:
        running = [stack.enter_context(sent(kitchen, gateway, headers=web)) for _ in range(3)]
        refused = chat(gateway.port, HOST, headers=web)
        assert (refused.status, refused.error["code"]) == (429, "too_many_in_flight")
        stack.enter_context(sent(kitchen, gateway, headers=data))
        waits = stack.enter_context(Chat(gateway.port, HOST, model="waits", headers=search))
        waiting(gateway, turns, 1)
        assert state(gateway, turns)["flows"][0]["fairness"] == "search"
        running[0][1].answer()
        call = kitchen.next()
        assert call.json["model"] == "waits"
        call.answer()
        assert waits.reply().status == 200


def test_ramp_a_new_model(kitchen: Kitchen) -> None:
    gateway = kitchen.cook("Ramp a new model")
    ramp, new, old = "LoadRampingPolicy/qwen3-32b", "qwen3-32b", "qwen3-8b"
    body = {"model": new, "messages": [{"role": "user", "content": "hi"}]}
    says = {
        user: post(gateway, "/explain", {"headers": {"user-id": user}, "body": body})["policies"][0]["says"]
        for user in (f"user-{number}" for number in range(60))
    }
    inside = [user for user, said in says.items() if said == "pass"]
    outside = [user for user, said in says.items() if said == "refuse"]
    assert len(inside) + len(outside) == 60
    assert 3 <= len(inside) <= 24
    served(kitchen, gateway, model=new, headers={"user-id": inside[0]})
    refused = chat(gateway.port, HOST, model=new, headers={"user-id": outside[0]})
    assert (refused.status, refused.error["code"]) == (403, "ramped_out")
    served(kitchen, gateway, model=old, headers={"user-id": outside[0]})
    for command, direction in (("forward", 1), ("hold", 0), ("backward", -1), ("reset", 0)):
        told = post(gateway, f"/policies/{ramp}/ramp", {"command": command})
        assert (told["command"], told["direction"]) == (command, direction)
    assert state(gateway, ramp)["percentage"] == 20.0


def test_do_not_pay_twice(kitchen: Kitchen) -> None:
    gateway = kitchen.cook("Do not pay twice")
    host, acme = "dashscope.aliyuncs.com", {"x-tenant": "acme"}
    before = kitchen.arrived
    served(kitchen, gateway, host, headers=acme)
    wait_until(lambda: state(gateway, "CachingPolicy/paid")["entries"] == 1, "the answer in the cache", 20)
    again = chat(gateway.port, host, headers=acme)
    assert (again.status, again.headers["x-sluice-cache"]) == (200, "hit")
    assert again.json["choices"][0]["message"]["content"] == "held"
    with sent(kitchen, gateway, host, headers={"x-tenant": "globex"}) as (other, call):
        call.answer()
        assert other.reply().headers["x-sluice-cache"] == "miss"
    with sent(kitchen, gateway, host, headers={**acme, "cache-control": "no-store"}) as (fresh, call):
        call.answer()
        assert fresh.reply().headers["x-sluice-cache"] == "bypass"
    assert kitchen.arrived - before == 3


def test_stay_within_a_providers_limit(kitchen: Kitchen) -> None:
    gateway = kitchen.cook("Stay within a provider's limit")
    host, limit = "dashscope.aliyuncs.com", "QuotaSchedulingPolicy/provider-limit"
    with ExitStack() as stack:
        for _ in range(6):
            stack.enter_context(sent(kitchen, gateway, host, headers={"x-tenant": "small"}))
        for _ in range(8):
            stack.enter_context(Chat(gateway.port, host, headers={"x-tenant": "small"}))
        wait_until(lambda: state(gateway, limit)["waiting"] >= 5, "a queue", 20)
        stack.enter_context(Chat(gateway.port, host, headers={"x-tenant": "acme"}))
        overtaken = 8
        while kitchen.next().headers["x-tenant"] != "acme":
            overtaken -= 1
        assert overtaken > 0
