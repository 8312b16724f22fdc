"""Configuration and keys change under running traffic: what is taken up, what is refused, and that nobody notices."""

from __future__ import annotations

import asyncio
import json
import socket
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench.certs import Certificates
from bench.provider import ProviderServer
from tests.support.chat import Chat, chat
from tests.support.far_side import FarSide
from tests.support.gateway import Gateway, Gateways, Manifest, pool, provider, route, write_manifests
from tests.support.held import Held
from tests.support.processes import free_port, http_status, wait_until

HOST, EXTRA = "api.example.com", "api.moonshot.cn"
STREAMS, RELOADS, ROTATIONS = 200, 50, 20


def replace(path: Path, text: str) -> None:
    """As a secret is replaced in practice: by renaming a new file into place."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(text)
    fresh.rename(path)


@dataclass
class Setup:
    """A gateway whose provider takes its key from a file."""

    far: FarSide
    gateway: Gateway
    provider: ProviderServer
    key: Path

    def cloud(self, **spec: Any) -> Manifest:
        return provider(
            "cloud", HOST, port=self.provider.port, key=f"${{file:{self.key}}}", **{"model": "qwen-max"} | spec
        )


@pytest.fixture
def setup(far_side: FarSide, gateways: Gateways, certificates: Certificates, tmp_path: Path) -> Setup:
    key = tmp_path / "key"
    key.write_text("sk-0\n")
    cloud = far_side.provider(certificates, keys=["sk-0"])
    found = Setup(far_side, Gateway(tmp_path, 0, 0, None), cloud, key)  # type: ignore[arg-type]
    found.gateway = gateways.start(
        found.cloud(),
        hostAliases={HOST: cloud.address, EXTRA: cloud.address},
        trustedCa=str(certificates.ca),
        limits={"drainTimeout": "5s"},
    )
    return found


class Streams:
    """Clients that ask for one streamed answer after the other, and every way in which one was not as it should be."""

    def __init__(self, port: int, request: Callable[[int], bytes]) -> None:
        self._port = port
        self._request = request
        self._stop = False
        self._progress = asyncio.Condition()
        self.complete = 0
        self.errors: Counter[str] = Counter()

    async def __aenter__(self) -> Streams:
        self._tasks = [asyncio.create_task(self._work(i)) for i in range(STREAMS)]
        return self

    async def __aexit__(self, *_error: object) -> None:
        self._stop = True
        await asyncio.gather(*self._tasks)

    async def until(self, complete: int) -> None:
        async with self._progress:
            await self._progress.wait_for(lambda: self.complete >= complete or bool(self.errors))

    async def _work(self, number: int) -> None:
        while not self._stop:
            try:
                problem = await self._stream(number)
            except (OSError, asyncio.IncompleteReadError) as error:
                problem = repr(error)
            self.complete += not problem
            if problem:
                self.errors[problem] += 1
            async with self._progress:
                self._progress.notify_all()

    async def _stream(self, number: int) -> str:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            writer.write(self._request(number))
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200"):
                return f"{head!r} {await reader.read(500)!r}"
            answer = await reader.read()
            return (
                "" if answer.endswith(b"\r\n0\r\n\r\n") and b"data: [DONE]" in answer else f"cut off: {answer[-200:]!r}"
            )
        finally:
            writer.close()


def streamed(host: str) -> bytes:
    body = json.dumps({"model": "qwen3-8b", "stream": True, "messages": [{"role": "user", "content": "hi"}]}).encode()
    lines = [
        "POST /v1/chat/completions HTTP/1.1",
        f"host: {host}",
        f"content-length: {len(body)}",
        "content-type: application/json",
        "connection: close",
        "x-sim: events:10,slow-stream:200",
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@pytest.mark.slow
async def test_200_streams_notice_neither_50_reloads_nor_20_key_rotations(setup: Setup) -> None:
    gateway, cloud = setup.gateway, setup.provider
    engines = [setup.far.engine() for _ in range(3)]
    gpus = route("gpus", "gpus.example", {"backendRefs": [{"pool": "gpus"}]})

    def variant(number: int) -> list[Manifest]:
        """Providers, rules, their names and weights, hosts and the pool's members differ from one to the next."""
        even = number % 2 == 0
        members = [engine.address for engine in (engines[:2] if even else engines[1:])]
        refs = [{"provider": "cloud", "weight": number + 1}, *([{"provider": "extra"}] if even else [])]
        rules = [{"name": f"rule-{number}", "backendRefs": refs}]
        extra = [provider("extra", EXTRA, port=cloud.port, key=f"${{file:{setup.key}}}", model="extra")]
        return [
            setup.cloud(model=f"model-{number}"),
            *(extra if even else []),
            pool("gpus", members, policy="round-robin" if even else "least-request"),
            route("main", HOST, *rules),
            gpus,
            *([route("other", f"host-{number}.example", *rules)] if even else []),
        ]

    async def reloads() -> None:
        for number in range(RELOADS):
            await asyncio.to_thread(gateway.configure, *variant(number))

    def rotations() -> None:
        """As it is done in practice: the old key goes once nobody has used it for a while."""
        for number in range(1, ROTATIONS + 1):
            old, new = f"sk-{number - 1}", f"sk-{number}"
            cloud.keys = frozenset((old, new))
            replace(setup.key, new)
            last = -1
            while cloud.by_key[old] != last:
                last, wanted = cloud.by_key[old], cloud.by_key[new] + 15
                wait_until(lambda wanted=wanted, new=new: cloud.by_key[new] >= wanted, "requests with the new key")  # type: ignore[misc]
            cloud.keys = frozenset((new,))

    await asyncio.to_thread(gateway.configure, *variant(RELOADS))
    requests = [streamed(HOST), streamed("gpus.example")]
    async with Streams(gateway.port, lambda i: requests[i % 4 == 0]) as streams:
        await streams.until(STREAMS // 2)
        await asyncio.gather(reloads(), asyncio.to_thread(rotations))
        await streams.until(streams.complete + STREAMS)
    assert not streams.errors
    assert cloud.refused == 0
    assert cloud.by_key["sk-0"] > 0
    assert cloud.by_key[f"sk-{ROTATIONS}"] > 0
    assert gateway.metric("sluice_config_reloads_total", result="failure") == 0
    wait_until(lambda: gateway.metric("sluice_exchanges_in_flight") == 0, "every exchange to be settled")


def test_a_bad_configuration_is_refused_and_the_old_one_stays(setup: Setup) -> None:
    gateway = setup.gateway
    generation = gateway.metric("sluice_config_generation")
    good = (gateway.directory / "all.yaml").read_text()
    bad = good.replace("model: qwen-max", "modell: qwen-max")
    replace(gateway.directory / "all.yaml", bad)
    wait_until(lambda: gateway.metric("sluice_config_reloads_total", result="failure") == 1, "the refusal")
    line = 1 + bad[: bad.index("modell")].count("\n")
    log = gateway.filter.output()
    assert f"all.yaml:{line}" in log, log
    assert "spec.configs.defaultConfig.openAIConfig.modell" in log, log
    assert "did you mean `model`" in log, log
    assert gateway.metric("sluice_config_generation") == generation
    assert chat(gateway.port, HOST).json["model"] == "qwen-max"
    replace(gateway.directory / "all.yaml", good.replace("model: qwen-max", "model: qwen-plus"))
    wait_until(lambda: gateway.metric("sluice_config_generation") > generation, "the corrected one")
    assert chat(gateway.port, HOST).json["model"] == "qwen-plus"


def test_what_envoy_refuses_changes_nothing(setup: Setup) -> None:
    gateway = setup.gateway
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        own = gateway.gateway_manifest()
        moved = {**own, "spec": {**own["spec"], "listener": {"port": port}}}
        write_manifests(gateway.directory, setup.cloud(model="qwen-plus"), moved)
        wait_until(lambda: gateway.metric("sluice_config_reloads_total", result="failure") == 1, "the refusal")
    assert str(port) in gateway.filter.output()
    assert chat(gateway.port, HOST).json["model"] == "qwen-max"
    gateway.configure(setup.cloud(model="qwen-plus"))
    assert chat(gateway.port, HOST).json["model"] == "qwen-plus"


def test_a_key_file_is_watched(setup: Setup) -> None:
    """Also one that no request has used yet, and whatever befalls it."""
    gateway, cloud = setup.gateway, setup.provider
    cloud.keys = frozenset(("sk-1",))
    replace(setup.key, "sk-1")
    wait_until(lambda: "API keys were read again" in gateway.filter.output(), "the new key")
    assert chat(gateway.port, HOST).status == 200
    setup.key.unlink()
    assert chat(gateway.port, HOST).status == 200, "the last good key stays"
    setup.key.write_text("")
    assert chat(gateway.port, HOST).status == 200, "the last good key stays"
    cloud.keys = frozenset(("sk-2",))
    replace(setup.key, "sk-2")
    wait_until(lambda: gateway.filter.output().count("API keys were read again") == 2, "the newest key")
    assert chat(gateway.port, HOST).status == 200
    assert cloud.refused == 0
    assert "sk-" not in gateway.filter.output()


def test_a_reload_without_the_key_file_keeps_the_key(setup: Setup) -> None:
    gateway = setup.gateway
    setup.key.unlink()
    write_manifests(gateway.directory, setup.cloud(model="qwen-plus"), gateway.gateway_manifest())
    wait_until(lambda: gateway.metric("sluice_config_reloads_total", result="failure") == 1, "the refusal")
    assert str(setup.key) in gateway.filter.output()
    answer = chat(gateway.port, HOST)
    assert (answer.status, answer.json["model"]) == (200, "qwen-max")


def test_running_streams_outlive_what_they_use(setup: Setup, far_side: FarSide) -> None:
    """A provider, a pool and an endpoint are taken out of the configuration while an answer streams from each."""
    gateway = setup.gateway
    with Held(far_side) as removed, Held(far_side) as shrunk, Held(far_side) as stays:
        before = [
            provider("old", "old.example.com", port=80, protocol="http"),
            pool("old", [removed.address]),
            pool("gpus", [shrunk.address]),
            route("old-pool", "pool.example", {"backendRefs": [{"pool": "old"}]}),
            route("gpus", "gpus.example", {"backendRefs": [{"pool": "gpus"}]}),
        ]
        own = gateway.gateway_manifest()
        own["spec"]["hostAliases"]["old.example.com"] = stays.address
        gateway.configure(setup.cloud(), *before)
        hosts = {"old.example.com": stays, "pool.example": removed, "gpus.example": shrunk}
        clients = {host: Chat(gateway.port, host, stream=True) for host in hosts}
        calls = {host: held.next() for host, held in hosts.items()}
        for host, call in calls.items():
            call.event("one ")
            assert clients[host].head()[0] == 200
            assert clients[host].text() == "one "
        del own["spec"]["hostAliases"]["old.example.com"]
        gateway.configure(setup.cloud(), pool("gpus", [stays.address]), before[-1])
        assert chat(gateway.port, "pool.example").error["code"] == "route_not_found"
        for host, call in calls.items():
            call.event("two")
            call.end()
            with clients[host] as client:
                assert client.remaining() == "two"


def test_a_new_listener_port_is_taken_up(setup: Setup, far_side: FarSide) -> None:
    """The old port closes; what runs on it finishes."""
    gateway = setup.gateway
    port = free_port()
    with Held(far_side) as held:
        gateway.configure(
            setup.cloud(), pool("p", [held.address]), route("p", "p.example", {"backendRefs": [{"pool": "p"}]})
        )
        with Chat(gateway.port, "p.example", stream=True) as client:
            call = held.next()
            call.event("one ")
            assert client.head()[0] == 200
            old = gateway.port
            gateway.gateway_manifest()["spec"]["listener"]["port"] = port
            gateway.configure(setup.cloud())
            assert chat(port, HOST).status == 200
            wait_until(lambda: http_status(f"http://127.0.0.1:{old}/v1/models") == 0, "the old port to close")
            call.end()
            assert client.remaining() == "one "


def test_a_new_admin_address_waits_for_the_next_start(setup: Setup) -> None:
    gateway = setup.gateway
    own = gateway.gateway_manifest()
    own["spec"]["admin"]["port"], stays = free_port(), own["spec"]["admin"]["port"]
    gateway.configure(setup.cloud())
    assert f"the admin address stays 127.0.0.1:{stays} until the next start" in gateway.filter.output()


def test_a_manifest_that_is_being_written_deletes_nothing(setup: Setup) -> None:
    """Empty for a moment, then half of it: what it does not hold yet stays in force."""
    gateway = setup.gateway
    file = gateway.directory / "more.yaml"
    text = yaml.safe_dump(setup.cloud()).replace(HOST, EXTRA).replace("name: cloud", "name: extra")
    file.write_text(text)
    wait_until(lambda: gateway.metric("sluice_config_generation") == 2, "the new manifest")
    failures = gateway.metric("sluice_config_reloads_total", result="failure")
    file.write_text("")
    wait_until(lambda: gateway.metric("sluice_config_reloads_total", result="failure") > failures, "the refusal")
    assert "the file is empty" in gateway.filter.output()
    assert chat(gateway.port, EXTRA).status == 200
    file.write_text("# written in a moment\n")
    file.write_text(text)
    assert chat(gateway.port, EXTRA).status == 200
    file.unlink()
    wait_until(lambda: gateway.metric("sluice_config_generation") == 3, "the deletion")
    wait_until(lambda: chat(gateway.port, EXTRA).status == 404, "the deletion at Envoy")
