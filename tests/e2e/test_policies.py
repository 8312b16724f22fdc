"""Policies of pools on a real Envoy: where a conversation goes, and what an endpoint must have to get a request."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bench.engine.server import EngineServer
from extproc.simulate.profile import EngineProfile
from tests.support.chat import Chat, chat
from tests.support.far_side import FarSide
from tests.support.gateway import Gateway, Gateways, Manifest, manifest, pool, route
from tests.support.processes import wait_until

MODEL = "qwen3-8b"
QUICK = {"interval": "100ms", "timeout": "2s"}
LONG = {"stream": True, "max_tokens": 5000, "ignore_eos": True}
"""A request that is still there when the test has looked at what others do."""
PREFILLER = "x-prefiller-host-port"
OWN_POLICY = """
from extproc.pool.policy import Policy


class Highest(Policy):
    def __init__(self, reverse=False):
        self.reverse = reverse

    def choose(self, request, endpoints, count, now, random):
        by_port = sorted(endpoints, key=lambda one: int(one.address.rpartition(":")[2]), reverse=not self.reverse)
        return by_port[:count]
"""

Message = dict[str, Any]


def essay(topic: str, size: int = 3_000) -> str:
    """Text of so many characters that shares no beginning with that of another topic."""
    return (f"{topic} is what this is about. " * (size // len(topic) + 1))[:size]


def user(content: Any) -> Message:
    return {"role": "user", "content": content}


def picture(topic: str) -> list[Message]:
    """The picture first, so that nothing but the picture tells two of them apart."""
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{essay(topic).replace(' ', '/')}"}}
    return [image, {"type": "text", "text": "What is in this picture?"}]


def tools(topic: str) -> list[dict[str, Any]]:
    parameters = {"type": "object", "properties": {}}
    function = {"name": "look_up", "description": essay(topic), "parameters": parameters}
    return [{"type": "function", "function": function}]


@dataclass
class Setup:
    """One gateway with a pool for every question, each behind a host of the same name."""

    far: FarSide
    gateway: Gateway
    engines: list[EngineServer]
    adapted: list[EngineServer]
    narrow: list[EngineServer]
    decoder: EngineServer
    prefiller: EngineServer

    def open(self, host: str, messages: Sequence[Message], **fields: Any) -> tuple[Chat, str]:
        """A long stream that has begun, and the address of the engine that serves it."""
        seen = self._seen()
        client = Chat(self.gateway.port, host, **{"model": MODEL, "messages": messages, **LONG, **fields})
        assert client.head()[0] == 200
        assert client.event() is not None
        return client, self._newest(seen)

    def ask(self, host: str, messages: Sequence[Message], **fields: Any) -> str:
        """The address of the engine that serves a request."""
        seen = self._seen()
        reply = chat(self.gateway.port, host, **{"model": MODEL, "messages": messages, "max_tokens": 2, **fields})
        assert reply.status == 200, reply
        return self._newest(seen)

    def endpoint(self, name: str, address: str) -> dict[str, Any]:
        pools = json.loads(self.gateway.admin_text("/endpoints"))
        (members,) = [one["endpoints"] for one in pools if one["name"] == name]
        found: dict[str, Any]
        (found,) = [endpoint for endpoint in members if endpoint["address"] == address]
        return found

    def idle(self, name: str, *engines: EngineServer) -> None:
        """Waits until engines are seen to be well and to have nothing to do."""
        for engine in engines:
            self.has(name, engine, state="healthy", running=0, waiting=0, in_flight=0)

    def has(self, name: str, engine: EngineServer, **wanted: object) -> None:
        def there() -> bool:
            shown = self.endpoint(name, engine.address)
            return all(shown[key] == value for key, value in wanted.items())

        wait_until(there, f"{wanted} at {engine.address}", 20)

    def _all(self) -> list[EngineServer]:
        return [*self.engines, *self.adapted, *self.narrow, self.decoder]

    def _seen(self) -> dict[str, int]:
        return {engine.address: engine.recorder.seen for engine in self._all()}

    def _newest(self, before: dict[str, int]) -> str:
        (address,) = [engine.address for engine in self._all() if engine.recorder.seen == before[engine.address] + 1]
        return address


def labelled(role: str, *engines: EngineServer) -> list[dict[str, Any]]:
    return [{"address": engine.address, "labels": {"role": role}} for engine in engines]


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of Python modules that the gateway can import."""
    place = tmp_path_factory.mktemp("modules")
    (place / "house_rules.py").write_text(OWN_POLICY)
    return place


@pytest.fixture(scope="module")
def setup(far_side: FarSide, gateways: Gateways, modules: Path) -> Iterator[Setup]:
    engines = [far_side.engine() for _ in range(3)]
    single = EngineProfile(max_loras=1)
    adapted = [far_side.engine(loras=("sql", "poems"), profile=single) for _ in range(2)]
    narrow = [far_side.engine(profile=EngineProfile(max_num_seqs=1)) for _ in range(2)]
    prefiller = far_side.engine(profile=EngineProfile(role="prefill"))
    decoder = far_side.engine(profile=EngineProfile(role="decode"))
    addresses = [engine.address for engine in engines]
    split = [*labelled("prefill", prefiller), *labelled("decode", decoder)]
    sessions = {"name": "prefix-cache", "parameters": {"sessionWeight": 2.0}}
    own = {"name": "house_rules:Highest", "parameters": {"reverse": True}}
    manifests: list[Manifest] = [
        pool("talks", addresses, metrics=QUICK),
        pool("sessions", addresses, policy=sessions, sessionHeader="x-session"),
        pool("adapters", [one.address for one in adapted], adapters=["sql", "poems"], metrics=QUICK),
        pool("narrow", [one.address for one in narrow], policy="llm-metric-based", metrics=QUICK),
        manifest("InferencePool", "split", endpoints=split, policy="static-pd"),
        manifest("InferencePool", "moving", endpoints=split, policy="dynamic-pd"),
        pool("own", addresses, policy="house_rules:Highest"),
        pool("own-reversed", addresses, policy=own),
    ]
    names = [one["metadata"]["name"] for one in manifests]
    routes = [route(name, f"{name}.example", {"backendRefs": [{"pool": name}]}) for name in names]
    gateway = gateways.start(*manifests, *routes, environ={"PYTHONPATH": str(modules)})
    setup = Setup(far_side, gateway, engines, adapted, narrow, decoder, prefiller)
    setup.idle("talks", *engines)
    setup.idle("adapters", *adapted)
    setup.idle("narrow", *narrow)
    yield setup


class TestConversations:
    @pytest.mark.parametrize("kind", ["text", "pictures", "tools"])
    def test_each_stays_where_it_began(self, setup: Setup, kind: str) -> None:
        """Those that begin at the same time spread out, and every later turn finds its own cache."""
        talks: dict[str, list[Message]] = {}
        more: dict[str, dict[str, Any]] = {}
        for topic in (f"{kind} {animal}" for animal in ("cats", "dogs", "owls", "eels", "apes", "bees")):
            content = {"text": essay(topic), "pictures": picture(topic), "tools": "What do you find?"}[kind]
            talks[topic] = [user(content)]
            more[topic] = {"tools": tools(topic)} if kind == "tools" else {}
        home: dict[str, str] = {}
        with ExitStack() as stack:
            for topic, messages in talks.items():
                client, home[topic] = setup.open("talks.example", messages, **more[topic])
                stack.enter_context(client)
        assert len(set(home.values())) > 1, home
        setup.idle("talks", *setup.engines)
        for turn in range(3):
            for topic, messages in talks.items():
                messages += [{"role": "assistant", "content": f"Of {topic}: {turn}."}, user(f"And then? {turn}")]
                assert setup.ask("talks.example", messages, **more[topic]) == home[topic], (topic, turn)

    def test_a_long_stem_keeps_its_place_among_other_talks(self, setup: Setup) -> None:
        """Whoever asks about the same document goes where it was read, whatever was asked in between."""
        stem = user(essay("the contract", 12_000))
        home = setup.ask("talks.example", [stem, user("Summarise it.")])
        for number in range(6):
            setup.ask("talks.example", [user(essay(f"something else {number}", 2_000))])
            assert setup.ask("talks.example", [stem, user(f"Question {number}?")]) == home

    def test_a_shared_system_prompt_does_not_herd(self, setup: Setup) -> None:
        system = {"role": "system", "content": essay("You are a helpful assistant", 4_000)}
        setup.ask("talks.example", [system, user("hello")])
        with ExitStack() as stack:
            served = Counter[str]()
            for number in range(30):
                client, address = setup.open("talks.example", [system, user(f"I am number {number}. " * 20)])
                stack.enter_context(client)
                served[address] += 1
        assert min(served[engine.address] for engine in setup.engines) >= 5, served
        setup.idle("talks", *setup.engines)

    def test_one_goes_on_elsewhere_when_its_engine_crashes(self, setup: Setup) -> None:
        talk = [user(essay("what survives"))]
        home = setup.ask("talks.example", talk)
        (victim,) = [engine for engine in setup.engines if engine.address == home]
        setup.far.run(victim.crash())
        talk += [{"role": "assistant", "content": "Little."}, user("And then?")]
        try:
            second = setup.ask("talks.example", talk)
            assert second != home
            assert setup.ask("talks.example", [*talk, user("Really?")]) == second
        finally:
            setup.far.run(victim.start())
        setup.idle("talks", victim)
        assert setup.ask("talks.example", [*talk, user("Are you sure?")]) == second, "what it had is lost"


class TestSessions:
    @pytest.mark.parametrize("by", ["header", "user"])
    def test_a_session_stays_whatever_it_asks(self, setup: Setup, by: str) -> None:
        setup.idle("sessions", *setup.engines)  # all of them are back from whatever befell them before
        homes = Counter[str]()
        for session in range(12):
            name = f"session {session}"
            named = {"headers": {"x-session": name}} if by == "header" else {"user": name}
            asked = {setup.ask("sessions.example", [user(f"{turn} of {name}")], **named) for turn in range(3)}
            assert len(asked) == 1
            homes += Counter(asked)
        assert set(homes) == {engine.address for engine in setup.engines}

    def test_the_header_goes_before_the_user(self, setup: Setup) -> None:
        header = {"x-session": "one"}
        homes = {setup.ask("sessions.example", [user("hi")], user=str(number), headers=header) for number in range(8)}
        assert len(homes) == 1


class TestAdapters:
    def test_a_request_goes_where_its_adapter_is(self, setup: Setup) -> None:
        sql, poems = setup.adapted
        with ExitStack() as stack:
            for engine, adapter in ((sql, "sql"), (poems, "poems")):
                stack.enter_context(Chat(engine.port, **{**LONG, "model": adapter}))  # type: ignore[arg-type]
                setup.has("adapters", engine, running=1)
            for number in range(5):
                messages = [user(f"number {number}")]
                assert setup.ask("adapters.example", messages, model="sql") == sql.address
                assert setup.ask("adapters.example", messages, model="poems") == poems.address
        setup.idle("adapters", sql, poems)


class TestEngineFigures:
    def test_an_engine_with_a_full_queue_is_avoided(self, setup: Setup) -> None:
        full, free = setup.narrow
        with ExitStack() as stack:
            for _ in range(8):
                stack.enter_context(Chat(full.port, **{**LONG, "model": MODEL}))  # type: ignore[arg-type]
            setup.has("narrow", full, running=1, waiting=7)
            assert {setup.ask("narrow.example", [user(f"{n}")]) for n in range(10)} == {free.address}
        setup.idle("narrow", full, free)


class TestPrefillAndDecode:
    @pytest.mark.parametrize("host", ["split.example", "moving.example"])
    def test_a_long_prompt_is_computed_elsewhere(self, setup: Setup, host: str) -> None:
        before = setup.prefiller.recorder.seen
        assert setup.ask(host, [user(essay(f"long {host}"))]) == setup.decoder.address
        assert prefiller_of(setup.decoder) == setup.prefiller.address
        assert setup.prefiller.recorder.seen == before + 1

    @pytest.mark.parametrize("host", ["split.example", "moving.example"])
    def test_a_short_or_a_cached_one_is_not(self, setup: Setup, host: str) -> None:
        long = [user(essay(f"again {host}"))]
        assert setup.ask(host, long) == setup.decoder.address
        before = setup.prefiller.recorder.seen
        for messages in ([user("hi")], [*long, user("Go on.")]):
            setup.ask(host, messages)
            assert prefiller_of(setup.decoder) is None
        assert setup.prefiller.recorder.seen == before

    @pytest.mark.parametrize("host", ["split.example", "talks.example"])
    def test_a_client_cannot_name_the_prefiller(self, setup: Setup, host: str) -> None:
        """An engine that believed it would connect to wherever a client likes."""
        address = setup.ask(host, [user("hi")], headers={PREFILLER: "192.0.2.1:80"})
        (engine,) = [one for one in (*setup.engines, setup.decoder) if one.address == address]
        assert prefiller_of(engine) is None


def prefiller_of(engine: EngineServer) -> str | None:
    """What the last request to an engine said."""
    headers = {name.lower(): value for name, value in engine.recorder.snapshot()["last"]["headers"]}
    return headers.get(PREFILLER)


def test_a_policy_of_ones_own(setup: Setup) -> None:
    ports = sorted(engine.port for engine in setup.engines)
    for host, port in (("own.example", ports[-1]), ("own-reversed.example", ports[0])):
        assert {setup.ask(host, [user(str(number))]) for number in range(5)} == {f"127.0.0.1:{port}"}
