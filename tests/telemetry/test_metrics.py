import asyncio

import pytest
from prometheus_client.core import Metric
from prometheus_client.openmetrics import parser
from prometheus_client.parser import text_string_to_metric_families as parse_text

from extproc.accounting.record import ExchangeRecord
from extproc.exchange.endings import REFUSALS, Ending
from extproc.payload.usage import Usage
from extproc.telemetry.endpoints import EndpointStatus
from extproc.telemetry.metrics import Metrics
from extproc.telemetry.series import Distribution

GEN_AI = {
    "gen_ai_operation_name": "chat",
    "source": "web",
    "gen_ai_provider_name": "provider/qwen",
    "gen_ai_request_model": "qwen",
    "gen_ai_response_model": "qwen-max",
}
TOTALS = {"source": "web", "provider": "provider/qwen", "model": "qwen-max"}


def record(**changes: object) -> ExchangeRecord:
    facts: dict[str, object] = {
        "operation": "chat_completions",
        "source": "web",
        "target": "provider/qwen",
        "requested_model": "qwen",
        "target_model": "qwen-max",
        "stream": True,
        "status": 200,
        "ending": Ending.COMPLETED,
        "usage": Usage(prompt_tokens=100, completion_tokens=11, cached_tokens=64, reasoning_tokens=5),
        "started": 10.0,
        "first_token": 10.5,
        "last_token": 12.5,
        "ended": 13.0,
    }
    return ExchangeRecord(**(facts | changes))  # type: ignore[arg-type] # keyword facts of one test


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def openmetrics(text: str) -> list[Metric]:
    return list(parser.text_string_to_metric_families(text))  # type: ignore[no-untyped-call]


def lines(metrics: Metrics) -> int:
    return metrics.render().body.count(b"\n")


def test_a_streamed_answer_fills_every_gen_ai_histogram() -> None:
    metrics = Metrics()
    metrics.record(record())
    duration = {**GEN_AI, "error_type": ""}
    assert value(metrics, "gen_ai_server_request_duration_seconds_sum", **duration) == 3.0
    assert value(metrics, "gen_ai_server_request_duration_seconds_bucket", le="2.56", **duration) == 0
    assert value(metrics, "gen_ai_server_request_duration_seconds_bucket", le="5.12", **duration) == 1
    assert value(metrics, "gen_ai_server_time_to_first_token_seconds_sum", **GEN_AI) == 0.5
    assert value(metrics, "gen_ai_server_time_per_output_token_seconds_sum", **GEN_AI) == pytest.approx(0.2)
    for kind, tokens in (("input", 100), ("output", 11)):
        labels = {**GEN_AI, "gen_ai_token_type": kind}
        assert value(metrics, "gen_ai_client_token_usage_sum", **labels) == tokens
        assert value(metrics, "gen_ai_client_token_usage_count", **labels) == 1
    assert value(metrics, "gen_ai_client_token_usage_bucket", le="64.0", **labels) == 1


def test_tokens_are_counted_by_source_provider_and_answering_model() -> None:
    metrics = Metrics()
    metrics.record(record())
    metrics.record(record(requested_model="alias"))
    metrics.record(record(usage=Usage(prompt_tokens=7, completion_tokens=3), usage_estimated=True))
    for estimated, prompt, completion in (("false", 200, 22), ("true", 7, 3)):
        labels = {**TOTALS, "estimated": estimated}
        assert value(metrics, "sluice_prompt_tokens_total", **labels) == prompt
        assert value(metrics, "sluice_completion_tokens_total", **labels) == completion
    assert value(metrics, "sluice_cached_tokens_total", **TOTALS) == 128
    assert value(metrics, "sluice_reasoning_tokens_total", **TOTALS) == 10
    assert value(metrics, "gen_ai_client_token_usage_count", **GEN_AI, gen_ai_token_type="input") == 1


def test_a_plain_answer_has_no_token_times() -> None:
    metrics = Metrics()
    metrics.record(record(stream=False))
    assert value(metrics, "gen_ai_server_time_to_first_token_seconds_count", **GEN_AI) is None
    assert value(metrics, "gen_ai_server_time_per_output_token_seconds_count", **GEN_AI) is None
    assert value(metrics, "gen_ai_server_request_duration_seconds_count", **GEN_AI, error_type="") == 1


@pytest.mark.parametrize(
    ("ending", "status", "error"),
    [
        (Ending.COMPLETED, 429, "429"),
        (Ending.REPLIED_BY_ENVOY, 503, "503"),
        (Ending.CLIENT_GONE, 200, "client_gone"),
        (Ending.CLIENT_GONE, 0, "client_gone"),
    ],
)
def test_durations_of_failures_are_kept_apart(ending: Ending, status: int, error: str) -> None:
    metrics = Metrics()
    metrics.reserve(models=["qwen", "qwen-max"])
    metrics.record(record(ending=ending, status=status, usage=None))
    name = "gen_ai_server_request_duration_seconds_count"
    assert value(metrics, name, **GEN_AI, error_type=error) == 1
    assert value(metrics, name, **GEN_AI, error_type="") is None


@pytest.mark.parametrize("ending", [*REFUSALS, Ending.ANSWERED])
def test_what_never_reached_a_destination_is_only_an_exchange(ending: Ending) -> None:
    metrics = Metrics()
    metrics.record(record(ending=ending, status=404))
    exchange = {"target": "provider/qwen", "ending": ending.value, "status_class": "4xx"}
    assert value(metrics, "sluice_exchanges_total", **exchange) == 1
    assert b"gen_ai_server_request_duration_seconds_count" not in metrics.render().body


@pytest.mark.parametrize(("status", "shown"), [(0, "none"), (101, "1xx"), (599, "5xx"), (999, "none"), (-1, "none")])
def test_exchanges_by_status_class(status: int, shown: str) -> None:
    metrics = Metrics()
    for _ in range(3):
        metrics.record(record(status=status))
    labels = {"target": "provider/qwen", "ending": "completed", "status_class": shown}
    assert value(metrics, "sluice_exchanges_total", **labels) == 3


def test_a_hundred_thousand_models_sources_and_targets_leave_the_registry_bounded() -> None:
    metrics = Metrics(max_label_values=10)

    def flood(tag: str, count: int) -> None:
        for index in range(count):
            name = f"{tag}{index}"
            metrics.record(record(requested_model=name, target_model=name))
            if index % 100 == 0:
                metrics.record(record(source=name, target=name, operation=name))

    flood("m", 1000)
    assert value(metrics, "sluice_prompt_tokens_total", **TOTALS | {"model": "other"}, estimated="false") == 100 * 991
    size = lines(metrics)
    flood("n", 100_000)
    assert lines(metrics) == size
    assert (
        value(metrics, "sluice_prompt_tokens_total", **TOTALS | {"model": "other"}, estimated="false") == 100 * 100_991
    )


def test_combinations_of_admitted_values_are_bounded_too() -> None:
    metrics = Metrics(max_label_values=100, max_series=50)
    for source in range(40):
        for model in range(40):
            metrics.record(record(source=f"s{source}", requested_model=f"m{model}"))
    assert len(metrics._series) == 51
    other = {**GEN_AI, "source": "other", "gen_ai_request_model": "other", "gen_ai_response_model": "other"}
    assert value(metrics, "gen_ai_client_token_usage_count", **other, gen_ai_token_type="input") == 1600 - 50


def test_failing_requests_cannot_use_up_the_labels_but_configured_models_are_shown() -> None:
    metrics = Metrics(max_label_values=5)
    metrics.reserve(targets=["provider/qwen"], models=["qwen-max"])
    for index in range(50):
        metrics.record(record(requested_model=f"typo{index}", status=404, usage=None))
    metrics.record(record())
    failed = {**GEN_AI, "gen_ai_request_model": "other", "error_type": "404"}
    assert value(metrics, "gen_ai_server_request_duration_seconds_count", **failed) == 50
    assert value(metrics, "gen_ai_server_request_duration_seconds_count", **GEN_AI, error_type="") == 1


def test_hostile_names_do_not_break_the_exposition() -> None:
    metrics = Metrics()
    metrics.record(record(requested_model='a"b\\c\n# HELP x\x00\ud800', source="来源"))
    text = metrics.render().body.decode()
    samples = [sample for family in parse_text(text) for sample in family.samples]
    assert {sample.labels.get("source") for sample in samples} >= {"来源"}
    models = {sample.labels.get("gen_ai_request_model") for sample in samples} - {None}
    assert models == {'a"b\\c\ufffd# HELP x\ufffd\ufffd'}


def test_in_flight_messages_and_reloads() -> None:
    metrics = Metrics()
    for _ in range(3):
        metrics.exchange_started()
    metrics.exchange_ended()
    headers = metrics.phase("request_headers")
    assert metrics.phase("request_headers") is headers
    headers.observe(0.00015)
    headers.observe(0.5)
    metrics.config_loaded(generation=7)
    metrics.config_refused()
    metrics.sink_failed("audit")
    assert value(metrics, "sluice_exchanges_in_flight") == 2
    assert value(metrics, "sluice_messages_total", phase="request_headers") == 2
    assert value(metrics, "sluice_message_seconds_bucket", phase="request_headers", le="0.0002") == 1
    assert value(metrics, "sluice_message_seconds_sum", phase="request_headers") == pytest.approx(0.50015)
    assert value(metrics, "sluice_config_reloads_total", result="success") == 1
    assert value(metrics, "sluice_config_reloads_total", result="failure") == 1
    assert value(metrics, "sluice_config_generation") == 7
    assert value(metrics, "sluice_sink_failures_total", sink="audit") == 1
    assert (value(metrics, "process_resident_memory_bytes") or 0) > 0
    assert (value(metrics, "process_cpu_seconds_total") or 0) > 0


async def test_endpoints_that_left_are_gone_from_the_next_scrape() -> None:
    one = EndpointStatus(pool="qwen", address="10.0.0.1:8000", up=True, in_flight=3, waiting=2, kv_usage=0.25)
    two = EndpointStatus(pool="qwen", address="10.0.0.2:8000", up=False, in_flight=0)
    endpoints = [one, two]
    metrics = Metrics(endpoints=lambda: endpoints)
    await metrics.scrape()
    first = {"pool": "qwen", "endpoint": one.address}
    assert value(metrics, "sluice_endpoint_up", **first) == 1
    assert value(metrics, "sluice_endpoint_in_flight", **first) == 3
    assert value(metrics, "sluice_endpoint_waiting", **first) == 2
    assert value(metrics, "sluice_endpoint_kv_usage_ratio", **first) == 0.25
    assert value(metrics, "sluice_endpoint_running", **first) is None
    assert value(metrics, "sluice_endpoint_up", pool="qwen", endpoint=two.address) == 0
    endpoints.remove(one)
    assert one.address.encode() not in (await metrics.scrape()).body


async def test_both_formats_parse_and_scrapes_survive_concurrent_records() -> None:
    metrics = Metrics()
    metrics.record(record())
    scrapes = asyncio.gather(*(metrics.scrape("application/openmetrics-text; version=1.0.0") for _ in range(3)))
    index = 0
    while not scrapes.done():
        index += 1
        metrics.record(record(requested_model=f"m{index % 8}"))
        await asyncio.sleep(0)
    for exposition in await scrapes:
        assert exposition.content_type.startswith("application/openmetrics-text; version=1.0.0")
        names = {family.name for family in openmetrics(exposition.body.decode())}
        assert {"gen_ai_client_token_usage", "sluice_exchanges", "process_cpu_seconds"} <= names
    plain = await metrics.scrape("text/html")
    assert plain.content_type.startswith("text/plain; version=0.0.4")
    assert "sluice_prompt_tokens_total" in plain.body.decode()


@pytest.mark.parametrize(("observed", "bucket"), [(0.0, 0), (1.0, 0), (1.5, 1), (2.0, 1), (2.1, 2)])
def test_bucket_bounds_are_inclusive(observed: float, bucket: int) -> None:
    distribution = Distribution((1.0, 2.0))
    distribution.observe(observed)
    assert distribution.counts.index(1) == bucket
