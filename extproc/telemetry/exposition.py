"""Accumulated figures as `prometheus_client` metric families, in a form that a thread renders beside the event loop."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

import msgspec
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.samples import Sample

from extproc.telemetry.series import Distribution, Series, TokenTotals

_BREATH_SAMPLES = 64
_BREATH_SECONDS = 50e-6

_GEN_AI = (
    "gen_ai_operation_name",
    "source",
    "gen_ai_provider_name",
    "gen_ai_request_model",
    "gen_ai_response_model",
)
_TOTALS = ("source", "provider", "model")


class Exposition(msgspec.Struct, frozen=True):
    """One rendered scrape."""

    body: bytes
    content_type: str


def _breathe() -> None:
    """Let the event loop's thread have the interpreter: left to the switch interval, it waits 5 ms for each turn."""
    time.sleep(_BREATH_SECONDS)


class _Samples(list[Sample]):
    """Samples that pause the thread which renders them every so often."""

    def __iter__(self) -> Iterator[Sample]:
        for start in range(0, len(self), _BREATH_SAMPLES):
            yield from self[start : start + _BREATH_SAMPLES]
            _breathe()


class _Histograms(HistogramMetricFamily):
    """A histogram family filled from distributions; those without an observation are left out."""

    def __init__(self, name: str, documentation: str, labels: Sequence[str]) -> None:
        super().__init__(name, documentation, labels=labels)
        self.samples = _Samples()

    def add(self, labels: Sequence[str], distribution: Distribution) -> None:
        counts = list(accumulate(distribution.counts))
        if counts[-1]:
            bounds = [*map(str, distribution.bounds), "+Inf"]
            self.add_metric(labels, list(zip(bounds, map(float, counts), strict=True)), distribution.total)


def histogram_family(name: str, documentation: str, distribution: Distribution) -> Metric:
    """One distribution without labels."""
    family = _Histograms(name, documentation, ())
    family.add((), distribution)
    return family


def gen_ai_families(all_series: Sequence[Series]) -> Iterator[Metric]:
    """The OpenTelemetry GenAI histograms in Prometheus form."""
    family = _Histograms("gen_ai_client_token_usage", "Tokens per request.", (*_GEN_AI, "gen_ai_token_type"))
    for series in _breathing(all_series):
        family.add((*series.labels, "input"), series.input)
        family.add((*series.labels, "output"), series.output)
    yield family
    family = _Histograms(
        "gen_ai_server_request_duration_seconds", "Time to the end of the answer.", (*_GEN_AI, "error_type")
    )
    for series in _breathing(all_series):
        family.add((*series.labels, ""), series.duration)
        for error, distribution in tuple(series.errors.items()):
            family.add((*series.labels, error), distribution)
    yield family
    family = _Histograms(
        "gen_ai_server_time_to_first_token_seconds", "Time to the first token of a streamed answer.", _GEN_AI
    )
    for series in _breathing(all_series):
        family.add(series.labels, series.first_token)
    yield family
    family = _Histograms(
        "gen_ai_server_time_per_output_token_seconds", "Time per token after the first of a streamed answer.", _GEN_AI
    )
    for series in _breathing(all_series):
        family.add(series.labels, series.output_token)
    yield family


def token_families(totals: Sequence[tuple[tuple[str, str, str], TokenTotals]]) -> Iterator[Metric]:
    """Token counters by source, provider and model that answers."""
    prompt = CounterMetricFamily("sluice_prompt_tokens", "Prompt tokens.", labels=(*_TOTALS, "estimated"))
    completion = CounterMetricFamily("sluice_completion_tokens", "Completion tokens.", labels=(*_TOTALS, "estimated"))
    cached = CounterMetricFamily("sluice_cached_tokens", "Prompt tokens served from a prefix cache.", labels=_TOTALS)
    written = CounterMetricFamily("sluice_cache_write_tokens", "Prompt tokens put into a cache.", labels=_TOTALS)
    reasoning = CounterMetricFamily("sluice_reasoning_tokens", "Completion tokens spent on reasoning.", labels=_TOTALS)
    families = (prompt, completion, cached, written, reasoning)
    for family in families:
        family.samples = _Samples()
    for labels, total in totals:
        for index, estimated in enumerate(("false", "true")):
            if total.prompt[index] or total.completion[index]:
                prompt.add_metric((*labels, estimated), total.prompt[index])
                completion.add_metric((*labels, estimated), total.completion[index])
        if total.cached:
            cached.add_metric(labels, total.cached)
        if total.cache_written:
            written.add_metric(labels, total.cache_written)
        if total.reasoning:
            reasoning.add_metric(labels, total.reasoning)
    yield from families


def message_families(phases: Iterable[tuple[str, Distribution]]) -> Iterator[Metric]:
    """How many ext_proc messages came in each phase, and what handling one cost."""
    count = CounterMetricFamily("sluice_messages", "ext_proc messages handled.", labels=("phase",))
    cost = _Histograms("sluice_message_seconds", "Time to handle one ext_proc message.", ("phase",))
    for phase, distribution in phases:
        count.add_metric((phase,), distribution.count)
        cost.add((phase,), distribution)
    yield count
    yield cost


def _breathing(all_series: Sequence[Series]) -> Iterator[Series]:
    for start in range(0, len(all_series), 4):
        yield from all_series[start : start + 4]
        _breathe()
