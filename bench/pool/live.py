"""The same trace through a real Envoy and through the simulator: do both put the policies in the same order?

The trace is a miniature of the recorded one: an eighth of its tokens, so that four simulated engines and the gateway
serve it in real time on two cores. What was a block of 512 tokens is one of 64, whose text of 256 bytes is made from
its hash, so that prompts share beginnings exactly as they did.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp
import msgspec
import yaml

from bench.filtercost.processes import Child, accepts, free_ports
from bench.pool.bars import Bar
from extproc.pool.policies import make_policy
from extproc.simulate.fleet import run
from extproc.simulate.profile import EngineProfile
from extproc.simulate.scenario import FleetConfig, engines
from extproc.simulate.summary import Spread, spread, summarise
from extproc.simulate.trace import Trace, TraceRequest, at_once, compressed, read_trace

POLICIES = ("round-robin", "llm-metric-based", "least-token", "prefix-cache")
CLEAR = 1.1
"""Mean times to the first token in the simulator that differ by less than this factor are no order."""
_ENGINES = 4
_REQUESTS = 300
_LOAD = 0.95
_SMALLER = 8
_BLOCK = 64
_LONGEST_ANSWER = 16
_PROFILE = EngineProfile(
    block_size=_BLOCK, num_blocks=4_000, prefill_tokens_per_second=16_000.0, step_base=0.008, max_model_len=100_000
)
_MODEL = "qwen3-8b"


def miniature(path: Path, requests: int = _REQUESTS) -> Trace:
    """The first requests of a trace, smaller, at 95 % of what the engines can do."""
    trace = read_trace(path, requests)
    small = msgspec.structs.replace(trace, block_tokens=_BLOCK, requests=tuple(map(_smaller, trace.requests)))
    outcomes = run(at_once(small), make_policy("least-request"), _fleet())
    full = len(outcomes) / max(outcome.finished or 0.0 for outcome in outcomes)
    return compressed(small, _LOAD * full * small.seconds / len(outcomes))


def _smaller(request: TraceRequest) -> TraceRequest:
    answer = min(_LONGEST_ANSWER, max(1, request.output_tokens // _SMALLER))
    return msgspec.structs.replace(
        request, prompt_tokens=max(1, request.prompt_tokens // _SMALLER), output_tokens=answer
    )


def _fleet() -> FleetConfig:
    return FleetConfig(profiles=engines(_PROFILE, _ENGINES))


def simulated(trace: Trace, policy: str) -> Spread:
    """Times to the first token in the simulator."""
    return summarise(policy, run(trace, make_policy(policy), _fleet()), _ENGINES).ttft


def live(trace: Trace, policy: str) -> Spread:
    """Times to the first token through a gateway of its own. Raises RuntimeError where a request fails."""
    with TemporaryDirectory() as name, ExitStack() as stack:
        place = Path(name)
        ports = free_ports(_ENGINES + 2)
        gateway, admin, members = ports[0], ports[1], ports[2:]
        for port in members:
            log = place / f"engine{port}.log"
            stack.enter_context(Child(_engine_command(port), log)).await_ready(lambda port=port: accepts(port))  # type: ignore[misc]
        (place / "config").mkdir()
        (place / "config" / "all.yaml").write_text(yaml.safe_dump_all(manifests(policy, gateway, admin, members)))
        command = [sys.executable, "-m", "extproc", "run", "-c", str(place / "config")]
        child = stack.enter_context(Child(command, place / "gateway.log"))
        child.await_ready(lambda: accepts(gateway) and accepts(admin))
        return spread(asyncio.run(_play(trace, gateway)))


def _engine_command(port: int) -> list[str]:
    settings = msgspec.structs.asdict(_PROFILE)
    wanted = ("block_size", "num_blocks", "prefill_tokens_per_second", "step_base", "max_model_len")
    given = itertools.chain.from_iterable(("--set", f"{name}={settings[name]}") for name in wanted)
    return [sys.executable, "-m", "bench.engine", "--port", str(port), "--model", _MODEL, *given]


def manifests(policy: str, port: int, admin: int, members: Sequence[int]) -> list[dict[str, Any]]:
    """A gateway with one pool, in which nothing waits, as in the simulator."""
    endless = {"queueDepth": None, "kvCacheUtilization": None}
    specs: Mapping[str, dict[str, Any]] = {
        "Gateway": {"listener": {"port": port}, "admin": {"port": admin}},
        "InferencePool": {
            "endpoints": [{"address": f"127.0.0.1:{member}"} for member in members],
            "policy": policy,
            "saturation": endless,
        },
        "LLMRoute": {"host": "*", "rules": [{"backendRefs": [{"pool": "live"}]}]},
    }
    return [
        {"apiVersion": "sluice.dev/v1alpha1", "kind": kind, "metadata": {"name": "live"}, "spec": spec}
        for kind, spec in specs.items()
    ]


def text_of(number: int, request: TraceRequest) -> str:
    """A prompt of so many tokens, four bytes each; what follows the shared blocks is its own."""
    size = _BLOCK * 4
    shared = "".join((f"{block:x} " * size)[:size] for block in request.blocks)
    own = f"request {number} " * (request.prompt_tokens // 2 + 1)
    return shared + own[: request.prompt_tokens * 4 - len(shared)]


async def _play(trace: Trace, port: int) -> list[float]:
    """Seconds to the first token of every request, sent when the trace says."""
    bodies = [
        msgspec.json.encode(
            {
                "model": _MODEL,
                "prompt": text_of(number, request),
                "max_tokens": request.output_tokens,
                "ignore_eos": True,
                "stream": True,
            }
        )
        for number, request in enumerate(trace.requests)
    ]
    url = f"http://127.0.0.1:{port}/v1/completions"
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as client:
        await _first_token(client, url, msgspec.json.encode({"model": _MODEL, "prompt": "hi", "stream": True}))
        start = time.monotonic()

        async def send(request: TraceRequest, body: bytes) -> float:
            await asyncio.sleep(start + request.arrival - time.monotonic())
            return await _first_token(client, url, body)

        return await asyncio.gather(*map(send, trace.requests, bodies))


async def _first_token(client: aiohttp.ClientSession, url: str, body: bytes) -> float:
    began, first = time.monotonic(), 0.0
    async with client.post(url, data=body, headers={"content-type": "application/json"}) as answer:
        if answer.status != 200:
            raise RuntimeError(f"status {answer.status}: {await answer.text()}")
        async for line in answer.content:
            first = first or (time.monotonic() - began if line.startswith(b"data:") else 0.0)
    return first


def reversed_pairs(expected: Mapping[str, float], found: Mapping[str, float]) -> list[tuple[str, str]]:
    """Pairs of policies of which the first is clearly better by `expected`, and not better as `found`."""
    return [
        (one, other)
        for one, other in itertools.permutations(expected, 2)
        if expected[one] * CLEAR < expected[other] and found[one] >= found[other]
    ]


def same_order(path: Path) -> tuple[list[str], Bar]:
    """Lines of a table, and the bar: no pair of policies in another order than in the simulator."""
    trace = miniature(path)
    lines = [f"{len(trace.requests)} requests in {trace.seconds:.1f} s on {_ENGINES} engines; mean and p95 TTFT in s"]
    expected: dict[str, float] = {}
    found: dict[str, float] = {}
    for policy in POLICIES:
        theory, practice = simulated(trace, policy), live(trace, policy)
        expected[policy], found[policy] = theory.mean, practice.mean
        figures = f"simulated {theory.mean:.3f} {theory.p95:.3f}, live {practice.mean:.3f} {practice.p95:.3f}"
        lines.append(f"  {policy:<18}{figures}")
    wrong = reversed_pairs(expected, found)
    lines += [f"  not in this order live: {one}, {other}" for one, other in wrong]
    return lines, Bar("live_pairs_in_another_order", len(wrong), 0)
