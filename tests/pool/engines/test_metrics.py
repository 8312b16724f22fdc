"""Real shapes of pages, then anything at all."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.pool.engines.metrics import DIALECTS, EngineDialect, likeliest, parse_metrics
from extproc.pool.engines.page import Memory
from tests.pool.pages import big_vllm_page, sglang_page, vllm_page

NAMES = [name for dialect in DIALECTS for names in dialect.metrics.values() for name in names]
NAMES += [name for dialect in DIALECTS for name in (dialect.info, dialect.adapters, dialect.all_tokens_per_s) if name]


@pytest.mark.parametrize("page", [vllm_page(), vllm_page(usage_name="gpu_cache_usage_perc"), big_vllm_page()])
def test_vllm_with_new_and_old_names(page: bytes) -> None:
    load = parse_metrics(page, 7.0)
    assert load is not None
    assert (load.engine, load.taken_at, load.running, load.waiting, load.kv_usage) == ("vllm", 7.0, 3, 2, 0.25)
    assert (load.prompt_tokens_total, load.generated_tokens_total) == (8128902, 7557572)
    assert (load.block_size, load.num_blocks) == (16, 31_250)
    assert load.generated_per_s is None


def test_sglang() -> None:
    load = parse_metrics(sglang_page(), 7.0)
    assert load is not None
    assert (load.engine, load.running, load.waiting, load.kv_usage) == ("sglang", 4, 1, 0.28)
    assert load.generated_per_s == pytest.approx(86.508, abs=0.001)
    assert (load.block_size, load.num_blocks) == (64, 20_480)


def test_trtllm() -> None:
    load = parse_metrics(
        b"""# TYPE trtllm_num_requests_running gauge
trtllm_num_requests_running{model_name="m",engine_type="trtllm"} 6.0
trtllm_num_requests_waiting{model_name="m",engine_type="trtllm"} 2.0
trtllm_kv_cache_utilization{model_name="m",engine_type="trtllm"} 0.62
trtllm_kv_cache_tokens_per_block{model_name="m",engine_type="trtllm"} 32.0
trtllm_kv_cache_max_blocks{model_name="m",engine_type="trtllm"} 4096.0
""",
        7.0,
    )
    assert load is not None
    assert (load.engine, load.running, load.waiting, load.kv_usage) == ("trtllm", 6, 2, 0.62)
    assert (load.block_size, load.num_blocks, load.prompt_tokens_total) == (32, 4096, None)


@pytest.mark.parametrize(
    ("rates", "prompt", "generated"),
    [
        (b"tps_total 900\ntps_out 120.5\n", 779.5, 120.5),
        (b"tps_total 100\ntps_out 120\n", 0.0, 120.0),
        (b"tps_total 900\n", None, None),
        (b"tps_out 120\n", None, 120.0),
        (b"tps_total NaN\ntps_out 120\n", None, 120.0),
    ],
)
def test_bladellm_prompt_rate_is_what_is_not_generated(
    rates: bytes, prompt: float | None, generated: float | None
) -> None:
    gauges = b"decode_batch_size_mean 7.5\nwait_queue_size_mean 1.25\nblock_usage_gpu_mean 0.5\n"
    load = parse_metrics(gauges + rates, 0.0)
    assert load is not None
    assert (load.engine, load.running, load.waiting, load.kv_usage) == ("bladellm", 7.5, 1.25, 0.5)
    assert (load.prompt_per_s, load.generated_per_s) == (prompt, generated)


def test_adapters_are_those_of_the_latest_series() -> None:
    lora = b'vllm:lora_requests_info{max_lora="%b",running_lora_adapters="%b",waiting_lora_adapters="%b"} %b\n'
    page = vllm_page() + lora % (b"4", b"old", b"", b"1.7e+09") + lora % (b"4", b"a, b", b"c", b"1.8e+09")
    page += lora % (b"4", b"older", b"", b"1.6e+09") + lora % (b"4", b"broken", b"", b"NaN")
    load = parse_metrics(page, 0.0)
    assert load is not None
    assert (load.running_adapters, load.waiting_adapters, load.max_adapters) == (("a", "b"), ("c",), 4)
    plain = parse_metrics(vllm_page(), 0.0)
    assert plain is not None
    assert (plain.running_adapters, plain.waiting_adapters, plain.max_adapters) == (None, None, None)
    idle = parse_metrics(vllm_page() + lora % (b"0", b"", b"", b"1"), 0.0)
    assert idle is not None
    assert (idle.running_adapters, idle.waiting_adapters) == ((), ())


@given(st.dictionaries(st.sampled_from([b"\n" + name for name in NAMES]), st.integers(-9, 60_000)))
def test_what_is_remembered_changes_nothing(places: dict[bytes, int]) -> None:
    learned = Memory()
    for page in (vllm_page(ranks=3), sglang_page(), big_vllm_page(), vllm_page(running=5, ranks=2), vllm_page()):
        wanted = parse_metrics(page, 0.0)
        made_up = Memory()
        made_up.places.update(places)
        assert parse_metrics(page, 0.0, memory=made_up) == wanted
        for shift in (b"", b"# one more line\n", b"x 1\n" * 500, b""):
            assert parse_metrics(shift + page, 0.0, memory=learned) == wanted


def test_the_engine_seen_before_is_tried_first() -> None:
    page = sglang_page() + vllm_page()
    for engine in ("vllm", "sglang"):
        load = parse_metrics(page, 0.0, likeliest(engine))
        assert load is not None
        assert load.engine == engine
    assert likeliest("unheard of") == DIALECTS
    assert sorted(each.engine for each in likeliest("sglang")) == sorted(each.engine for each in DIALECTS)


def test_ranks_of_vllm_are_summed_and_the_fullest_cache_counts() -> None:
    page = vllm_page(ranks=4).replace(b'usage_perc{engine="2",model_name="Qwen/Qwen3-8B"} 0.25', b"usage_perc{} 0.75")
    load = parse_metrics(page, 0.0)
    assert load is not None
    assert (load.running, load.waiting, load.kv_usage, load.num_blocks, load.block_size) == (12, 8, 0.75, 125_000, 16)


def test_sglang_series_that_repeat_or_split_a_figure_count_once() -> None:
    page = b"""sglang:num_running_reqs{dp_rank="0",priority="",tp_rank="0"} 14
sglang:num_running_reqs{dp_rank="0",priority="",tp_rank="1"} 14
sglang:num_running_reqs{dp_rank="0",priority="3",tp_rank="0"} 9
sglang:num_running_reqs{dp_rank="1",priority="",tp_rank="2"} 5
"""
    load = parse_metrics(page, 0.0)
    assert load is not None
    assert load.running == 19
    assert load.waiting is None


@pytest.mark.parametrize(
    ("line", "value"),
    [
        (b"vllm:num_requests_running 5", 5),
        (b"vllm:num_requests_running\t5", 5),
        (b"vllm:num_requests_running{} 5", 5),
        (b"vllm:num_requests_running 5 1790000000000", 5),
        (b'vllm:num_requests_running{model_name="a b} c,d\\"e"} 5', None),
        (b'vllm:num_requests_running{m="a"} 5 # {trace_id="x"} 0.67 17', 5),
        (b"vllm:num_requests_running 5\r", 5),
        (b"vllm:num_requests_running 1e3", 1000),
        (b"vllm:num_requests_running NaN", None),
        (b"vllm:num_requests_running +Inf", None),
        (b"vllm:num_requests_running -1", None),
        (b"vllm:num_requests_running 1e300", None),
        (b"vllm:num_requests_running " + b"9" * 10_000, None),
        (b"vllm:num_requests_running five", None),
        (b"vllm:num_requests_running ", None),
        (b"vllm:num_requests_running{", None),
        (b"vllm:num_requests_running{a} \xff\xfe", None),
    ],
)
def test_one_line(line: bytes, value: float | None) -> None:
    for page in (line, b"\n\n" + line + b"\n", b"# HELP x\n" + line + b"\nother 4\n"):
        load = parse_metrics(page, 0.0)
        assert load is not None
        assert load.running == value


def test_one_bad_rank_makes_the_sum_unknown_and_nothing_else() -> None:
    page = vllm_page(ranks=2).replace(b'running{engine="1",model_name="Qwen/Qwen3-8B"} 3.0', b"running{} NaN")
    load = parse_metrics(page, 0.0)
    assert load is not None
    assert load.running is None
    assert load.waiting == 4


def test_kv_usage_in_percent_is_not_a_share() -> None:
    load = parse_metrics(vllm_page(usage=25.0), 0.0)
    assert load is not None
    assert load.kv_usage is None


@pytest.mark.parametrize("blocks", [b"None", b"", b"-5", b"0"])
def test_cache_geometry_that_the_engine_does_not_know(blocks: bytes) -> None:
    load = parse_metrics(vllm_page().replace(b'num_gpu_blocks="31250"', b'num_gpu_blocks="%b"' % blocks), 0.0)
    assert load is not None
    assert load.num_blocks is None
    assert load.block_size == 16


@pytest.mark.parametrize(
    "page",
    [
        b"",
        b"<html>not found</html>",
        b"# HELP vllm:num_requests_running Words.\n# TYPE vllm:num_requests_running gauge\n",
        b"vllm:num_requests_waiting_by_reason{} 3\n",
        b"xvllm:num_requests_running 3\n",
        b"vllm:prompt_tokens_total 3\n",
    ],
)
def test_pages_without_load_are_nobodys(page: bytes) -> None:
    assert parse_metrics(page, 0.0) is None


def test_figures_far_down_the_page_are_found() -> None:
    load = parse_metrics(b"padding 1\n" * 5000 + vllm_page(), 0.0)
    assert load is not None
    assert (load.running, load.waiting) == (3, 2)


def test_another_engine_is_one_more_entry() -> None:
    mine = EngineDialect(
        engine="mine",
        metrics={"running": (b"mine_running",), "waiting": (b"mine_waiting",), "block_size": (b"mine_block",)},
    )
    load = parse_metrics(b"mine_running 2\nmine_waiting 1\nmine_block 32\n", 0.0, (*DIALECTS, mine))
    assert load is not None
    assert (load.engine, load.running, load.waiting, load.block_size) == ("mine", 2, 1, 32)


_SHREDS = st.sampled_from(
    [*NAMES, b"{", b"}", b'dp_rank="1"', b'block_size="', b",", b" ", b"\n", b"1", b"-", b"nan", b"1e999", b'"', b"#"]
)


@given(st.one_of(st.binary(max_size=300), st.lists(_SHREDS | st.binary(max_size=4), max_size=60).map(b"".join)))
def test_any_bytes_give_sane_figures_or_none(page: bytes) -> None:
    load = parse_metrics(page, 1.0)
    if load is None:
        return
    figures = (load.running, load.waiting, load.prompt_tokens_total, load.generated_tokens_total, load.generated_per_s)
    for figure in (*figures, load.prompt_per_s, load.block_size, load.num_blocks, load.max_adapters):
        assert figure is None or (math.isfinite(figure) and figure >= 0)
    assert load.kv_usage is None or 0 <= load.kv_usage <= 1


@given(st.integers(0, 1_000_000), st.integers(0, 1_000_000), st.floats(0, 1), st.integers(0, 40_000))
def test_figures_survive_cutting_the_page_short_or_come_out_unknown(
    running: int, waiting: int, usage: float, cut: int
) -> None:
    load = parse_metrics(vllm_page(running=running, waiting=waiting, usage=usage)[: -cut or None], 0.0)
    if cut < 25_000:
        assert load is not None
        assert (load.running, load.waiting, load.kv_usage) == (running, waiting, usage)
