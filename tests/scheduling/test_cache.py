"""What is the same, what may be kept, and identical requests in flight."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.payload.usage import Usage
from extproc.scheduling.cache import cache_key, forbids_storing, keepable
from extproc.scheduling.flow import Flow
from extproc.scheduling.policy import Caching, ConcurrencyLimiting, ConcurrencyScheduling, Policies, QuotaScheduling
from extproc.scheduling.state.claims import CacheBounds, CacheEntry
from extproc.scheduling.state.memory import CacheTable
from extproc.scheduling.ticket import End, FlowPlace
from tests.scheduling.build import admitted, hit, job, refused, run_to, tiers, used, waiting

BASE = b'{"model":"m","messages":[{"role":"user","content":"hi"}],"temperature":0.5}'
ANSWER = b'{"choices":[{"finish_reason":"stop","message":{"content":"hi"}}]}'
DONE = End(usage=Usage(3, 4), completed=True, answer=ANSWER)


def key(body: bytes, target: str = "provider/p/m", operation: str = "chat_completions") -> str:
    return cache_key(body, target=target, operation=operation)


@pytest.mark.parametrize(
    "same",
    [
        b'{"temperature":0.50, "messages":[{"content":"hi","role":"user"}], "model":"m"}',
        b'{"model":"m","messages":[{"role":"user","content":"\\u0068i"}],"temperature":5e-1,"stream":true}',
        b'{"model":"m","messages":[{"role":"user","content":"hi"}],"temperature":0.5,"user":"x","seed":null}',
        b'{"model":"m","messages":[{"role":"user","content":"hi"}],"temperature":0.5,"stream_options":{"include_usage":true}}',
    ],
)
def test_the_same_request_in_other_words(same: bytes) -> None:
    assert key(same) == key(BASE) != ""


@pytest.mark.parametrize(
    "other",
    [
        b'{"model":"n","messages":[{"role":"user","content":"hi"}],"temperature":0.5}',
        b'{"model":"m","messages":[{"role":"user","content":"Hi"}],"temperature":0.5}',
        b'{"model":"m","messages":[{"role":"system","content":"hi"}],"temperature":0.5}',
        b'{"model":"m","messages":[{"role":"user","content":"hi"}],"temperature":0.6}',
        b'{"model":"m","messages":[{"role":"user","content":"hi"}],"temperature":0.5,"max_tokens":5}',
        b'{"model":"m","messages":[{"role":"user","content":"hi"}],"temperature":0.5,"seed":1}',
        b'{"model":"m","messages":[{"role":"user","content":"hi"}],"temperature":0.5,"tools":[]}',
        b'{"model":"m","messages":[{"role":"user","content":"hi"},{"role":"user","content":""}],"temperature":0.5}',
    ],
)
def test_another_request(other: bytes) -> None:
    assert key(other) not in ("", key(BASE))


def test_another_destination_or_operation_is_another_request() -> None:
    assert len({key(BASE), key(BASE, target="provider/q/m"), key(BASE, operation="completions")}) == 3


@given(st.binary(max_size=50))
def test_what_is_no_request_has_no_key(body: bytes) -> None:
    assert key(b"[" + body) == ""


@pytest.mark.parametrize(
    ("said", "wanted"),
    [("no-store", True), ("max-age=0, No-Cache", True), ("private", True), ("max-age=60", False), ("", False)],
)
def test_cache_control(said: str, wanted: bool) -> None:
    assert forbids_storing(said) is wanted


def answer(message: dict[str, Any], finish: str = "stop") -> bytes:
    return msgspec.json.encode({"choices": [{"finish_reason": finish, "message": message}]})


CALLS = {"tool_calls": [{"function": {"name": "look_up"}}, {"function": {"name": "send"}}]}


@pytest.mark.parametrize(
    ("body", "safe", "wanted"),
    [
        (ANSWER, (), True),
        (answer({"content": "x"}, "length"), (), True),
        (answer({"content": "x"}, "content_filter"), (), False),
        (answer({"content": None, "refusal": "no"}), (), False),
        (answer(CALLS, "tool_calls"), (), False),
        (answer(CALLS, "tool_calls"), ("look_up",), False),
        (answer(CALLS, "tool_calls"), ("look_up", "send"), True),
        (answer({"function_call": {"name": "send"}}), ("send",), False),
        (b'{"choices":[{"message":{"content":"half"}}]}', (), False),
        (b'{"choices":[]}', (), False),
        (b'{"error":{"message":"no"}}', (), False),
        (b'{"choices":[{"text":"x","finish_reason":"stop"}]}', (), True),
        (b'{"object":"list","data":[{"embedding":[1]}]}', (), True),
        (b'{"type":"message","content":[{"type":"text","text":"x"}],"stop_reason":"end_turn"}', (), True),
        (b'{"type":"message","content":[{"type":"tool_use","name":"f"}],"stop_reason":"tool_use"}', (), False),
        (b'{"type":"message","content":[],"stop_reason":"refusal"}', (), False),
        (b'{"other":1}', (), False),
        (b"data: x", (), False),
        (b"", (), False),
    ],
)
def test_what_may_be_kept(body: bytes, safe: tuple[str, ...], wanted: bool) -> None:
    assert keepable(body, safe) is wanted


@given(
    st.recursive(st.none() | st.integers() | st.text(max_size=3), lambda x: st.lists(x) | st.dictionaries(st.text(), x))
)
def test_no_answer_raises(value: Any) -> None:
    keepable(msgspec.json.encode(value))
    keepable(msgspec.json.encode({"choices": value}))
    keepable(msgspec.json.encode({"choices": [{"finish_reason": "stop", "message": {"tool_calls": value}}]}))


def entry(size: int, expires: float = 1e9) -> CacheEntry:
    return CacheEntry(b"x" * size, 1, 1, 0, expires)


def test_the_table_is_bounded_in_number_and_bytes_and_forgets_the_oldest_use() -> None:
    table, bounds = CacheTable(), CacheBounds(3, 100)
    for name in "abc":
        table.put(name, entry(10), bounds, 0)
    assert table.get("a", 0) is not None
    table.put("d", entry(10), bounds, 0)
    assert [name for name in "abcd" if table.peek(name, 0)] == ["a", "c", "d"]
    table.put("e", entry(85), bounds, 0)
    assert ([name for name in "acde" if table.peek(name, 0)], table.bytes) == (["d", "e"], 95)
    table.put("f", entry(101), bounds, 0)
    table.put("e", entry(1, expires=5), bounds, 0)
    assert (len(table), table.bytes) == (2, 11)
    assert table.get("e", 4.9) is not None
    assert table.get("e", 5) is None
    assert table.bytes == 10


def flow_of(**more: Any) -> Flow:
    fields: dict[str, Any] = {"name": "k", **more}
    return Flow(Policies(caches=(Caching(**fields),)), 0)


def test_a_hit_within_the_time_to_live_and_counted_apart() -> None:
    flow = flow_of(ttl=10)
    admitted(flow.enter(job(key="x", tenant="a"), 0)).ticket.settle(1, DONE)
    found = hit(flow.enter(job(key="x", tenant="a"), 10.9))
    assert found.ticket.cache_status == "hit"
    found.ticket.settle(11)
    late = admitted(flow.enter(job(key="x", tenant="a"), 11))
    assert late.cache == "miss"
    assert flow.caches[0].tally.counts() == {"hits": 1, "misses": 2}


def test_tenants_do_not_share() -> None:
    flow = flow_of()
    admitted(flow.enter(job(key="x", tenant="a"), 0)).ticket.settle(1, DONE)
    admitted(flow.enter(job(key="x", tenant="b"), 2))
    admitted(flow.enter(job(key="x"), 2))
    hit(flow.enter(job(key="x", tenant="a"), 2))


def test_without_a_key_it_is_bypassed() -> None:
    assert admitted(flow_of().enter(job(), 0)).cache == "bypass"
    assert admitted(Flow(Policies(), 0).enter(job(key="x"), 0)).cache == ""


@pytest.mark.parametrize(
    "end",
    [
        End(failed=True, answer=ANSWER),
        End(usage=Usage(1, 1), completed=True),
        End(usage=Usage(1, 1), answer=ANSWER),
        End(completed=True, answer=b""),
        End(completed=True, answer=answer({"refusal": "no"})),
        End(completed=True, answer=answer({"content": "x" * 2_000_000})),
    ],
)
def test_what_is_not_kept(end: End) -> None:
    flow = flow_of()
    admitted(flow.enter(job(key="x"), 0)).ticket.settle(1, end)
    assert admitted(flow.enter(job(key="x"), 2)).cache == "miss"


def test_identical_requests_in_flight_are_one() -> None:
    flow = flow_of()
    leader = admitted(flow.enter(job(key="x"), 0))
    woken: list[FlowPlace] = []
    places = [waiting(flow.enter(job(key="x"), 1)) for _ in range(3)]
    for place in places:
        assert place.joined
        place.wake = lambda place=place: woken.append(place)  # type: ignore[misc]
    places[1].leave(0.0)
    leader.ticket.settle(2, DONE)
    assert woken == [places[0], places[2]]
    assert [place.outcome for place in places] == ["answered", "left", "answered"]
    assert hit(places[0].result).entry.body == ANSWER
    assert flow.caches[0].tally.hits == 2
    assert flow.idle


def test_when_the_first_fails_the_next_is_sent() -> None:
    flow = flow_of()
    leader = admitted(flow.enter(job(key="x"), 0))
    second, third = (waiting(flow.enter(job(key="x"), 1)) for _ in range(2))
    leader.ticket.settle(2, End(failed=True))
    assert (second.outcome, third.outcome) == ("admitted", "waiting")
    second.ticket.undo(3)
    assert third.outcome == "admitted"
    third.ticket.settle(4, DONE)
    hit(flow.enter(job(key="x"), 5))


def test_when_the_answer_may_not_be_kept_all_go_by_themselves() -> None:
    flow = flow_of()
    leader = admitted(flow.enter(job(key="x"), 0))
    places = [waiting(flow.enter(job(key="x"), 1)) for _ in range(3)]
    leader.ticket.settle(2, End(usage=Usage(1, 1), completed=True, answer=answer(CALLS, "tool_calls")))
    assert [place.outcome for place in places] == ["admitted"] * 3
    assert flow.idle


def test_nobody_waits_for_another_for_ever() -> None:
    flow = flow_of(join_timeout=5)
    admitted(flow.enter(job(key="x"), 0))
    place = waiting(flow.enter(job(key="x"), 1))
    assert (place.deadline, flow.next_event()) == (6, 6)
    run_to(flow, 6)
    assert place.outcome == "admitted"
    assert flow.next_event() == float("inf")


def test_a_leader_that_is_lost_holds_up_its_likes_once() -> None:
    flow = flow_of(join_timeout=5)
    lost = admitted(flow.enter(job(key="x"), 0))
    first, second = waiting(flow.enter(job(key="x"), 1)), waiting(flow.enter(job(key="x"), 4))
    run_to(flow, 6)
    third = waiting(flow.enter(job(key="x"), 7))
    assert (first.outcome, second.outcome, third.outcome) == ("admitted", "waiting", "waiting")
    first.ticket.settle(8, DONE)
    assert (second.outcome, third.outcome) == ("answered", "answered")
    assert flow.idle
    lost.ticket.settle(100, DONE)


def test_a_slow_leader_s_answer_is_for_all_who_wait() -> None:
    flow = flow_of(join_timeout=5)
    slow = admitted(flow.enter(job(key="x"), 0))
    first, second = waiting(flow.enter(job(key="x"), 1)), waiting(flow.enter(job(key="x"), 4))
    run_to(flow, 6)
    slow.ticket.settle(7, DONE)
    assert (first.outcome, second.outcome) == ("admitted", "answered")
    first.ticket.settle(8, End(failed=True))
    assert flow.idle


def test_beyond_the_bound_they_go_by_themselves() -> None:
    flow = flow_of(max_joined=1)
    admitted(flow.enter(job(key="x"), 0))
    waiting(flow.enter(job(key="x"), 0))
    admitted(flow.enter(job(key="x"), 0))


def test_a_leader_that_waits_in_a_line_and_gives_up_hands_on() -> None:
    policies = Policies(
        caches=(Caching(name="k"),),
        slots=(ConcurrencyScheduling(name="s", max_concurrency=1, scheduler=tiers(timeout=5)),),
    )
    flow = Flow(policies, 0)
    running = admitted(flow.enter(job(), 0))
    leader = waiting(flow.enter(job(key="x"), 0))
    follower = waiting(flow.enter(job(key="x"), 1))
    run_to(flow, 5)
    assert (leader.outcome, follower.outcome, follower.joined) == ("expired", "waiting", False)
    running.ticket.settle(6)
    assert follower.outcome == "admitted"


def test_a_thousand_followers_before_a_line_that_is_full() -> None:
    """Each next one is turned away in its turn, and everything goes back."""
    policies = Policies(
        caches=(Caching(name="k"),),
        concurrency=(ConcurrencyLimiting(name="c", max_concurrency=5000),),
        quotas=(QuotaScheduling(name="q", bucket_capacity=1, fill_amount=0, scheduler=tiers(size=1)),),
    )
    flow = Flow(policies, 0)
    leader = admitted(flow.enter(job(key="x"), 0))
    blocker = waiting(flow.enter(job(key="y"), 0))
    places = [waiting(flow.enter(job(key="x"), 0)) for _ in range(1000)]
    leader.ticket.settle(1, End(failed=True))
    assert {place.outcome for place in places} == {"impossible"}
    assert refused(places[0].result).reason == "queue_full"
    blocker.leave(0.0)
    assert flow.store.levels("c", 1, 1)[0].left == 5000
    assert flow.idle


def test_a_hit_gives_tokens_back_and_costs_nothing() -> None:
    flow = flow_of()
    admitted(flow.enter(job(100, 100, key="x"), 0)).ticket.settle(1, DONE)
    found = hit(flow.enter(job(100, 100, key="x"), 2))
    found.ticket.settle(3, used(50, 50))
    assert flow.idle


def test_dry_run_counts_what_would_have_been_a_hit() -> None:
    flow = flow_of(dry_run=True)
    admitted(flow.enter(job(key="x"), 0)).ticket.settle(1, DONE)
    admitted(flow.enter(job(key="x"), 2))
    assert flow.caches[0].tally.counts() == {"hits": 1, "misses": 1}
