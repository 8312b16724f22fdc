"""The gateway's metrics: what happens on every exchange and message, and the scrape that shows it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from extproc.accounting.record import ExchangeRecord
from extproc.exchange.endings import Ending
from extproc.telemetry.endpoints import EndpointStatus, PoolStatus, endpoint_families, pool_families
from extproc.telemetry.exposition import Exposition, gen_ai_families, message_families, token_families
from extproc.telemetry.findings import FindingTotals
from extproc.telemetry.flow import FlowStatus, FlowTotals, flow_families
from extproc.telemetry.labels import OTHER, LabelCap
from extproc.telemetry.series import DURATION_BUCKETS, MESSAGE_BUCKETS, Distribution, Series, TokenTotals

MAX_SERIES = 500
"""Label sets of the GenAI histograms: a scrape of that many is some 9 MB. Source and models of further ones become
`other`."""

_SERVED = frozenset({Ending.COMPLETED, Ending.CLIENT_GONE, Ending.REPLIED_BY_ENVOY})
_OPERATIONS = {"chat_completions": "chat", "completions": "text_completion"}
"""Operations for which the semantic conventions require another name."""
_Labels = tuple[str, str, str, str, str]


class Metrics(Collector):
    """Counts and times of everything, on a registry of its own.

    `record` is a ledger sink. `max_label_values` caps every label that outsiders can fill; `endpoints`, `pools` and
    `flow` are asked at each scrape, on the event loop. Not thread-safe for writers.
    """

    def __init__(
        self,
        *,
        max_label_values: int = 100,
        max_series: int = MAX_SERIES,
        endpoints: Callable[[], Iterable[EndpointStatus]] = tuple,
        pools: Callable[[], Iterable[PoolStatus]] = tuple,
        flow: Callable[[], FlowStatus] = FlowStatus,
    ) -> None:
        self._operations = LabelCap(max_label_values)
        self._sources = LabelCap(max_label_values)
        self._targets = LabelCap(max_label_values)
        self._requested = LabelCap(max_label_values)
        self._models = LabelCap(max_label_values)
        self._max_series = max_series
        self._series: dict[_Labels, Series] = {}
        self._totals: dict[tuple[str, str, str], TokenTotals] = {}
        self._exchanges: dict[tuple[str, Ending, int], int] = {}
        self._phases: dict[str, Distribution] = {}
        self._in_flight = 0
        self.body_bytes: Callable[[], int] = int
        """Bytes of request bodies that are held at this moment."""
        self._endpoints = endpoints
        self._statuses: tuple[EndpointStatus, ...] = ()
        self._pools = pools
        self._pool_statuses: tuple[PoolStatus, ...] = ()
        self._flow = flow
        self._flow_status = FlowStatus()
        self._findings = FindingTotals()
        self._flow_totals = FlowTotals()
        self._scraping = asyncio.Lock()

        self.registry = CollectorRegistry()
        self._reloads = Counter(
            "sluice_config_reloads", "Configurations read, by result.", ("result",), registry=self.registry
        )
        self._generation = Gauge(
            "sluice_config_generation", "Configurations taken into use since start.", registry=self.registry
        )
        self._sink_failures = Counter(
            "sluice_sink_failures", "Records that a telemetry sink did not take.", ("sink",), registry=self.registry
        )
        self.registry.register(self)
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)

    def reserve(self, *, targets: Iterable[str] = (), models: Iterable[str] = ()) -> None:
        """Names from the configuration, which always get their own label value. Replaces those given before."""
        models = tuple(models)
        self._targets.reserve(targets)
        self._requested.reserve(models)
        self._models.reserve(models)

    def record(self, record: ExchangeRecord) -> None:
        """Count an exchange that has ended. The GenAI figures are of exchanges that went to a destination."""
        ending, target, status = record.ending, record.target, record.status
        exchange = (target, ending, status // 100)
        if exchange in self._exchanges:
            self._exchanges[exchange] += 1
        else:
            self._new_exchange(exchange)
        if record.seen or record.guard_failures:
            self._findings.add(record)
        if record.waited or record.cache:
            self._flow_totals.add(record)
        if not target or ending not in _SERVED:
            return
        success = 200 <= status < 300
        labels = (record.operation, record.source, target, record.requested_model, record.target_model)
        series = self._series.get(labels)
        if series is None:
            series = self._new_series(labels, success=success)
        elapsed = record.ended - record.started
        if success and ending is Ending.COMPLETED:
            series.duration.observe(elapsed)
        else:
            _failed(series, record, elapsed)
        if success and record.stream and record.first_token is not None:
            series.first_token.observe(record.first_token - record.started)
        if record.usage is not None:
            _tokens(series, record, record.first_token, record.last_token)

    def exchange_started(self) -> None:
        self._in_flight += 1

    def exchange_ended(self) -> None:
        """Exactly once for each `exchange_started`."""
        self._in_flight -= 1

    def phase(self, name: str) -> Distribution:
        """Where the seconds of handling one message of a phase are observed; each observation counts one message.

        Keep the object: the hot path is its `observe`. Phases are the codec's own few names.
        """
        try:
            return self._phases[name]
        except KeyError:
            return self._phases.setdefault(name, Distribution(MESSAGE_BUCKETS))

    def config_loaded(self, generation: int) -> None:
        self._reloads.labels("success").inc()
        self._generation.set(generation)

    def config_refused(self) -> None:
        self._reloads.labels("failure").inc()

    def sink_failed(self, sink: str) -> None:
        self._sink_failures.labels(sink).inc()

    async def scrape(self, accept: str = "") -> Exposition:
        """The exposition that an `Accept` header asks for, rendered in a thread; one scrape at a time."""
        async with self._scraping:
            self._statuses = tuple(self._endpoints())
            self._pool_statuses = tuple(self._pools())
            self._flow_status = self._flow()
            return await asyncio.to_thread(self.render, accept)

    def render(self, accept: str = "") -> Exposition:
        """OpenMetrics where accepted, else Prometheus text, with the endpoints as of the last scrape."""
        encode, content_type = choose_encoder(accept)
        return Exposition(encode(self.registry), content_type)

    def describe(self) -> Iterable[Metric]:
        """Nothing: the families are this module's own and clash with none."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """The families, for the registry. Copies are taken in single steps, since the event loop goes on meanwhile."""
        yield from gen_ai_families(tuple(self._series.values()))
        yield from token_families(tuple(self._totals.items()))
        exchanges = CounterMetricFamily(
            "sluice_exchanges", "Exchanges by how they ended.", labels=("target", "ending", "status_class")
        )
        for (target, ending, hundreds), count in tuple(self._exchanges.items()):
            exchanges.add_metric((target, ending.value, f"{hundreds}xx" if hundreds else "none"), count)
        yield exchanges
        yield GaugeMetricFamily("sluice_exchanges_in_flight", "Exchanges that have not ended.", self._in_flight)
        bodies = "Bytes of request bodies that are held, of all exchanges together."
        yield GaugeMetricFamily("sluice_body_bytes_in_flight", bodies, self.body_bytes())
        yield from message_families(tuple(self._phases.items()))
        yield from endpoint_families(self._statuses)
        yield from pool_families(self._pool_statuses)
        yield from self._findings.families()
        yield from flow_families(self._flow_status)
        yield from self._flow_totals.families()

    def _new_exchange(self, exchange: tuple[str, Ending, int]) -> None:
        target, ending, hundreds = exchange
        known = (self._targets.admit(target), ending, hundreds if 1 <= hundreds <= 5 else 0)
        self._exchanges[known] = self._exchanges.get(known, 0) + 1

    def _new_series(self, raw: _Labels, *, success: bool) -> Series:
        """The series of labels not seen as they are. Only a success makes a new requested model worth a label value."""
        operation, source, target, requested, model = raw
        operation = self._operations.admit(operation)
        provider = self._targets.admit(target)
        labels = (
            operation,
            self._sources.admit(source),
            provider,
            self._requested.admit(requested, new=success),
            self._models.admit(model, new=success),
        )
        if labels not in self._series and len(self._series) >= self._max_series:
            labels = (operation, OTHER, provider, OTHER, OTHER)
        series = self._series.get(labels)
        if series is None:
            _, source, _, requested, model = labels
            totals = self._totals.setdefault((source, provider, model or requested), TokenTotals())
            shown = (_OPERATIONS.get(operation, operation), source, provider, requested, model)
            series = self._series[labels] = Series(shown, totals)
        return series

    def __repr__(self) -> str:
        return f"<Metrics of {len(self._series)} label sets, {self._in_flight} in flight>"


def _failed(series: Series, record: ExchangeRecord, elapsed: float) -> None:
    """Observe a duration under its `error.type`: the status, or the ending where the status tells of no error."""
    error = str(record.status) if 400 <= record.status < 600 else record.ending.value
    distribution = series.errors.get(error)
    if distribution is None:
        distribution = series.errors[error] = Distribution(DURATION_BUCKETS)
    distribution.observe(elapsed)


def _tokens(series: Series, record: ExchangeRecord, first: float | None, last: float | None) -> None:
    """Count tokens. Estimates stay out of the GenAI histograms, as the semantic conventions ask."""
    usage = record.usage
    if usage is None:
        return
    prompt, completion, totals = usage.prompt_tokens, usage.completion_tokens, series.totals
    estimated = record.usage_estimated
    totals.prompt[estimated] += prompt
    totals.completion[estimated] += completion
    if estimated:
        return
    totals.cached += usage.cached_tokens
    totals.cache_written += usage.cache_write_tokens
    totals.reasoning += usage.reasoning_tokens
    series.input.observe(prompt)
    if completion > 0:
        series.output.observe(completion)
    if completion > 1 and record.stream and first is not None and last is not None:
        series.output_token.observe((last - first) / (completion - 1))
