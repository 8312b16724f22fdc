import logging

import pytest

from extproc.accounting.estimator import Estimator
from extproc.accounting.ledger import UsageLedger
from extproc.accounting.record import ExchangeRecord
from extproc.exchange.endings import Ending
from extproc.payload.usage import Usage


def record(**changes: object) -> ExchangeRecord:
    facts: dict[str, object] = {
        "status": 200,
        "ending": Ending.COMPLETED,
        "target_model": "m",
        "prompt_bytes": 400,
        "completion_bytes": 80,
    }
    return ExchangeRecord(**(facts | changes))  # type: ignore[arg-type] # keyword facts of one test


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, (100, 20)),
        ({"ending": Ending.CLIENT_GONE}, (100, 20)),
        ({"completion_bytes": 0}, (100, 0)),
        ({"completion_bytes": 800, "events": True}, (100, 4)),
        ({"ending": Ending.CLIENT_GONE, "completion_bytes": 0}, None),
        ({"prompt_bytes": 0, "completion_bytes": 0}, None),
        ({"status": 500}, None),
        ({"status": 0, "ending": Ending.ROUTE_NOT_FOUND}, None),
        ({"ending": Ending.ANSWERED}, None),
        ({"ending": Ending.REPLIED_BY_ENVOY, "status": 503}, None),
    ],
)
def test_usage_is_estimated_only_where_tokens_were_spent(
    changes: dict[str, object], expected: tuple[int, int] | None
) -> None:
    settled = record(**changes)
    UsageLedger(Estimator(), {}).settle(settled)
    assert settled.usage_estimated is (expected is not None)
    found = settled.usage and (settled.usage.prompt_tokens, settled.usage.completion_tokens)
    assert found == expected


def test_reported_usage_stays_and_teaches_the_estimates_of_the_same_model() -> None:
    ledger = UsageLedger(Estimator(), {})
    reported = Usage(prompt_tokens=200, completion_tokens=40)
    for _ in range(300):
        settled = record(usage=reported)
        ledger.settle(settled)
        assert (settled.usage, settled.usage_estimated) == (reported, False)
    missing, stranger = record(), record(target_model="", requested_model="other")
    ledger.settle(missing)
    ledger.settle(stranger)
    assert missing.usage == reported
    assert stranger.usage == Usage(prompt_tokens=100, completion_tokens=20)


def test_a_broken_off_answer_teaches_nothing() -> None:
    estimator = Estimator()
    usage = Usage(prompt_tokens=400, completion_tokens=400)
    UsageLedger(estimator, {}).settle(record(ending=Ending.CLIENT_GONE, usage=usage))
    assert len(estimator) == 0


@pytest.mark.parametrize(("stated", "settled", "estimated"), [(1, 20, True), (0, 20, True), (18, 18, False)])
def test_a_usage_stated_before_the_client_left_is_extended_by_what_flowed_since(
    stated: int, settled: int, estimated: bool
) -> None:
    usage = Usage(prompt_tokens=90, completion_tokens=stated, cached_tokens=5)
    gone = record(ending=Ending.CLIENT_GONE, usage=usage)
    UsageLedger(Estimator(), {}).settle(gone)
    assert gone.usage == Usage(prompt_tokens=90, completion_tokens=settled, cached_tokens=5)
    assert gone.usage_estimated is estimated


def test_every_sink_gets_the_completed_record_once_even_beside_one_that_fails(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[tuple[str, Usage | None]] = []
    told: list[str] = []

    def broken(_record: ExchangeRecord) -> None:
        raise RuntimeError("disk full")

    sinks = {
        "first": lambda settled: seen.append(("first", settled.usage)),
        "broken": broken,
        "last": lambda settled: seen.append(("last", settled.usage)),
    }
    ledger = UsageLedger(Estimator(), sinks, failed=told.append)
    with caplog.at_level(logging.ERROR):
        for _ in range(5):
            ledger.settle(record())
    estimate = Usage(prompt_tokens=100, completion_tokens=20)
    assert seen == [("first", estimate), ("last", estimate)] * 5
    assert ledger.failures == {"broken": 5}
    assert told == ["broken"] * 5
    assert [entry.getMessage() for entry in caplog.records] == [
        f"broken did not take a record (failure {count})" for count in (1, 2, 4)
    ]


def test_a_failing_failure_counter_does_not_reach_the_exchange(caplog: pytest.LogCaptureFixture) -> None:
    def broken(_anything: object) -> None:
        raise RuntimeError("no")

    UsageLedger(Estimator(), {"broken": broken}, failed=broken).settle(record())
    assert "could not be counted" in caplog.text
