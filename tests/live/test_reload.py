"""A reload that any part refuses leaves everything as it was: nothing changed, nothing left behind."""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
import yaml
from aiohttp import web
from envoy.service.ext_proc.v3.external_processor_pb2_grpc import ExternalProcessorStub

from extproc.envoyproxy.process import ProxyRejected
from extproc.live.app import App, AppOptions
from extproc.live.change import Changes
from tests.support.gateway import Manifest, manifest, pool, provider, route
from tests.support.processes import free_port
from tests.support.traffic import rate
from tests.wire.test_server import request_body, request_headers

ROUNDS = 40
"""Of five refusals each."""


class Proxy:
    """Stands for an Envoy, which is asked last."""

    refuses = False

    async def start(self, _config: object) -> None: ...

    async def prepare(self, _config: object) -> Proxy:
        if self.refuses:
            raise ProxyRejected("no")
        return self

    def commit(self) -> None: ...

    async def undo(self) -> None: ...

    async def stop(self, _seconds: float) -> None: ...


class Site:
    """An app, a judge that it asks, and a client that sends one judged request after the other."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.config = directory / "config"
        self.config.mkdir()
        self.address = f"unix:{directory / 'filter.sock'}"
        self.proxy = Proxy()
        self.asked = 0
        self.answered = 0
        self._numbers = itertools.count()
        self.ports = [free_port() for _ in range(4)]

    def write(self, number: int, **agents: Any) -> None:
        """Configuration `number`; every part of one differs from those of another."""
        judge = {"host": "127.0.0.1", "port": self.judge_port, "model": "j", "when": "always", "timeout": f"{number}s"}
        off = {name: {"enabled": False} for name in ("patterns", "secrets", "classifier")}
        own = manifest(
            "Gateway",
            "test",
            listener={"port": self.ports[0]},
            admin={"port": self.ports[1]},
            agents={"port": self.ports[2], "token": "${TOKEN}", **agents},
            predictor={"file": str(self.directory / f"predictor{number}.bin")},
            sharedState={"redis": "${REDIS}", "prefix": f"p{number}"},
        )
        documents: list[Manifest] = [
            own,
            provider("cloud", "api", port=80, protocol="http", model=f"model-{number}"),
            pool("gpus", ["127.0.0.1:1"], retryCount=number),
            pool(f"gpus{number}", ["127.0.0.1:1"]),
            route("gpus", "gpus.example", {"backendRefs": [{"pool": "gpus"}, {"pool": f"gpus{number}"}]}),
            manifest("LLMSecurityPolicy", "judged", judge=judge, **off),
            rate("many", 1e6, 1e6 + number, []),
        ]
        (self.config / "all.yaml").write_text(yaml.safe_dump_all(documents))

    async def judge(self, _request: web.Request) -> web.Response:
        self.asked += 1
        return web.json_response({"choices": [{"message": {"content": '{"result": "allow", "reason": "fine"}'}}]})

    async def ask(self, channel: grpc.aio.Channel) -> str:
        """The model that a judged request is sent to."""
        text = f"text {next(self._numbers)}"
        body = {"model": "m", "messages": [{"role": "user", "content": text}]}
        call = ExternalProcessorStub(channel).Process()
        await call.write(request_headers({"content-type": "application/json"}))
        await call.read()
        await call.write(request_body(json.dumps(body).encode()))
        reply = await call.read()
        call.cancel()
        assert reply.WhichOneof("response") == "request_body", reply
        self.answered += 1
        return str(reply.dynamic_metadata.fields["sluice"].struct_value.fields["model"].string_value)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[App]:
        application = web.Application()
        application.router.add_post("/v1/chat/completions", self.judge)
        runner = web.AppRunner(application)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.judge_port: int = runner.addresses[0][1]
        self.write(1)
        environ = {"KEY": "k", "TOKEN": "t", "REDIS": f"unix://{self.directory}/none.sock"}
        app = App(AppOptions(self.config, environ, self.address, proxy=self.proxy))  # type: ignore[arg-type]
        try:
            await app.start()
            yield app
        finally:
            await app.stop()
            await runner.cleanup()

    async def load_once(self) -> None:
        async with grpc.aio.insecure_channel(self.address) as channel:
            await self.ask(channel)

    async def load(self, stop: asyncio.Event) -> set[str]:
        """Asks until told to stop; gives the models that requests went to."""
        models = set()
        async with grpc.aio.insecure_channel(self.address) as channel:
            while not stop.is_set():
                models.add(await self.ask(channel))
        return models


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def held() -> dict[str, int]:
    """What a process has open, by kind."""
    gc.collect()
    sessions = [each for each in gc.get_objects() if type(each) is aiohttp.ClientSession and not each.closed]
    return {
        "sessions": len(sessions),
        "tasks": len(asyncio.all_tasks()),
        "files": len([*Path("/proc/self/fd").iterdir()]),
    }


async def until(reached: Callable[[], bool]) -> None:
    """Waits for what ends by itself."""
    async with asyncio.timeout(30):
        while not reached():  # noqa: ASYNC110 -- tasks and sockets of libraries end without telling anybody
            await asyncio.sleep(0.01)


async def test_200_refusals_under_load_leave_nothing_behind(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_arguments: object) -> None:
        raise OSError("it refuses")

    async with site.running() as app:
        parts = [app._security, app._flow, app._pools, app._reports, None]
        stop = asyncio.Event()
        await site.load_once()
        before = held()
        load = asyncio.ensure_future(site.load(stop))
        for number in range(ROUNDS):
            for part in parts:
                site.write(2 + number % 3, port=site.ports[3])
                with monkeypatch.context() as patch:
                    if part is None:
                        patch.setattr(site.proxy, "refuses", True)
                    else:
                        patch.setattr(part, "prepare", refuse)
                    assert not await app.reload()
        stop.set()
        assert await load == {"model-1"}
        assert site.asked == site.answered, "every one of them was judged"
        await until(lambda: held() == before)
        assert not list(site.directory.glob("predictor*"))
        assert await app.reload(), "and what was refused is good once nobody refuses it"
        async with grpc.aio.insecure_channel(site.address) as channel:
            assert (await site.ask(channel)).startswith("model-")
            assert app._generation == 2


async def test_a_judge_goes_on_when_an_agents_port_is_taken(site: Site) -> None:
    async with site.running() as app:
        await site.load_once()
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            site.write(2, port=taken.getsockname()[1])
            assert not await app.reload()
        (judge,) = [client for _, client in app._security._judges.values()]
        for _ in range(3):
            await site.load_once()
        assert not judge.failing
        assert site.asked == site.answered
        assert "p1" in {settings.prefix for settings in app._flow._stores}
        assert str(app._flow.predictor_file).endswith("predictor1.bin>")


async def test_what_was_replaced_is_closed(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("extproc.live.security._LINGER", 0.0)
    async with site.running() as app:
        await site.load_once()
        (old,) = [client for _, client in app._security._judges.values()]
        session = old._session
        assert session is not None
        site.write(2)
        assert await app.reload()
        await until(lambda: session.closed)
        assert await old.ask("from a request that still holds it") is not None
        assert set(app._pools._runtimes) == {"gpus", "gpus2"}
        await site.load_once()


async def test_agents_settings_change_on_the_same_port(site: Site) -> None:
    async with site.running() as app:
        first = app._reports._server
        site.write(1, heartbeat="500ms")
        assert await app.reload()
        assert app._reports._server is not first
        await asyncio.gather(*app._reports._leaving)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{site.ports[2]}") as channel:
            await channel.channel_ready()


async def test_what_is_missing_for_a_moment_is_not_deleted(site: Site) -> None:
    async with site.running() as app:
        file = site.config / "all.yaml"
        whole = file.read_text()
        file.write_text(whole.rpartition("---")[0])  # without the last document
        pending = asyncio.ensure_future(app.reload(settle=0.2))
        await asyncio.sleep(0)
        file.write_text(whole)
        assert await pending
        assert app._snapshot.traffic, "it was there again in time"
        file.write_text(whole.rpartition("---")[0])
        assert await app.reload(settle=0.01)
        assert not app._snapshot.traffic


class Part:
    def __init__(self, log: list[str], name: str) -> None:
        self.log, self.name = log, name

    def commit(self) -> None:
        self.log.append(f"commit {self.name}")

    async def undo(self) -> None:
        self.log.append(f"undo {self.name}")
        if self.name == "a fault":
            raise RuntimeError("in undo")


async def test_changes_are_committed_or_undone_once() -> None:
    log: list[str] = []
    async with Changes() as changes:
        changes.add(Part(log, "one"))
        changes.add(Part(log, "two"))
        changes.commit()
    assert log == ["commit one", "commit two"]
    log.clear()
    with pytest.raises(OSError, match="refused"):
        async with Changes() as changes:
            changes.add(Part(log, "one"))
            changes.add(Part(log, "a fault"))
            raise OSError("refused")
    assert log == ["undo a fault", "undo one"], "the last first, and all of them"
