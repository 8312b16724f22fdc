"""Flow control's figures as a scrape shows them."""

from __future__ import annotations

from extproc.accounting.record import ExchangeRecord
from extproc.exchange.endings import Ending
from extproc.payload.usage import Usage
from extproc.scheduling.state.claims import Level
from extproc.scheduling.status import PolicyState
from extproc.telemetry.flow import FlowStatus, PredictorStatus, SharedStatus
from extproc.telemetry.metrics import Metrics

STATUS = FlowStatus(
    policies=[
        PolicyState(name="R/r", kind="rate", counts={"passed": 3}, levels=[Level("a", 5, 9), Level("b", 2, 9)]),
        PolicyState(name="Q/q", kind="quota", waiting=4, levels=[Level("", 0.5, 9)]),
        PolicyState(name="S/s", kind="slots", waiting=0),
        PolicyState(name="A/a", kind="adaptive", waiting=0, multiplier=0.5),
        PolicyState(name="L/l", kind="ramp", percentage=12.5),
        PolicyState(name="C/c", kind="cache", counts={"hits": 2}, entries=7, bytes=700, joined=1),
    ],
    waiting={("Q/q", "gold"): 3, ("Q/q", "default"): 1},
    predictor=PredictorStatus(learned=9, observed=8, absolute=10, relative=0.5, covered=0.9, tau=0.4),
    shared=SharedStatus(connected=False, replicas=2, undelivered=3, counts={"late": 1}),
)


async def page(status: FlowStatus, *records: ExchangeRecord) -> list[str]:
    metrics = Metrics(flow=lambda: status)
    for record in records:
        metrics.record(record)
    return (await metrics.scrape()).body.decode().splitlines()


async def test_every_policy_shows_what_it_does() -> None:
    lines = await page(STATUS)
    for wanted in (
        'sluice_policy_requests_total{policy="R/r",result="passed"} 3.0',
        'sluice_policy_requests_total{policy="C/c",result="hits"} 2.0',
        'sluice_policy_left{policy="R/r"} 2.0',
        'sluice_policy_waiting{policy="Q/q",workload="gold"} 3.0',
        'sluice_policy_waiting{policy="S/s",workload=""} 0.0',
        'sluice_policy_multiplier{policy="A/a"} 0.5',
        'sluice_policy_ramp_percentage{policy="L/l"} 12.5',
        'sluice_cache_entries{policy="C/c"} 7.0',
        'sluice_cache_bytes{policy="C/c"} 700.0',
        'sluice_cache_joined{policy="C/c"} 1.0',
        "sluice_predictor_answers_total 9.0",
        "sluice_predictor_error_tokens 10.0",
        "sluice_predictor_rank_correlation 0.4",
        "sluice_shared_up 0.0",
        "sluice_shared_replicas 2.0",
        "sluice_shared_undelivered 3.0",
        'sluice_shared_events_total{event="late"} 1.0',
    ):
        assert wanted in lines


async def test_without_policies_there_is_nothing_to_show() -> None:
    lines = await page(FlowStatus())
    assert not [
        line for line in lines if line.startswith(("sluice_policy_requests", "sluice_predictor", "sluice_shared"))
    ]


async def test_exchanges_tell_of_waits_and_of_the_cache() -> None:
    lines = await page(
        FlowStatus(),
        ExchangeRecord(ending=Ending.CACHED, status=200, target="pool/p", cache="hit", saved=Usage(3, 4)),
        ExchangeRecord(ending=Ending.COMPLETED, status=200, target="pool/p", cache="miss", usage=Usage(1, 1)),
        ExchangeRecord(ending=Ending.QUEUE_TIMEOUT, status=503, waited=2.0, policy="q"),
    )
    for wanted in (
        'sluice_cache_requests_total{result="hit"} 1.0',
        'sluice_cache_requests_total{result="miss"} 1.0',
        'sluice_cache_saved_tokens_total{type="prompt"} 3.0',
        'sluice_cache_saved_tokens_total{type="completion"} 4.0',
        'sluice_policy_wait_seconds_bucket{le="2.5"} 1.0',
        "sluice_policy_wait_seconds_count 1.0",
    ):
        assert wanted in lines
    assert not [line for line in lines if line.startswith("sluice_completion_tokens") and line.endswith(" 5.0")]
