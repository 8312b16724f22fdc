"""The prefix index: exact states, then any mixture of calls against a model that is slow and plain."""

from __future__ import annotations

from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from extproc.pool.prefix import PrefixIndex


def index(per_endpoint: int = 100, total: int = 1000) -> PrefixIndex:
    return PrefixIndex(per_endpoint=per_endpoint, total=total)


def test_depth_is_the_unbroken_beginning() -> None:
    known = index()
    known.learn("a", [1, 2, 3])
    known.learn("b", [1, 9, 3])
    assert known.depths([1, 2, 3, 4], ["b", "a", "nobody"]) == [1, 3, 0]
    assert known.depths([7, 1], ["a", "b"]) == [0, 0]
    assert known.depths([], ["a"]) == [0]
    assert known.depths([1, 2, 3], ["a"]) == [3]


def test_what_is_on_its_way_counts_until_it_is_settled() -> None:
    known = index()
    known.expect("a", [1, 2])
    known.expect("a", [1, 2, 3])
    assert known.depths([1, 2, 3], ["a"]) == [3]
    known.settle("a", [1, 2, 3])
    assert known.depths([1, 2, 3], ["a"]) == [2]
    known.learn("a", [1])
    known.settle("a", [1, 2])
    assert known.depths([1, 2, 3], ["a"]) == [1]
    assert known.view().expected == 0


def test_the_least_recently_used_block_goes_first_and_of_a_prompt_its_end() -> None:
    known = index(per_endpoint=4)
    known.learn("a", [1, 2])
    known.learn("a", [11, 12])
    known.learn("a", [1, 2])
    known.learn("a", [21])
    assert known.depths([11, 12], ["a"]) == [1]
    assert known.depths([1, 2], ["a"]) == [2]


def test_an_engine_that_says_its_size_is_believed_up_to_the_limit() -> None:
    known = index(per_endpoint=10)
    known.learn("a", list(range(20)), limit=3)
    assert known.view().blocks == 3
    known.learn("a", list(range(20)), limit=500)
    assert known.view().blocks == 10
    assert known.depths(list(range(20)), ["a"]) == [10]


def test_all_endpoints_share_what_the_index_may_hold() -> None:
    known = index(per_endpoint=100, total=60)
    known.learn("a", list(range(100)))
    assert known.view().blocks == 60
    known.learn("b", list(range(100)))
    known.learn("c", [1])
    assert known.view().blocks == 20 + 20 + 1
    assert known.view().bytes == 41 * 210


def test_an_endpoint_that_goes_leaves_nothing_behind() -> None:
    known = index()
    known.learn("a", [1, 2])
    known.expect("a", [3])
    known.learn("b", [1])
    known.forget("a")
    known.forget("never seen")
    known.settle("a", [3])
    assert known.depths([1, 2, 3], ["a", "b"]) == [0, 1]
    known.learn("c", [2])
    assert known.depths([1, 2], ["a", "b", "c"]) == [0, 1, 0], "a bit that is used again means the new endpoint"
    known.forget("b")
    known.forget("c")
    assert (known.view().endpoints, known.view().blocks, known._where) == (0, 0, {})


ENDPOINT = st.sampled_from("abc")
BLOCKS = st.lists(st.integers(0, 12), max_size=6, unique=True)


class IndexMachine(RuleBasedStateMachine):
    """Against lists in order of use, and counters."""

    def __init__(self) -> None:
        super().__init__()
        self.index = index(per_endpoint=5, total=12)
        self.held: dict[str, list[int]] = {}
        self.coming: dict[str, Counter[int]] = {}
        self.open: list[tuple[str, list[int]]] = []

    def join(self, name: str) -> None:
        if name not in self.held:
            self.held[name], self.coming[name] = [], Counter()

    def trim(self) -> None:
        for name in self.held:
            self.held[name] = self.held[name][-min(5, 12 // len(self.held)) :]

    @rule(name=ENDPOINT, blocks=BLOCKS)
    def learn(self, name: str, blocks: list[int]) -> None:
        self.join(name)
        self.trim()
        self.held[name] = [block for block in self.held[name] if block not in blocks] + blocks[::-1]
        self.trim()
        self.index.learn(name, blocks)

    @rule(name=ENDPOINT, blocks=BLOCKS)
    def expect(self, name: str, blocks: list[int]) -> None:
        self.join(name)
        self.trim()
        self.coming[name].update(blocks)
        self.open.append((name, blocks))
        self.index.expect(name, blocks)

    @rule(which=st.integers(0, 100))
    def settle(self, which: int) -> None:
        if self.open:
            name, blocks = self.open.pop(which % len(self.open))
            self.coming[name].subtract(blocks)
            self.index.settle(name, blocks)

    @rule(name=ENDPOINT)
    def forget(self, name: str) -> None:
        self.held.pop(name, None)
        self.coming.pop(name, None)
        self.open = [entry for entry in self.open if entry[0] != name]
        self.index.forget(name)

    @invariant()
    def the_same_is_known(self) -> None:
        for name in "abc":
            there = {*self.held.get(name, ()), *(+self.coming.get(name, Counter()))}
            assert {block for block in range(13) if self.index.depths([block], [name]) == [1]} == there
        chain = list(range(13))
        expected = []
        for name in "cab":
            there = {*self.held.get(name, ()), *(+self.coming.get(name, Counter()))}
            expected.append(next((depth for depth in range(13) if depth not in there), 13))
        assert self.index.depths(chain, ["c", "a", "b"]) == expected
        assert self.index.view().blocks == sum(map(len, self.held.values())) <= 12

    def teardown(self) -> None:
        for name in "abc":
            self.index.forget(name)
        assert not self.index._where


IndexMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
TestIndexMachine = IndexMachine.TestCase
