from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extproc.simulate.engine import Engine, EngineProfile, JobPhase, Sequence, SimulatedRequest

# Powers of two: every time below is exact in binary.
PROFILE = EngineProfile(
    max_num_seqs=4,
    max_num_batched_tokens=64,
    block_size=4,
    num_blocks=1024,
    max_model_len=1024,
    prefill_tokens_per_second=64.0,
    step_base=0.5,
    step_per_seq=0.25,
    lora_load_seconds=8.0,
    max_loras=1,
)


def profile(**changes: object) -> EngineProfile:
    return EngineProfile(**{**{name: getattr(PROFILE, name) for name in PROFILE.__struct_fields__}, **changes})


def ask(name: str, prompt: int = 4, output: int = 3, blocks: tuple[int, ...] = (), **more: object) -> SimulatedRequest:
    return SimulatedRequest(id=name, prompt_tokens=prompt, output_tokens=output, blocks=blocks, **more)  # type: ignore[arg-type]


def finish(engine: Engine) -> float:
    """Run until idle; the time of the last step."""
    now = 0.0
    while (wake := engine.wake_at()) is not None:
        now = wake
        engine.advance(now)
    return now


def test_one_request_follows_the_step_formula() -> None:
    engine = Engine(PROFILE)
    sequence = engine.submit(ask("a", prompt=32, output=3), 10.0)
    finish(engine)
    assert sequence.first_token_at == 10.0 + 0.5 + 32 / 64
    assert sequence.finished_at == 11.0 + 2 * (0.5 + 0.25)


def test_decode_time_grows_with_the_batch() -> None:
    engine = Engine(PROFILE)
    sequences = [engine.submit(ask(str(index), prompt=1, output=5), 0.0) for index in range(4)]
    finish(engine)
    assert {item.first_token_at for item in sequences} == {0.5 + 4 / 64}
    assert {item.finished_at for item in sequences} == {0.5625 + 4 * (0.5 + 4 * 0.25)}


def test_no_more_than_max_num_seqs_run_and_the_queue_is_fifo() -> None:
    engine = Engine(PROFILE)
    sequences = [engine.submit(ask(str(index), output=1 + index), 0.0) for index in range(6)]
    engine.next_step_at()
    load = engine.load(0.0)
    assert (load.running, load.waiting) == (4, 2)
    finish(engine)
    admitted = [item.admitted_at for item in sequences]
    assert admitted[:4] == [0.0] * 4
    assert admitted[4] == sequences[0].finished_at
    assert admitted[5] == sequences[1].finished_at


def test_a_long_prompt_is_prefilled_in_chunks_beside_running_decodes() -> None:
    engine = Engine(PROFILE)
    short = engine.submit(ask("short", prompt=4, output=10), 0.0)
    first = engine.next_step_at()
    assert first == 0.5625
    long = engine.submit(ask("long", prompt=100, output=1), 0.25)
    finish(engine)
    # The budget of 64 leaves 63 prompt tokens beside one decode, then the remaining 37.
    second = 0.5625 + 0.5 + 0.25 + 63 / 64
    assert long.admitted_at == 0.5625
    assert long.first_token_at == second + 0.5 + 0.25 + 37 / 64
    assert short.phase is JobPhase.FINISHED


def test_a_request_waits_for_the_step_in_progress_and_cuts_a_leap() -> None:
    engine = Engine(PROFILE)
    engine.submit(ask("a", prompt=4, output=101), 0.0)
    engine.advance(1.0)
    assert engine.wake_at() == 0.5625 + 100 * 0.75
    late = engine.submit(ask("b", prompt=64), 2.5)
    assert engine.wake_at() == 0.5625 + 3 * 0.75
    finish(engine)
    assert late.admitted_at == 0.5625 + 3 * 0.75


def test_a_prefix_hit_shortens_prefill_by_the_cached_tokens() -> None:
    engine = Engine(PROFILE)
    cold = engine.submit(ask("a", prompt=34, output=1, blocks=tuple(range(8))), 0.0)
    finish(engine)
    warm = engine.submit(ask("b", prompt=34, output=1, blocks=(*range(6), 98, 99)), 100.0)
    finish(engine)
    assert cold.first_token_at == 0.5 + 34 / 64
    assert warm.cached == 24
    assert warm.first_token_at == 100.0 + 0.5 + (34 - 24) / 64
    load = engine.load(200.0)
    assert (load.prefix_queries, load.prefix_hits) == (68, 24)


def test_the_last_prompt_token_is_always_computed() -> None:
    engine = Engine(PROFILE)
    engine.submit(ask("a", prompt=32, output=1, blocks=tuple(range(8))), 0.0)
    finish(engine)
    again = engine.submit(ask("b", prompt=32, output=1, blocks=tuple(range(8))), 10.0)
    finish(engine)
    assert again.cached == 28


def test_without_prefix_caching_nothing_is_reused() -> None:
    engine = Engine(profile(prefix_caching=False))
    for name in "ab":
        sequence = engine.submit(ask(name, prompt=32, output=1, blocks=tuple(range(8))), 10.0)
        finish(engine)
        assert sequence.cached == 0


def test_least_recently_used_prefix_is_evicted_tail_first() -> None:
    engine = Engine(profile(num_blocks=8, max_model_len=32))

    def run(name: str, blocks: tuple[int, ...]) -> int:
        sequence = engine.submit(ask(name, prompt=len(blocks) * 4 + 1, output=1, blocks=blocks), engine_time[0])
        engine_time[0] = finish(engine)
        return sequence.cached // 4

    engine_time = [0.0]
    run("a", (1, 2, 3))
    run("b", (11, 12, 13))
    # Two blank blocks are left; three prompt blocks and one partial evict two: the tail of `a`.
    run("c", (21, 22, 23))
    assert run("a2", (1, 2, 3)) == 1
    assert run("c2", (21, 22, 23)) == 3


def test_preemption_recomputes_the_sequence_admitted_last() -> None:
    engine = Engine(profile(num_blocks=8, max_model_len=32, prefix_caching=False))
    first = engine.submit(ask("first", prompt=12, output=16), 0.0)
    second = engine.submit(ask("second", prompt=12, output=16), 0.0)
    finish(engine)
    assert (first.preemptions, second.preemptions) == (0, 1)
    assert engine.load(1000.0).preemptions == 1
    # Both fit with 4 blocks each, that is until 16 tokens: the prefill step and 4 decode steps.
    batched = 0.5 + 24 / 64 + 4 * (0.5 + 2 * 0.25)
    assert first.finished_at == batched + 11 * 0.75
    # After that the second computes its prompt and the 5 tokens it had, and decodes alone.
    assert second.finished_at == first.finished_at + 0.5 + 17 / 64 + 10 * 0.75
    assert second.first_token_at == first.first_token_at


def test_a_prefetched_prompt_costs_one_token() -> None:
    engine = Engine(profile(role="decode"))
    sequence = engine.submit(ask("a", prompt=60, output=2, blocks=tuple(range(15)), prefetched=True), 0.0)
    finish(engine)
    assert sequence.first_token_at == 0.5 + 1 / 64
    assert engine.load(9.0).generation_tokens == 2
    with pytest.raises(ValueError, match="prefetched"):
        Engine(profile(role="prefill")).submit(ask("a", prefetched=True), 0.0)


def test_adapters_beyond_the_limit_wait_while_others_pass() -> None:
    engine = Engine(PROFILE)
    a = engine.submit(ask("a", lora="x"), 0.0)
    b = engine.submit(ask("b", lora="y"), 0.0)
    c = engine.submit(ask("c"), 0.0)
    engine.next_step_at()
    load = engine.load(0.0)
    assert (load.running_loras, load.waiting_loras) == (("x",), ("y",))
    assert (a.phase, b.phase, c.phase) == (JobPhase.RUNNING, JobPhase.WAITING, JobPhase.RUNNING)
    finish(engine)
    assert a.first_token_at == 8.0 + 0.5 + 8 / 64
    assert b.admitted_at == a.finished_at


def test_slowdown_multiplies_steps_that_start_later() -> None:
    engine = Engine(PROFILE)
    engine.slowdown = 3.0
    sequence = engine.submit(ask("a", prompt=32, output=1), 0.0)
    finish(engine)
    assert sequence.first_token_at == 3.0


def test_jitter_is_seeded() -> None:
    def first_token(seed: int) -> float | None:
        engine = Engine(profile(jitter=0.5, seed=seed))
        sequence = engine.submit(ask("a"), 0.0)
        finish(engine)
        return sequence.first_token_at

    assert first_token(1) == first_token(1) != first_token(2)


def test_abort_frees_blocks_and_reports_nothing_more() -> None:
    engine = Engine(PROFILE)
    engine.submit(ask("a", prompt=32, output=50), 0.0)
    kept = engine.submit(ask("b", prompt=32, output=2), 0.0)
    engine.advance(3.0)
    assert engine.abort("a", 3.0)
    assert not engine.abort("a", 3.0)
    news = engine.advance(finish(engine))
    assert all(item.sequence is kept for item in news)
    load = engine.load(1000.0)
    assert (load.running, load.kv_usage, load.aborted, load.finished) == (0, 0.0, 1, 1)


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (ask("a", prompt=0), "at least one"),
        (ask("a", output=0), "at least one"),
        (ask("a", prompt=1020, output=5), "more than 1024"),
    ],
)
def test_impossible_requests_are_refused(request_: SimulatedRequest, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Engine(PROFILE).submit(request_, 0.0)


@pytest.mark.parametrize(
    "changes", [{"num_blocks": 4}, {"max_num_seqs": 0}, {"jitter": 1.0}, {"prefill_tokens_per_second": 0.0}]
)
def test_impossible_profiles_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"at least 1|fit|jitter|positive"):
        profile(**changes)


arrivals = st.lists(
    st.tuples(
        st.floats(0, 20),
        st.integers(1, 60),
        st.integers(1, 40),
        st.lists(st.integers(0, 3), max_size=15),
        st.sampled_from(["", "", "x", "y"]),
        st.booleans(),
    ),
    max_size=14,
)


def simulate(plan: list[tuple[float, int, int, list[int], str, bool]], polls: list[float]) -> list[Sequence]:
    """Serve the arrivals on a small cache, asking at `polls` as well; checks limits at every poll."""
    engine = Engine(profile(num_blocks=32, max_model_len=100))
    events = sorted([(at, index, "submit") for index, (at, *_) in enumerate(plan)] + [(at, -1, "") for at in polls])
    sequences: dict[int, Sequence] = {}
    tokens: dict[str, int] = {}
    ended: list[str] = []

    def drain(now: float) -> None:
        for item in engine.advance(now):
            name = item.sequence.request.id
            tokens[name] = tokens.get(name, 0) + item.tokens
            if item.finished:
                ended.append(name)

    for at, index, kind in events:
        if kind:
            _, prompt, output, content, lora, prefetched = plan[index]
            blocks = tuple(hash(tuple(content[: depth + 1])) for depth in range(min(len(content), prompt // 4)))
            request = ask(str(index), prompt, output, blocks, lora=lora, prefetched=prefetched)
            sequences[index] = engine.submit(request, at)
        else:
            load = engine.load(at)
            assert load.running <= 4
            assert 0 <= load.kv_usage <= 1
            drain(at)
    while (wake := engine.wake_at()) is not None:
        drain(wake)
    assert sorted(ended) == sorted(str(index) for index in range(len(plan)))
    assert tokens == {str(index): entry[2] for index, entry in enumerate(plan)}
    idle = engine.load(1e6)
    assert (idle.running, idle.waiting, idle.kv_usage) == (0, 0, 0.0)
    return [sequences[index] for index in range(len(plan))]


@settings(max_examples=80, deadline=None)
@given(arrivals, st.lists(st.floats(0, 100), max_size=30))
def test_every_request_finishes_exactly_once_however_often_one_looks(
    plan: list[tuple[float, int, int, list[int], str, bool]], polls: list[float]
) -> None:
    once, often = simulate(plan, []), simulate(plan, polls)
    assert [(item.first_token_at, item.finished_at, item.preemptions, item.cached) for item in once] == [
        (item.first_token_at, item.finished_at, item.preemptions, item.cached) for item in often
    ]
