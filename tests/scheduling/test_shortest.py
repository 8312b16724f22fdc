from __future__ import annotations

import math
from itertools import count
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.scheduling.fair import FairQueue
from extproc.scheduling.job import Job
from extproc.scheduling.policy import ConcurrencyScheduling
from extproc.scheduling.shortest import ServiceTime, Shortest, Shortness
from extproc.scheduling.slots import SlotLine
from extproc.scheduling.workloads import Scheduler

_ids = count()


def job(tokens: int, *, endpoint: str = "e", max_tokens: int | None = None) -> Job:
    return Job(id=str(next(_ids)), output_tokens=tokens, endpoint=endpoint, max_tokens=max_tokens)


def busy(patience: float = 30.0) -> Shortest:
    """One that has seen lengths 1..1000 and answers of 2 s + 10 ms a token, and lets the longest be passed over so many
    seconds."""
    order, dice = Shortest(Shortness(slack=2.0)), Random(1)
    for _ in range(400):
        tokens = dice.randrange(1, 1000)
        order.key(job(tokens), 0.0)
        order.learn("e", tokens, 2 + 0.01 * tokens, patience / 2)
    return order


class TestServiceTime:
    @given(st.floats(0.0, 5.0), st.floats(0.001, 0.2), st.integers(0, 1000))
    def test_a_line_is_found(self, constant: float, per_token: float, seed: int) -> None:
        time, dice = ServiceTime(), Random(seed)
        for _ in range(600):
            tokens = dice.randrange(1, 1000)
            time.learn(tokens, constant + per_token * tokens)
        assert time.seconds(500) == pytest.approx(constant + per_token * 500, rel=0.1)

    def test_stalls_do_not_tilt_it(self) -> None:
        time, dice = ServiceTime(), Random(3)
        for number in range(1000):
            tokens = dice.randrange(1, 1000)
            seconds = (0.5 + 0.02 * tokens) * dice.uniform(0.9, 1.1)
            time.learn(tokens, 300.0 if number % 50 == 0 else seconds)
        assert time.seconds(500) == pytest.approx(10.5, rel=0.25)

    def test_it_follows_an_endpoint_that_becomes_slower(self) -> None:
        time, dice = ServiceTime(), Random(4)
        for factor in (1.0, 3.0):
            for _ in range(800):
                tokens = dice.randrange(1, 1000)
                time.learn(tokens, factor * 0.01 * tokens)
        assert time.seconds(500) == pytest.approx(15, rel=0.15)

    @given(st.lists(st.tuples(st.integers(1, 10**6), st.floats(1e-6, 1e5)), max_size=60))
    def test_neither_part_is_ever_negative(self, answers: list[tuple[int, float]]) -> None:
        time = ServiceTime()
        for tokens, seconds in answers:
            time.learn(tokens, seconds)
            constant, per_token = time.fit()
            assert constant >= 0 and per_token >= 0 and math.isfinite(constant + per_token)


class TestOrder:
    def test_the_shorter_of_two_that_came_together_is_first(self) -> None:
        order = busy()
        assert order.key(job(50), 10.0) < order.key(job(900), 10.0)

    def test_equals_stay_in_the_order_they_came(self) -> None:
        order = busy()
        keys = [order.key(job(300), 10.0 + number) for number in range(10)]
        assert keys == sorted(keys)

    @given(st.lists(st.tuples(st.integers(1, 100_000), st.floats(0, 50)), min_size=2, max_size=40))
    def test_nobody_is_overtaken_by_one_that_came_more_than_the_patience_later(
        self, jobs: list[tuple[int, float]]
    ) -> None:
        order, now, seen = busy(5.0), 100.0, []
        for tokens, pause in jobs:
            now += pause
            seen.append((now, order.key(job(tokens), now)))
        for came, key in seen:
            assert all(other_key > key for other, other_key in seen if other > came + 5.0 + 1e-9)

    def test_a_long_request_among_endless_short_ones_is_served(self) -> None:
        order = busy(20.0)
        queue: FairQueue[str] = FairQueue(10_000, 10_000)
        queue.push("long", ("w", ""), 1.0, 1.0, math.inf, order.key(job(999), 0.0))
        for second in range(200):
            queue.push("short", ("w", ""), 1.0, 1.0, math.inf, order.key(job(5), float(second)))
            queue.push("short", ("w", ""), 1.0, 1.0, math.inf, order.key(job(5), float(second)))
            entry = queue.head()
            assert entry is not None
            queue.admit(entry)
            if entry.item == "long":
                break
        assert 10 < second < 60

    def test_one_that_seems_short_passes_nobody_of_another_flow(self) -> None:
        """The liar's requests all claim to be tiny and cost as much as anybody's once they have run."""
        order = busy()
        queue: FairQueue[str] = FairQueue(10_000, 10_000)
        for number in range(300):
            honest, liar = job(500), job(500, max_tokens=1)
            queue.push("honest", ("w", "honest"), 1.0, 500.0, math.inf, order.key(honest, float(number)))
            queue.push("liar", ("w", "liar"), 1.0, 1.0, math.inf, order.key(liar, float(number)))
        served = {"honest": 0, "liar": 0}
        for _ in range(200):
            entry = queue.head()
            assert entry is not None
            queue.admit(entry)
            served[entry.item] += 1
            if entry.item == "liar":
                queue.correct(("w", "liar"), 1.0, 499.0)
        assert abs(served["honest"] - served["liar"]) <= 4

    def test_endpoints_have_their_own_speed(self) -> None:
        order, dice = Shortest(), Random(5)
        for _ in range(300):
            tokens = dice.randrange(1, 1000)
            order.learn("fast", tokens, 0.005 * tokens)
            order.learn("slow", tokens, 0.05 * tokens)
        assert order.expected(job(400, endpoint="slow")) > 5 * order.expected(job(400, endpoint="fast"))
        assert order.fit("unheard of") == order.fit("another")

    def test_patience_follows_the_usual_wait_of_those_who_had_to(self) -> None:
        order, dice = Shortest(Shortness(slack=3.0)), Random(6)
        for _ in range(5000):
            order.learn("e", 100, dice.uniform(0.1, 1.0), dice.uniform(0, 9))
            order.learn("e", 100, dice.uniform(0.1, 1.0))
        assert order.patience == pytest.approx(3 * 4.5, rel=0.1)
        for _ in range(5000):
            order.learn("e", 100, dice.uniform(0.1, 1.0), 0.1)
        assert order.patience == pytest.approx(0.3, rel=0.05)

    def test_without_a_guard_the_shortest_is_first_however_late(self) -> None:
        order = Shortest(Shortness(guard="none"))
        assert order.key(job(5), 1e6) < order.key(job(6), 0.0)

    def test_without_any_wait_it_is_first_come_first_served(self) -> None:
        order = Shortest()
        keys = [order.key(job(tokens), float(at)) for at, tokens in enumerate((900, 5, 400, 1))]
        assert keys == sorted(keys)

    def test_nonsense_is_not_learned(self) -> None:
        order = Shortest()
        before = order.fit("e")
        for tokens, seconds, waited in ((0, 1.0, 0.0), (5, -1.0, 0.0), (5, math.nan, 0.0), (5, 1.0, math.inf)):
            order.learn("e", tokens, seconds, waited)
        assert order.fit("e") == before and order.patience == 0

    def test_endpoints_are_bounded(self) -> None:
        order = Shortest(Shortness(max_endpoints=10))
        for number in range(100):
            order.learn(f"e{number}", 100, 1.0)
        assert "10 endpoints" in repr(order)


class TestResponseRatio:
    def served(self, *waiting: tuple[float, int], now: float) -> list[str]:
        """Who is served, by name, of those that came at a time with a length, all at `now`."""
        policy = ConcurrencyScheduling(name="s", max_concurrency=1, scheduler=Scheduler(ordering="shortest"))
        line: SlotLine[str] = SlotLine(policy, Shortest(Shortness(guard="responseRatio")))
        for came, tokens in waiting:
            found = job(tokens)
            line.join(f"{tokens} from {came:g}", found, line.standing(found), came)
        served = []
        while (entry := line.head(now)) is not None:
            served.append(entry.item)
            line.queue.admit(entry)
        return served

    def test_a_wait_that_is_long_for_its_length_is_first(self) -> None:
        # 0.3 s + 20 ms a token before anything is learned: 20.3, 2.3 and 0.5 s
        assert self.served((0.0, 1000), (9.0, 100), (9.9, 10), now=10.0) == [
            "1000 from 0",
            "100 from 9",
            "10 from 9.9",
        ]
        assert self.served((0.0, 1000), (9.0, 100), (8.0, 10), now=10.0) == [
            "10 from 8",
            "1000 from 0",
            "100 from 9",
        ]

    def test_who_is_first_changes_with_time(self) -> None:
        """Just after the short one came the long one has waited longer for its length; later it has not."""
        assert self.served((0.0, 1000), (10.0, 10), now=10.1)[0] == "1000 from 0"
        assert self.served((0.0, 1000), (10.0, 10), now=10.5)[0] == "10 from 10"


@pytest.mark.parametrize("slack", [0.0, -1.0, math.inf, math.nan])
def test_settings_that_make_no_sense_are_refused(slack: float) -> None:
    with pytest.raises(ValueError, match="must"):
        Shortness(slack=slack)
