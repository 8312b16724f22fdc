from extproc.scheduling.state.bounded import OVERFLOW, BoundedTable
from extproc.scheduling.state.bucket import TokenBucket
from extproc.scheduling.state.claims import BucketClaim, Claims
from extproc.scheduling.state.ledger import SlotLedger
from extproc.scheduling.state.memory import MemoryStore


def test_idle_values_make_room_without_loss() -> None:
    table: BoundedTable[TokenBucket] = BoundedTable(2)
    table.get("busy", lambda: TokenBucket(5, 1, 0), 0)[1].take(5, 0)
    table.get("idle", lambda: TokenBucket(5, 1, 0), 0)
    assert table.get("new", lambda: TokenBucket(5, 1, 0), 0)[0] == "new"
    assert table.find("idle") is None
    busy = table.find("busy")
    assert busy is not None
    assert busy.level == 0


def test_where_all_are_busy_newcomers_share_one() -> None:
    table: BoundedTable[SlotLedger] = BoundedTable(2)
    for name in "abcdef":
        key, ledger = table.get(name, SlotLedger, 0)
        assert ledger.take(name, 10, 60, 0)
        assert key == (name if name in "ab" else OVERFLOW)
    assert len(table) == 3
    shared = table.find(OVERFLOW)
    assert shared is not None
    assert shared.count(0) == 4


def test_a_label_with_any_number_of_values_stays_small_and_limited() -> None:
    """Each value takes its bucket's last token, so that none can be forgotten."""
    store, granted = MemoryStore(), 0
    for i in range(200_000):
        claim = BucketClaim("limit", str(i), 1, capacity=1, rate=0.001, start=1, max_keys=100)
        granted += store.ask(Claims(limits=(claim,)), now=0.0).short is None
    assert len(store.levels("limit", 1000, 0.0)) == 101
    assert granted == 101


def test_looking_changes_nothing() -> None:
    table: BoundedTable[SlotLedger] = BoundedTable(1)
    assert table.look("a", 0) is None
    _, ledger = table.get("a", SlotLedger, 0)
    assert table.look("b", 0) is None
    ledger.take("x", 1, 60, 0)
    table.get("b", SlotLedger, 0)[1].take("y", 1, 60, 0)
    assert table.look("c", 0) is table.find(OVERFLOW)
    assert len(table) == 2
