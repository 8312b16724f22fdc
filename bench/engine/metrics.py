"""The `/metrics` page of a simulated engine, in vLLM's or SGLang's words, with the histograms that make it long."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence

from extproc.simulate.profile import EngineProfile, Load

_SECONDS = (
    0.001,
    0.005,
    0.01,
    0.02,
    0.04,
    0.06,
    0.08,
    0.1,
    0.25,
    0.5,
    0.75,
    1.0,
    2.5,
    5.0,
    7.5,
    10.0,
    20.0,
    40.0,
    80.0,
)
_TOKENS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000)


class Histogram:
    """Counts by upper bound, cumulative when shown."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def lines(self, name: str, labels: str) -> Iterable[str]:
        """The sample lines, `_bucket` first."""
        running = 0
        for bound, count in zip((*self.bounds, "+Inf"), self.counts, strict=True):
            running += count
            yield f'{name}_bucket{{le="{bound}",{labels}}} {float(running)}'
        yield f"{name}_count{{{labels}}} {float(running)}"
        yield f"{name}_sum{{{labels}}} {self.total}"


class Observations:
    """What a server measures per finished request, in seconds of the engine and tokens."""

    def __init__(self) -> None:
        self.first_token = Histogram(_SECONDS)
        self.per_token = Histogram(_SECONDS)
        self.whole = Histogram(_SECONDS)
        self.queued = Histogram(_SECONDS)
        self.prompt = Histogram(_TOKENS)
        self.generated = Histogram(_TOKENS)
        self._sample = (0.0, 0)
        self._rate = 0.0

    def throughput(self, now: float, generated: int) -> float:
        """Generated tokens per second since the last sample at least a fifth of a second ago, as SGLang shows it."""
        at, before = self._sample
        if now - at >= 0.2:
            self._rate = (generated - before) / (now - at)
            self._sample = (now, generated)
        return self._rate


def _page(prefix: str, labels: str, samples: Iterable[tuple[str, str, str, float]]) -> list[str]:
    """Sample of each `(name, kind, extra labels, value)`, the first of a name after its help and type."""
    lines: list[str] = []
    previous = ""
    for name, kind, extra, value in samples:
        if name != previous:
            lines += [f"# HELP {prefix}:{name} Simulated {name}.", f"# TYPE {prefix}:{name} {kind}"]
        previous = name
        lines.append(f"{prefix}:{name}{{{extra}{labels}}} {float(value)}")
    return lines


def _histograms(prefix: str, labels: str, named: Iterable[tuple[str, Histogram]]) -> list[str]:
    lines = []
    for name, histogram in named:
        lines.append(f"# HELP {prefix}:{name} Simulated {name}.")
        lines.append(f"# TYPE {prefix}:{name} histogram")
        lines.extend(histogram.lines(f"{prefix}:{name}", labels))
    return lines


def render_vllm(model: str, profile: EngineProfile, load: Load, seen: Observations, now: float) -> str:
    """vLLM's names; `now` is the Unix time that `lora_requests_info` has for a value."""
    labels = f'engine="0",model_name="{model}"'
    lines = _page(
        "vllm",
        labels,
        [
            ("num_requests_running", "gauge", "", load.running),
            ("num_requests_waiting", "gauge", "", load.waiting),
            ("kv_cache_usage_perc", "gauge", "", load.kv_usage),
            ("prefix_cache_queries_total", "counter", "", load.prefix_queries),
            ("prefix_cache_hits_total", "counter", "", load.prefix_hits),
            ("num_preemptions_total", "counter", "", load.preemptions),
            ("prompt_tokens_total", "counter", "", load.prompt_tokens),
            ("generation_tokens_total", "counter", "", load.generation_tokens),
            ("request_success_total", "counter", 'finished_reason="stop",', load.finished),
            ("request_success_total", "counter", 'finished_reason="abort",', load.aborted),
        ],
    )
    lines += _histograms(
        "vllm",
        labels,
        [
            ("time_to_first_token_seconds", seen.first_token),
            ("inter_token_latency_seconds", seen.per_token),
            ("e2e_request_latency_seconds", seen.whole),
            ("request_queue_time_seconds", seen.queued),
            ("request_prompt_tokens", seen.prompt),
            ("request_generation_tokens", seen.generated),
        ],
    )
    caching = str(profile.prefix_caching)
    cache = f'block_size="{profile.block_size}",cache_dtype="auto",enable_prefix_caching="{caching}",engine="0"'
    lines += [
        "# HELP vllm:cache_config_info Information of the LLMEngine CacheConfig",
        "# TYPE vllm:cache_config_info gauge",
        f'vllm:cache_config_info{{{cache},gpu_memory_utilization="0.9",num_gpu_blocks="{profile.num_blocks}"}} 1.0',
        "# HELP vllm:lora_requests_info Running stats on lora requests.",
        "# TYPE vllm:lora_requests_info gauge",
        f'vllm:lora_requests_info{{max_lora="{profile.max_loras}",running_lora_adapters="{",".join(load.running_loras)}",'
        f'waiting_lora_adapters="{",".join(load.waiting_loras)}"}} {now}',
    ]
    return "\n".join(lines) + "\n"


def render_sglang(model: str, profile: EngineProfile, load: Load, seen: Observations, engine_now: float) -> str:
    """SGLang's names; `engine_now` is the engine's time, for the throughput gauge."""
    labels = f'engine_type="unified",model_name="{model}",pp_rank="0",tp_rank="0"'
    hit_rate = load.prefix_hits / load.prefix_queries if load.prefix_queries else 0.0
    lines = _page(
        "sglang",
        labels,
        [
            ("num_running_reqs", "gauge", "", load.running),
            ("num_queue_reqs", "gauge", "", load.waiting),
            ("num_used_tokens", "gauge", "", round(load.kv_usage * profile.num_blocks) * profile.block_size),
            ("token_usage", "gauge", "", load.kv_usage),
            ("gen_throughput", "gauge", "", seen.throughput(engine_now, load.generation_tokens)),
            ("cache_hit_rate", "gauge", "", hit_rate),
            ("prompt_tokens_total", "counter", "", load.prompt_tokens),
            ("generation_tokens_total", "counter", "", load.generation_tokens),
            ("num_requests_total", "counter", "", load.finished),
            (
                "cache_config_info",
                "gauge",
                f'page_size="{profile.block_size}",num_pages="{profile.num_blocks}",',
                1,
            ),
        ],
    )
    lines += _histograms(
        "sglang",
        labels,
        [
            ("time_to_first_token_seconds", seen.first_token),
            ("inter_token_latency_seconds", seen.per_token),
            ("e2e_request_latency_seconds", seen.whole),
        ],
    )
    return "\n".join(lines) + "\n"


def nan_values(page: str) -> str:
    """The page with NaN for every value, as a broken exporter shows it."""
    return "".join(
        f"{line}\n" if line.startswith("#") else f"{line.rpartition(' ')[0]} NaN\n" for line in page.splitlines()
    )


def garbage() -> bytes:
    """A page that is no exposition format and no UTF-8, with a name that a careless reader takes for a metric."""
    head = b"vllm:num_requests_running{ \xff\xfe\x00 = nonsense\n{}}{{ 1e999999 vllm:num_requests_waiting banana\n"
    return head + bytes(range(256)) * 8
