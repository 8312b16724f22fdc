"""The parts of the filter benchmark that decide what its figures mean."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.filtercost import manifests
from bench.filtercost.bodies import chat_request
from bench.filtercost.measure import Measured, Reading, Sample, sample
from bench.filtercost.processes import on_cpu, resident
from bench.filtercost.report import COLUMNS, Bar, bars, cpu_model, markdown, rows
from bench.filtercost.upstream import content_length
from bench.filtercost.variants import (
    ALONE,
    COUNT,
    EMPTY,
    LARGE,
    LOADS,
    MEDIUM,
    NATIVE,
    NONE,
    SMALL,
    STEER,
    STREAM,
    Load,
    Variant,
)
from bench.filtercost.wrk import LoadError, LoadResult, parse
from extproc.render import render, static_bootstrap
from extproc.resources.load import load

ROOT = Path(__file__).parent.parent.parent
RESULT = LoadResult(requests=100, seconds=2.0, p50=0.001, p99=0.002)


@given(size=st.integers(300, 30_000), stream=st.booleans())
def test_a_body_has_the_size_asked_for_and_is_a_chat(size: int, stream: bool) -> None:
    body = chat_request(size, stream=stream)
    assert len(body) == size
    found = json.loads(body)
    assert found["model"] == manifests.CLIENT_MODEL
    assert found.get("stream", False) is stream
    assert {message["role"] for message in found["messages"]} <= {"system", "user", "assistant"}


def test_wrk_result_is_found_among_what_wrk_prints() -> None:
    output = 'Running 10m test\n  1 threads\nresult {"requests":10,"seconds":1.5,"p50":0.001,"p99":0.002,"failed":0}\n'
    assert parse(output) == LoadResult(requests=10, seconds=1.5, p50=0.001, p99=0.002)


@pytest.mark.parametrize(
    "output",
    [
        "unable to connect to 127.0.0.1:1 Connection refused\n",
        "result {\n",
        'result {"requests":10,"seconds":1.5,"p50":-nan,"p99":0.002,"failed":0}\n',
        'result {"requests":10,"seconds":1.5,"p50":0.001,"p99":0.002,"failed":1}\n',
        'result {"requests":0,"seconds":1.5,"p50":0.0,"p99":0.0,"failed":0}\n',
    ],
)
def test_a_load_that_failed_is_no_measurement(output: str) -> None:
    with pytest.raises(LoadError):
        parse(output)


def test_a_request_is_the_unit_of_a_plain_load() -> None:
    used = Reading(streams=100, messages=400, events=0, filter_cpu=0.05, envoy_cpu=0.02)
    found = sample(used, RESULT, stream=False)
    assert (found.rate, found.messages) == (50, 4)
    assert (found.filter_cpu, found.envoy_cpu) == pytest.approx((0.0005, 0.0002))


def test_a_message_with_a_piece_of_the_answer_is_the_unit_of_a_stream() -> None:
    used = Reading(streams=2, messages=206, events=250, filter_cpu=0.02, envoy_cpu=0.01)
    found = sample(used, RESULT, stream=True)
    assert found.rate == 100
    assert found.filter_cpu == pytest.approx(0.0001)
    assert found.messages == pytest.approx(0.8)


def test_events_are_the_unit_of_a_stream_without_a_filter() -> None:
    used = Reading(streams=0, messages=0, events=400, filter_cpu=0.0, envoy_cpu=0.01)
    assert sample(used, RESULT, stream=True).envoy_cpu == pytest.approx(0.000025)


def test_a_round_in_which_nothing_came_is_an_error() -> None:
    with pytest.raises(LoadError):
        sample(Reading(streams=8, messages=24, events=0, filter_cpu=0.1, envoy_cpu=0.1), RESULT, stream=True)


def measured(load_: Load, costs: dict[Variant, list[float]], p50: dict[Variant, float] | None = None) -> Measured:
    """`costs` in microseconds of the filter per unit, by round."""
    samples = {
        variant: [
            Sample(
                rate=1000.0,
                p50=(p50 or {}).get(variant, 0.001),
                p99=0.01,
                filter_cpu=cost / 1e6,
                envoy_cpu=1e-4,
                messages=4.0,
            )
            for cost in series
        ]
        for variant, series in costs.items()
    }
    return Measured(load_, samples, {variant: 70.0 for variant in costs if variant != NONE})


def test_ratios_are_taken_within_a_round_so_that_a_noisy_one_does_not_decide() -> None:
    found = measured(SMALL, {EMPTY: [100, 400, 100], STEER: [130, 520, 900]})
    assert found.ratio(STEER, EMPTY) == pytest.approx(1.3)


def test_bars_come_from_the_loads_that_they_name() -> None:
    latency = {NONE: 0.0002, EMPTY: 0.0010, STEER: 0.0005}
    loads = {
        ALONE: measured(ALONE, {NONE: [0], EMPTY: [600], STEER: [240]}, latency),
        SMALL: measured(SMALL, {NONE: [0], EMPTY: [100], STEER: [13]}),
        STREAM: measured(STREAM, {NONE: [0], EMPTY: [60], COUNT: [15], NATIVE: [0.3]}),
        MEDIUM: measured(MEDIUM, {NONE: [0], EMPTY: [100], STEER: [34]}),
        LARGE: measured(LARGE, {NONE: [0], EMPTY: [1000], STEER: [610]}),
    }
    found = {bar.name: bar for bar in bars(loads, 0.4)}
    assert {name: (round(bar.value, 3), bar.met) for name, bar in found.items()} == {
        "json-1kb-cpu-ratio": (0.13, False),
        "json-1kb-envoy-cpu-ratio": (1.0, False),
        "json-one-connection-cpu-ratio": (0.4, True),
        "added-p50-ratio": (0.375, True),
        "sse-event-filter-cpu-ratio": (0.25, True),
        "sse-event-native-cpu-ratio": (0.005, True),
        "sse-event-native-envoy-ratio": (1.0, True),
        "body-100kb-cpu-ratio": (0.34, True),
        "body-1mb-cpu-ratio": (0.61, False),
        "rss-after-1mb-mb": (70.0, True),
        "ready-seconds": (0.4, True),
    }


def test_a_bar_says_whether_it_is_short() -> None:
    assert str(Bar("ready-seconds", 1.234, 1)) == "bar ready-seconds 1.23 1 short"
    assert str(Bar("ready-seconds", 1, 1)) == "bar ready-seconds 1.00 1 ok"


def test_the_table_shows_what_a_filter_adds() -> None:
    found = measured(SMALL, {NONE: [0], EMPTY: [100], STEER: [139]}, {NONE: 0.0002, EMPTY: 0.0010, STEER: 0.0011})
    first, empty, steer = rows(found)
    assert all(len(row) == len(COLUMNS) for row in (first, empty, steer))
    assert first == ("1 KB", "no filter", "1000", "(0.20)", "(10.00)", "", "100", "", "", "")
    assert empty == ("", "empty filter", "1000", "0.80", "0.00", "100", "100", "1.00", "4", "70")
    assert steer[3:8] == ("0.90", "0.00", "139", "100", "1.39")
    page = markdown([[first, empty, steer]], [Bar("ready-seconds", 0.4, 1)])
    assert "| 1 KB | no filter | 1000 | (0.20) |" in page
    assert "| ready-seconds | 0.40 | 1 |" in page


def test_kernel_figures_are_read() -> None:
    assert on_cpu("123456789 99 7\n") == 123456789
    assert resident("Name:\tpython\nVmHWM:\t  900 kB\nVmRSS:\t   71000 kB\nThreads:\t4\n") == 71000 * 1024
    assert cpu_model("processor\t: 0\nmodel name\t: A Processor: 2 GHz\n") == "A Processor: 2 GHz"


def test_the_destination_reads_lengths() -> None:
    assert content_length(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 12") == 12
    assert content_length(b"GET / HTTP/1.1\r\nHost: x") == 0
    with pytest.raises(ValueError, match="chunked"):
        content_length(b"POST / HTTP/1.1\r\ntransfer-encoding: chunked")


@pytest.fixture
def rendered(tmp_path: Path) -> dict[str, Any]:
    manifests.write_manifests(tmp_path, listener=20000, admin=20001, provider=20002, endpoints=[20003, 20004])
    snapshot = load(tmp_path, environ={"BENCH_KEY": "key"})
    config = static_bootstrap(render(snapshot, "unix:/run/sluice.sock"), "127.0.0.1:9901")
    found: dict[str, Any] = json.loads(json.dumps(config))
    return found


@pytest.mark.parametrize("address", [None, "127.0.0.1:5000", "unix:/tmp/empty.sock"])
def test_every_variant_has_sluices_own_envoy_but_for_the_filter(rendered: dict[str, Any], address: str | None) -> None:
    before = json.dumps(rendered)
    found = manifests.without_sluice(rendered, listener=30000, admin=30001, filter_address=address)
    assert json.dumps(rendered) == before
    listener = found["static_resources"]["listeners"][0]
    assert listener["address"]["socket_address"]["port_value"] == 30000
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    names = [each["name"] for each in manager["http_filters"]]
    assert ("envoy.filters.http.ext_proc" in names) is (address is not None)
    assert names[-1] == "envoy.filters.http.router"
    hosts = {host["name"]: host["routes"] for host in manager["route_config"]["virtual_hosts"]}
    for host, cluster in ((manifests.REWRITE_HOST, "provider/provider"), (manifests.STEER_HOST, "pool/pool")):
        assert [(route["match"], route["route"]["cluster"]) for route in hosts[host]] == [({"prefix": "/"}, cluster)]
    if address is not None:
        assert "/run/sluice.sock" not in json.dumps(found)
        assert address.removeprefix("unix:").rpartition(":")[2] in json.dumps(found)


def test_every_load_compares_with_no_filter_and_the_empty_one() -> None:
    for each in LOADS:
        assert {NONE, EMPTY} < set(each.variants)


@pytest.mark.e2e
@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
@pytest.mark.slow
def test_a_quick_run_measures_everything(tmp_path: Path) -> None:
    page = tmp_path / "table.md"
    command = [sys.executable, "-m", "bench.filter", "--quick", "--markdown", str(page)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines() if line.startswith("bar ")]
    assert [line[1] for line in lines] == [line[1] for line in lines if line[4] in ("ok", "short")]
    assert done.stdout.splitlines()[-len(lines) :] == [" ".join(line) for line in lines]
    assert len(lines) == 11
    assert all(load_.name in page.read_text() for load_ in LOADS)
