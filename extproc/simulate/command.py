"""`sluice simulate`: what each policy would give on a trace."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from extproc.pool.policies import BadPolicy, PolicyConfig, make_policy
from extproc.pool.waiting import UNLIMITED, SaturationLimits
from extproc.simulate.fleet import run
from extproc.simulate.profile import PROFILES, EngineProfile
from extproc.simulate.report import page
from extproc.simulate.scenario import FleetConfig, Outcome, engines
from extproc.simulate.summary import Summary, summarise, table
from extproc.simulate.trace import Trace, TraceError, compressed, read_trace

_BY_ROLE = ("static-pd", "dynamic-pd")
"""Policies that need engines with different roles."""


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """The options of the command."""

    trace: Path
    policies: tuple[str, ...]
    """Names of policies, with parameters as `name?key=value&key=value`."""
    engines: int = 8
    profile: str = "8b-a100"
    settings: tuple[str, ...] = ()
    """`field=value` of the profile."""
    speed: float = 1.0
    """How many times as fast as recorded."""
    requests: int | None = None
    """Only so many of the first requests."""
    slow: tuple[int, ...] = ()
    """Engines that run at half speed."""
    metrics_interval: float = 0.2
    metrics_delay: float = 0.0
    queue: bool = False
    """Whether requests wait in the gateway while all engines are saturated."""
    seed: int = 0


class BadWish(ValueError):
    """An option that cannot be done. The text says which and why."""


def simulate(wish: Wish, report: Path | None, say: Callable[[str], None]) -> list[Summary]:
    """Plays the trace once for each policy, says the table, and writes the HTML page to `report`. Raises BadWish."""
    if wish.engines < 1:
        raise BadWish(f"at least one engine is needed, not {wish.engines}")
    if report is not None:
        try:
            report.touch()
        except OSError as error:
            raise BadWish(f"the report cannot be written: {error}") from error
    configs = [_policy(text) for text in wish.policies]
    trace, profile = _trace(wish), _profile(wish)
    wrong = [number for number in wish.slow if not 0 <= number < wish.engines]
    if wrong:
        raise BadWish(f"engines are numbered from 0 to {wish.engines - 1}; there is no {wrong}")
    fleet = FleetConfig(
        profiles=engines(profile, wish.engines, wish.slow),
        metrics_interval=wish.metrics_interval,
        metrics_delay=wish.metrics_delay,
        saturation=SaturationLimits() if wish.queue else UNLIMITED,
        seed=wish.seed,
    )
    facts = _facts(wish, trace, profile)
    for fact in facts:
        say(fact)
    summaries: list[Summary] = []
    outcomes: dict[str, list[Outcome]] = {}
    for text, config in zip(wish.policies, configs, strict=True):
        began = time.perf_counter()
        outcomes[text] = run(trace, make_policy(config), fleet)
        summaries.append(summarise(text, outcomes[text], wish.engines))
        say(f"{text}: simulated in {time.perf_counter() - began:.1f} s")
    say("\n" + table(summaries))
    if report is not None:
        report.write_text(page(f"{trace.name} on {wish.engines} engines", facts, summaries, outcomes), encoding="utf-8")
        say(f"\nreport: {report}")
    return summaries


def _policy(text: str) -> PolicyConfig:
    name, _, rest = text.partition("?")
    if name in _BY_ROLE:
        raise BadWish(
            f"{name} cannot be simulated: it splits requests by the roles of engines, and all simulated "
            "engines have the same role; leave it out"
        )
    config = PolicyConfig(name=name, parameters=dict(_setting(pair) for pair in rest.split("&") if pair))
    try:
        make_policy(config)
    except BadPolicy as error:
        raise BadWish(str(error)) from error
    return config


def _setting(text: str) -> tuple[str, object]:
    name, equals, value = text.partition("=")
    if not equals:
        raise BadWish(f"{text!r} is not NAME=VALUE")
    try:
        return name, msgspec.json.decode(value.encode())
    except msgspec.DecodeError:
        return name, value


def _trace(wish: Wish) -> Trace:
    try:
        trace = read_trace(wish.trace, wish.requests)
    except (OSError, TraceError) as error:
        raise BadWish(str(error)) from error
    if wish.speed <= 0:
        raise BadWish("the speed must be above 0")
    return trace if wish.speed == 1 else compressed(trace, wish.speed)


def _profile(wish: Wish) -> EngineProfile:
    """The cache is counted in the trace's blocks: as many as the same memory gives."""
    named = PROFILES.get(wish.profile)
    if named is None:
        raise BadWish(f"unknown profile {wish.profile!r}: use {', '.join(sorted(PROFILES))}")
    tokens = named.num_blocks * named.block_size
    fields = {
        **msgspec.structs.asdict(named),
        "block_size": 512,
        "num_blocks": tokens // 512,
        "max_model_len": tokens // 512 * 512,
        **dict(_setting(text) for text in wish.settings),
    }
    try:
        return msgspec.convert(fields, EngineProfile)
    except msgspec.ValidationError as error:
        raise BadWish(str(error)) from error


def _facts(wish: Wish, trace: Trace, profile: EngineProfile) -> list[str]:
    prompt = sum(request.prompt_tokens for request in trace.requests) / len(trace.requests)
    output = sum(request.output_tokens for request in trace.requests) / len(trace.requests)
    return [
        f"trace {trace.name}: {len(trace.requests)} requests in {trace.seconds:.0f} s, "
        f"on average {prompt:.0f} prompt and {output:.0f} output tokens",
        f"{wish.engines} engines {wish.profile}: {profile.prefill_tokens_per_second:g} prompt tokens/s, batches of "
        f"{profile.max_num_seqs}, {profile.num_blocks} cache blocks of {profile.block_size} tokens"
        + (f"; at half speed: {', '.join(map(str, wish.slow))}" if wish.slow else ""),
        f"metrics every {wish.metrics_interval:g} s, {wish.metrics_delay:g} s old; seed {wish.seed}; requests "
        + ("wait in the gateway while all engines are saturated" if wish.queue else "never wait in the gateway"),
    ]
