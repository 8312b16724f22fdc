"""Findings as metrics: counted by what the policy says, and nothing of the text."""

from __future__ import annotations

from extproc.accounting.record import ExchangeRecord
from extproc.telemetry.findings import FindingTotals
from extproc.telemetry.metrics import Metrics

SEEN = {("p", "EMAIL", "mask", "request"): 2, ("p", "SECRET", "would_deny", "response"): 1}
FAILED = {("p", "secrets"): 3}


def samples(totals: FindingTotals) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    found = [sample for family in totals.families() for sample in family.samples]
    return {(each.name, tuple(sorted(each.labels.items()))): each.value for each in found}


def test_totals_add_up_over_exchanges() -> None:
    totals = FindingTotals()
    for _ in range(3):
        totals.add(ExchangeRecord(seen=SEEN, guard_failures=FAILED))
    totals.add(ExchangeRecord())
    labels = (("action", "mask"), ("category", "EMAIL"), ("direction", "request"), ("policy", "p"))
    found = samples(totals)
    assert found["sluice_findings_total", labels] == 6
    assert found["sluice_detector_failures_total", (("detector", "secrets"), ("policy", "p"))] == 9
    assert len(found) == 3


def test_there_are_no_series_before_anything_is_found() -> None:
    assert samples(FindingTotals()) == {}


def test_they_are_on_the_metrics_page() -> None:
    metrics = Metrics()
    metrics.record(ExchangeRecord(seen=SEEN, guard_failures=FAILED))
    page = metrics.render().body.decode()
    assert 'sluice_findings_total{action="mask",category="EMAIL",direction="request",policy="p"} 2.0' in page
    assert 'sluice_detector_failures_total{detector="secrets",policy="p"} 3.0' in page
