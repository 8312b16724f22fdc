"""What security policies found, counted by category. Never any text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, Metric

from extproc.accounting.record import ExchangeRecord


class FindingTotals:
    """Totals since start. Labels come from the configuration only, so they need no cap."""

    def __init__(self) -> None:
        self._findings: Counter[tuple[str, str, str, str]] = Counter()
        self._failures: Counter[tuple[str, str]] = Counter()

    def __repr__(self) -> str:
        return f"<FindingTotals {self._findings.total()} findings>"

    def add(self, record: ExchangeRecord) -> None:
        self._findings.update(record.seen)
        self._failures.update(record.guard_failures)

    def families(self) -> Iterator[Metric]:
        findings = CounterMetricFamily(
            "sluice_findings",
            "Findings of security policies, by what the policy says about them.",
            labels=("policy", "category", "action", "direction"),
        )
        for labels, count in tuple(self._findings.items()):
            findings.add_metric(labels, count)
        yield findings
        failures = CounterMetricFamily(
            "sluice_detector_failures",
            "Texts that a detector failed on or had no time for.",
            labels=("policy", "detector"),
        )
        for names, count in tuple(self._failures.items()):
            failures.add_metric(names, count)
        yield failures
