"""Weighted fair queueing: shares, order, bounds."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.scheduling.fair import Entry, FairQueue, QueueFull

Queue = FairQueue[str]


def push(
    queue: Queue, name: str, flow: str = "f", priority: float = 1.0, cost: float = 1.0, **more: float
) -> Entry[str]:
    deadline = more.pop("deadline", float("inf"))
    return queue.push(name, (flow, str(more.pop("fair", ""))), priority, cost, deadline, more.pop("key", 0.0))


def drain(queue: Queue, most: int = 1 << 30) -> list[str]:
    served: list[str] = []
    while len(served) < most and (entry := queue.head()) is not None:
        queue.admit(entry)
        served.append(entry.item)
    return served


@pytest.mark.parametrize("cost", [lambda _rng: 1.0, lambda rng: rng.lognormvariate(5, 1)])
def test_saturated_priorities_share_as_their_weights(cost) -> None:  # type: ignore[no-untyped-def]
    rng = random.Random(1)
    queue = Queue(100, 100)
    served: Counter[str] = Counter()
    weights = {"a": 1.0, "b": 2.0, "c": 3.0}
    for name, weight in weights.items():
        for _ in range(5):
            push(queue, name, name, weight, cost(rng))
    for _ in range(60_000):
        entry = queue.head()
        assert entry is not None
        queue.admit(entry)
        served[entry.item] += entry.cost  # type: ignore[assignment]
        push(queue, entry.item, entry.item, weights[entry.item], cost(rng))
    total = sum(served.values())
    for name, weight in weights.items():
        assert served[name] / total == pytest.approx(weight / 6, rel=0.02)


def test_a_workload_keeps_its_share_however_many_tenants_it_has() -> None:
    queue = Queue(1000, 1000)
    served: Counter[str] = Counter()
    for tenant in range(10):
        for _ in range(5):
            push(queue, f"many-{tenant}", "many", fair=tenant)
    for _ in range(5):
        push(queue, "one", "one")
    for _ in range(20_000):
        entry = queue.head()
        assert entry is not None
        queue.admit(entry)
        served[entry.item] += 1
        queue.push(entry.item, entry.flow.key, 1.0, 1.0, float("inf"))
    assert served["one"] == pytest.approx(10_000, rel=0.02)
    for tenant in range(10):
        assert served[f"many-{tenant}"] == pytest.approx(1_000, rel=0.05)


def test_a_light_tenant_does_not_wait_behind_a_heavy_one() -> None:
    queue = Queue(2000, 2000)
    for i in range(1000):
        push(queue, f"heavy{i}", fair=1)
    push(queue, "light", fair=2)
    assert "light" in drain(queue, 3)


def test_first_come_first_served_within_a_flow() -> None:
    queue = Queue(100, 100)
    names = [f"{i:02}" for i in range(50)]
    for name in names:
        push(queue, name)
    assert drain(queue) == names


def test_the_order_within_a_flow_moves_nobody_past_another_flow() -> None:
    """Tenant 1 claims to be short in every request; it is served in its own order and gets no more."""
    queue = Queue(100, 100)
    for i in range(10):
        push(queue, f"a{i}", fair=1, key=float(-i))
        push(queue, f"b{i}", fair=2, key=1000.0)
    served = drain(queue, 10)
    assert [name for name in served if name[0] == "a"] == [f"a{i}" for i in range(9, 4, -1)]
    assert sum(name[0] == "b" for name in served) == 5


def test_lying_about_the_cost_is_paid_when_the_truth_is_known() -> None:
    """A tenant that says 1 and uses 10 gets a tenth of what it would: the same tokens as the honest one."""
    queue = Queue(100, 100)
    tokens: Counter[str] = Counter()
    for _ in range(5):
        push(queue, "liar", fair=1, cost=1)
        push(queue, "honest", fair=2, cost=10)
    for _ in range(4_000):
        entry = queue.head()
        assert entry is not None
        queue.admit(entry)
        tokens[entry.item] += 10
        queue.correct(entry.flow.key, 1.0, 10 - entry.cost)
        queue.push(entry.item, entry.flow.key, 1.0, entry.cost, float("inf"))
    assert tokens["liar"] == pytest.approx(tokens["honest"], rel=0.02)


def test_a_debt_is_remembered_while_the_flow_is_idle() -> None:
    queue = Queue(100, 100)
    push(queue, "liar", fair=1, cost=1)
    drain(queue)
    queue.correct(("f", "1"), 1.0, 50)
    push(queue, "liar", fair=1, cost=1)
    for i in range(20):
        push(queue, f"b{i}", fair=2, cost=1)
    served = drain(queue)
    assert served.index("liar") == 20


def test_no_flow_starves() -> None:
    queue = Queue(10_000, 10_000)
    push(queue, "small", "small", 0.01, 1.0)
    for i in range(101):
        push(queue, f"big{i}", "big", 1.0, 1.0)
    assert "small" in drain(queue, 101)


def test_bounds() -> None:
    queue = Queue(3, 2)
    push(queue, "a", "x")
    push(queue, "b", "x")
    with pytest.raises(QueueFull):
        push(queue, "c", "x")
    push(queue, "c", "y")
    with pytest.raises(QueueFull):
        push(queue, "d", "z")


def test_the_victim_is_the_latest_of_the_lowest_priority_below() -> None:
    queue = Queue(10, 10)
    push(queue, "b1", "batch", 1)
    latest = push(queue, "b2", "batch", 1)
    push(queue, "i", "interactive", 5)
    assert queue.victim(1) is None
    assert queue.victim(5) is latest
    queue.remove(latest)
    victim = queue.victim(5)
    assert victim is not None
    assert victim.item == "b1"


def test_deadlines() -> None:
    queue = Queue(10, 10)
    push(queue, "a", deadline=5)
    push(queue, "b", deadline=3)
    gone = push(queue, "c", deadline=1)
    queue.remove(gone)
    assert queue.next_deadline() == 3
    assert [entry.item for entry in queue.expired(4)] == ["b"]
    assert drain(queue) == ["a"]
    assert queue.next_deadline() == float("inf")


def test_ahead_scales_with_the_flow_s_share() -> None:
    queue = Queue(100, 100)
    for i in range(10):
        push(queue, f"a{i}", "a", 1.0)
        push(queue, f"b{i}", "b", 3.0)
    requests, tokens = queue.ahead(("b", ""), 3.0)
    assert (requests, round(tokens, 9)) == (14, 13.333333333)
    assert queue.ahead(("a", ""), 1.0) == (20, 20)
    assert queue.ahead(("new", ""), 1.0) == (0, 0)


def test_ten_thousand_opened_then_left_leave_nothing() -> None:
    queue = Queue(20_000, 20_000)
    for _ in range(3):
        entries = [push(queue, str(i), fair=i % 100, deadline=1e9 + i) for i in range(10_000)]
        for entry in entries:
            queue.remove(entry)
    assert len(queue) == 0
    assert queue.head() is None
    assert not queue._flows
    assert not queue._workloads
    assert len(queue._heads) + len(queue._deadlines) < 400


@given(st.data())
def test_random_life_keeps_the_counts_and_the_order(data: st.DataObject) -> None:
    queue = Queue(30, 12)
    alive: dict[int, Entry[str]] = {}
    for step in range(data.draw(st.integers(0, 80))):
        what = data.draw(st.sampled_from(["push", "push", "remove", "admit", "expire", "correct"]))
        if what == "push":
            try:
                entry = push(
                    queue,
                    str(step),
                    data.draw(st.sampled_from("ab")),
                    data.draw(st.sampled_from([1.0, 3.0])),
                    data.draw(st.floats(1, 100)),
                    fair=data.draw(st.integers(0, 2)),
                    deadline=data.draw(st.floats(0, 100)),
                )
                alive[entry.number] = entry
            except QueueFull:
                assert len(queue) == 30 or max(row[2] for row in queue.flows(99)) == 12
        elif what == "remove" and alive:
            queue.remove(alive.pop(data.draw(st.sampled_from(sorted(alive)))))
        elif what == "admit" and (head := queue.head()) is not None:
            flow = [entry.number for entry in alive.values() if entry.flow is head.flow]
            assert head.number == min(flow)
            before = queue.vt
            queue.admit(head)
            assert queue.vt >= before
            del alive[head.number]
        elif what == "expire":
            now = data.draw(st.floats(0, 100))
            for entry in queue.expired(now):
                assert entry.deadline <= now
                del alive[entry.number]
            assert all(entry.deadline > now for entry in alive.values())
        elif what == "correct":
            queue.correct(("a", "1"), 1.0, data.draw(st.floats(-50, 50)))
        assert len(queue) == len(alive)
        assert queue.tokens == pytest.approx(sum(entry.cost for entry in alive.values()), abs=1e-6)
        assert (queue.head() is None) == (not alive)
