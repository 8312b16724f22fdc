import math

from extproc.scheduling.state.ledger import SlotLedger


def test_entries_up_to_the_limit_and_again_after_a_release() -> None:
    ledger = SlotLedger()
    assert [ledger.take(name, 2, 60, 0) for name in "abc"] == [True, True, False]
    assert ledger.release("a")
    assert not ledger.release("a")
    assert ledger.take("c", 2, 60, 1)


def test_a_lost_release_heals() -> None:
    ledger = SlotLedger()
    ledger.take("lost", 1, 60, 0)
    assert ledger.available_at(1, 10) == 60
    assert not ledger.take("b", 1, 60, 59.9)
    assert ledger.take("b", 1, 60, 60)


def test_taking_twice_is_one_entry() -> None:
    ledger = SlotLedger()
    assert ledger.take("a", 1, 60, 0)
    assert ledger.take("a", 1, 60, 1)
    assert ledger.count(1) == 1


def test_clock_steps() -> None:
    ledger = SlotLedger()
    ledger.take("a", 1, 60, 1000)
    assert ledger.count(0) == 1
    ledger.take("b", 2, 60, 0)
    assert ledger.count(1059) == 2
    assert ledger.count(1060) == 0


def test_a_limit_of_nothing_is_never_granted() -> None:
    assert SlotLedger().available_at(0, 5) == math.inf
