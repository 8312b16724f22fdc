"""Metrics pages as engines print them: gauges and counters first, then the bulk, which is histograms."""

from __future__ import annotations

_HISTOGRAMS = {
    "iteration_tokens_total": 12,
    "time_to_first_token_seconds": 22,
    "inter_token_latency_seconds": 19,
    "time_per_output_token_seconds": 19,
    "request_time_per_output_token_seconds": 19,
    "e2e_request_latency_seconds": 21,
    "request_queue_time_seconds": 21,
    "request_inference_time_seconds": 21,
    "request_prefill_time_seconds": 21,
    "request_decode_time_seconds": 21,
    "request_prompt_tokens": 15,
    "request_generation_tokens": 15,
    "request_max_num_generation_tokens": 15,
    "request_params_n": 5,
    "request_params_max_tokens": 15,
}
_CACHE_INFO = (
    'vllm:cache_config_info{block_size="16",cache_dtype="auto",cpu_offload_gb="0",enable_prefix_caching="True",'
    'engine="%d",gpu_memory_utilization="0.9",mamba_block_size="32",num_cpu_blocks="None",num_gpu_blocks="%d"} 1.0'
)


def vllm_page(
    *,
    running: float = 3,
    waiting: float = 2,
    usage: float = 0.25,
    ranks: int = 1,
    model: str = "Qwen/Qwen3-8B",
    usage_name: str = "kv_cache_usage_perc",
    blocks: int = 31_250,
) -> bytes:
    """What vLLM prints. Each data-parallel rank has its own series with these same figures."""
    lines = ["# HELP python_gc_objects_collected_total Objects collected during gc"]
    lines += ["# TYPE python_gc_objects_collected_total counter"]
    lines += [f'python_gc_objects_collected_total{{generation="{n}"}} 9701.0' for n in range(3)]
    lines += ["process_resident_memory_bytes 9.61302528e+08"]
    labels = [f'engine="{rank}",model_name="{model}"' for rank in range(ranks)]

    def series(name: str, value: float, kind: str = "gauge") -> None:
        lines.extend((f"# HELP vllm:{name} Some words about vllm:{name}.", f"# TYPE vllm:{name} {kind}"))
        lines.extend(f"vllm:{name}{{{label}}} {float(value)}" for label in labels)

    series("num_requests_running", running)
    series("num_requests_waiting_by_reason", 77)
    series("num_requests_waiting", waiting)
    series(usage_name, usage)
    series("prefix_cache_queries_total", 123_456, "counter")
    series("prefix_cache_hits_total", 23_456, "counter")
    series("prompt_tokens_total", 8.128902e06, "counter")
    series("prompt_tokens_created", 1.7e09)
    series("generation_tokens_total", 7.557572e06, "counter")
    for name, buckets in _HISTOGRAMS.items():
        lines += [f"# HELP vllm:{name} Histogram of {name}.", f"# TYPE vllm:{name} histogram"]
        for label in labels:
            lines += [f'vllm:{name}_bucket{{{label},le="{0.001 * 2**n}"}} {float(n * 100)}' for n in range(buckets)]
            lines += [f'vllm:{name}_bucket{{{label},le="+Inf"}} 9000.0', f"vllm:{name}_count{{{label}}} 9000.0"]
    lines += ["# HELP vllm:cache_config_info Information of the LLMEngine CacheConfig"]
    lines += ["# TYPE vllm:cache_config_info gauge", *(_CACHE_INFO % (rank, blocks) for rank in range(ranks))]
    return ("\n".join(lines) + "\n").encode()


def big_vllm_page() -> bytes:
    """About 100 KB: vLLM's own metrics, then those of the web framework by handler and status."""
    page = vllm_page(model="/models/deepseek-ai/DeepSeek-R1-Distill-Qwen-32B")
    row = 'http_request_duration_seconds_bucket{handler="/v1/chat/completions",le="%s",method="POST"} %d.0\n'
    rows = "".join(row % (0.01 * n, n * 3) for n in range(1, (100_000 - len(page)) // 93))
    return page + rows.encode()


def sglang_page(*, running: float = 4, waiting: float = 1, usage: float = 0.28) -> bytes:
    """What SGLang prints."""
    labels = 'engine_type="unified",model_name="meta-llama/Llama-3.1-8B-Instruct",pp_rank="0",tp_rank="0"'
    return f"""# HELP sglang:prompt_tokens_total Number of prefill tokens processed.
# TYPE sglang:prompt_tokens_total counter
sglang:prompt_tokens_total{{{labels}}} 8.128902e+06
# HELP sglang:generation_tokens_total Number of generation tokens processed.
# TYPE sglang:generation_tokens_total counter
sglang:generation_tokens_total{{{labels}}} 7.557572e+06
# HELP sglang:token_usage The token usage
# TYPE sglang:token_usage gauge
sglang:token_usage{{{labels}}} {usage}
# HELP sglang:num_running_reqs The number of running requests
# TYPE sglang:num_running_reqs gauge
sglang:num_running_reqs{{{labels}}} {running}
# HELP sglang:gen_throughput The generate throughput (token/s)
# TYPE sglang:gen_throughput gauge
sglang:gen_throughput{{{labels}}} 86.50814177726902
# HELP sglang:num_queue_reqs The number of requests in the waiting queue
# TYPE sglang:num_queue_reqs gauge
sglang:num_queue_reqs{{{labels}}} {waiting}
# HELP sglang:cache_config_info Information of the cache
# TYPE sglang:cache_config_info gauge
sglang:cache_config_info{{num_pages="20480",page_size="64"}} 1.0
""".encode()
