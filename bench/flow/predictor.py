"""The length predictor on recorded answers: how well it orders, how far it is off, what it costs."""

from __future__ import annotations

import gzip
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import msgspec

from bench.flow.bars import Bar, quantile, rows
from extproc.prediction.evaluate import Pair, evaluate
from extproc.prediction.predictor import LengthPredictor

PAIRS = "text/prompt_response_en_arena_hard.jsonl.gz"
SEEN = (0, 100, 300, 1000)


def read_pairs(path: Path) -> list[Pair]:
    """JSON lines, gzipped or not. Raises OSError, and msgspec.MsgspecError for a line that is no pair."""
    data = path.read_bytes()
    if data[:2] == b"\x1f\x8b":
        data = gzip.decompress(data)
    decode = msgspec.json.Decoder(Pair).decode
    return [decode(line) for line in data.splitlines() if line.strip()]


def report(pairs: Sequence[Pair]) -> tuple[str, list[Bar]]:
    scores = evaluate(pairs, SEEN)
    body = [(score.rule, score.seen, score.tau, score.error, score.covered) for score in scores]
    last = max((score for score in scores if score.rule == "ours"), key=lambda score: score.seen)
    predict, learn, extract = _costs(pairs)
    lines = [
        "Length of the answer, on prompts held out (5 folds, a prompt's answers all in one; 3 rounds):",
        rows(("rule", "answers seen", "Kendall tau", "mean error, tokens", "below high"), body),
        f"CPU us: predict {predict:.1f}, learn {learn:.1f}, features {extract:.1f}",
    ]
    bars = [
        Bar(f"predictor_kendall_tau_after_{last.seen}", last.tau, 0.45, least=True),
        Bar("predictor_us", predict, 20),
    ]
    return "\n".join(lines), bars


def _costs(pairs: Sequence[Pair]) -> tuple[float, float, float]:
    """Microseconds of CPU of one prediction, of learning and of reading the features: medians over the pairs."""
    some = pairs[:500]
    known = [(pair.features(), pair.length) for pair in some]
    predictor = LengthPredictor()
    learn = [_microseconds(partial(predictor.learn, one[0], one[1], 0.0)) for one in known]
    predict = [_microseconds(partial(predictor.predict, one[0])) for one in known]
    extract = [_microseconds(pair.features) for pair in some]
    return quantile(predict, 0.5), quantile(learn, 0.5), quantile(extract, 0.5)


def _microseconds(what: Callable[[], object]) -> float:
    began = time.thread_time_ns()
    what()
    return (time.thread_time_ns() - began) / 1000
