"""What agents may say, one message after the other, each at a given time."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.agents.sessions import AgentSession, AgentSessions, Registration, RegistrationRefused, literal_address
from extproc.pool.load import EngineLoad

A, B = "10.0.0.1:8000", "10.0.0.2:8000"
BUSY = EngineLoad("vllm", 99.0, running=3.0, waiting=1.0)


class OnePool:
    """A pool that notes what it is told, and admits only `allowed` where that is set."""

    def __init__(self) -> None:
        self.allowed: set[str] | None = None
        self.present: dict[str, dict[str, str]] = {}
        self.loads: list[tuple[str, EngineLoad | None]] = []
        self.left: list[tuple[str, str]] = []

    def admits(self, address: str) -> bool:
        return self.allowed is None or address in self.allowed

    def agent_joins(self, address: str, labels: Mapping[str, str]) -> None:
        assert address not in self.present
        self.present[address] = dict(labels)

    def agent_reports(self, address: str, load: EngineLoad | None) -> None:
        assert address in self.present
        self.loads.append((address, load))

    def agent_leaves(self, address: str, reason: str) -> None:
        del self.present[address]
        self.left.append((address, reason))


class Scene:
    def __init__(self) -> None:
        self.pools = {"p": OnePool()}
        self.agents = AgentSessions(self.pools.get, silence=3.0)
        self.lost: list[str] = []

    @property
    def pool(self) -> OnePool:
        return self.pools["p"]

    def connect(self, now: float = 0.0, peer: str = "peer") -> AgentSession:
        return self.agents.connect(peer, now, self.lost.append)

    def registered(self, address: str = A, now: float = 0.0, **fields: str) -> AgentSession:
        session = self.connect(now)
        session.register(Registration(pool="p", address=address, **fields), now)  # type: ignore[arg-type]
        return session


def test_one_life() -> None:
    scene = Scene()
    session = scene.connect()
    assert scene.pool.present == {}
    session.register(Registration(pool="p", address=A, labels={"gpu": "h20"}), 1.0)
    assert scene.pool.present == {A: {"gpu": "h20"}}
    session.heartbeat(1.5)
    assert scene.pool.loads == [], "nothing is known yet"
    session.load(BUSY, 2.0)
    session.heartbeat(3.0)
    at_arrival = [msgspec.structs.replace(BUSY, taken_at=now, source="agent") for now in (2.0, 3.0)]
    assert scene.pool.loads == [(A, load) for load in at_arrival], "the agent's own time does not count"
    for _ in range(2):
        session.end("bye")
    assert scene.pool.left == [(A, "bye")]
    assert len(scene.agents) == 0
    assert scene.lost == []


@pytest.mark.parametrize("message", ["register", "load", "heartbeat"])
@pytest.mark.parametrize("state", ["open", "registered", "ended"])
def test_every_message_in_every_state(state: str, message: str) -> None:
    scene = Scene()
    session = scene.connect() if state == "open" else scene.registered()
    if state == "ended":
        session.end("bye")
    present = dict(scene.pool.present)
    says: dict[str, Callable[[], None]] = {
        "register": lambda: session.register(Registration(pool="p", address=B), 1.0),
        "load": lambda: session.load(BUSY, 1.0),
        "heartbeat": lambda: session.heartbeat(1.0),
    }
    say = says[message]
    if (state == "open") == (message == "register") and state != "ended":
        say()
        return
    with pytest.raises(RegistrationRefused) as refused:
        say()
    assert refused.value.code == "out_of_order"
    assert scene.pool.present == present
    assert scene.pool.loads == []


def test_silence_is_loss_and_only_silence() -> None:
    scene = Scene()
    quiet, steady, mute = scene.registered(A), scene.registered(B), scene.connect()
    steady.heartbeat(2.9)
    scene.agents.end_silent(3.0)
    assert set(scene.pool.present) == {A, B}
    scene.agents.end_silent(3.1)
    assert set(scene.pool.present) == {B}
    assert (quiet.ended, steady.ended, mute.ended) == (True, False, True)
    assert scene.lost == ["nothing heard from the agent for 3 s"] * 2
    again = scene.registered(A, now=4.0)
    again.load(BUSY, 4.0)
    assert set(scene.pool.present) == {A, B}


def test_an_endpoint_is_reported_by_one_agent() -> None:
    scene = Scene()
    first = scene.registered(A, instance="one")
    for instance in ("two", ""):
        with pytest.raises(RegistrationRefused, match="reported by the agent at peer") as refused:
            scene.registered(A, instance=instance)
        assert refused.value.code == "taken"
    first.load(BUSY, 1.0)
    scene.pools["q"] = OnePool()
    other = scene.connect()
    other.register(Registration(pool="q", address=A, instance="two"), 1.0)
    assert len(scene.agents) == 2, "in another pool it is another endpoint"
    first.end("bye")
    scene.registered(A, instance="two")


def test_an_agent_takes_over_from_itself() -> None:
    scene = Scene()
    lost = scene.registered(A, instance="one")
    back = scene.registered(A, instance="one", now=1.0)
    assert lost.ended
    assert scene.lost == ["the same agent has connected again"]
    assert scene.pool.left == [(A, "the same agent has connected again")]
    lost.end("late")
    assert set(scene.pool.present) == {A}
    back.load(BUSY, 2.0)


def test_pools_that_do_not_take_the_endpoint() -> None:
    scene = Scene()
    session = scene.connect()
    with pytest.raises(RegistrationRefused, match="no pool 'nope'") as refused:
        session.register(Registration(pool="nope", address=A), 0.0)
    assert refused.value.code == "unknown_pool"
    scene.pool.allowed = {B}
    with pytest.raises(RegistrationRefused, match=r"10.0.0.1:8000 is not an endpoint of pool p") as refused:
        session.register(Registration(pool="p", address=A), 0.0)
    assert refused.value.code == "not_a_member"
    session.register(Registration(pool="p", address=B), 0.0)
    scene.pool.allowed = set()
    with pytest.raises(RegistrationRefused) as refused:
        session.heartbeat(1.0)
    assert refused.value.code == "not_a_member"
    del scene.pools["p"]
    with pytest.raises(RegistrationRefused) as refused:
        session.heartbeat(1.0)
    assert refused.value.code == "unknown_pool"
    session.end("bye")
    assert len(scene.agents) == 0


@pytest.mark.parametrize(
    ("text", "address"),
    [("10.0.0.1:80", "10.0.0.1:80"), ("[::1]:8000", "[::1]:8000"), ("[0:0::2]:0443", "[::2]:443")],
)
def test_addresses_in_their_usual_spelling(text: str, address: str) -> None:
    assert literal_address(text) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "engine:8000",
        "10.0.0.1",
        "10.0.0.1:",
        "10.0.0.1:0",
        "10.0.0.1:65536",
        "::1:80",
        "[10.0.0.1]:80",
        "0.0.0.0:80",
        "[::]:80",
        "[fe80::1%eth0]:80",
        "10.0.0.1:٣",
        "10.0.0.1:8 ",
        "http://10.0.0.1:80",
        "10.0.0.1:-1",
        "1.2.3:4",
    ],
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(RegistrationRefused, match="expected IP:PORT") as refused:
        literal_address(text)
    assert refused.value.code == "bad_address"


@given(st.text(max_size=30))
def test_any_text_is_an_address_or_refused(text: str) -> None:
    try:
        assert literal_address(literal_address(text)) == literal_address(text)
    except RegistrationRefused as refused:
        assert refused.code == "bad_address"


def test_labels_have_limits() -> None:
    for labels in ({str(n): "" for n in range(65)}, {"a": "x" * 257}, {"x" * 257: ""}):
        with pytest.raises(RegistrationRefused) as refused:
            Scene().connect().register(Registration(pool="p", address=A, labels=labels), 0.0)
        assert refused.value.code == "bad_labels"


@given(*[st.none() | st.floats() for _ in range(4)])
def test_figures_come_out_sane_or_unknown(
    running: float | None, waiting: float | None, usage: float | None, blocks: float | None
) -> None:
    scene = Scene()
    session = scene.registered()
    session.load(EngineLoad("x" * 999, math.nan, running, waiting, usage, num_blocks=blocks), 5.0)
    ((_, load),) = scene.pool.loads
    figures = [figure for figure in (running, waiting, usage) if figure is not None]
    if load is None:
        assert not any(figure in (0.0, 0.5, 1.0) for figure in figures)
        return
    assert load.taken_at == 5.0
    assert len(load.engine) <= 256
    for figure in (load.running, load.waiting, load.kv_usage, load.num_blocks):
        assert figure is None or (math.isfinite(figure) and figure >= 0)


def test_a_load_that_says_nothing_is_unknown() -> None:
    scene = Scene()
    scene.registered().load(EngineLoad("", 0.0), 1.0)
    assert scene.pool.loads == [(A, None)]
