"""`sluice evaluate-predictor`: the length predictor on recorded answers, beside simpler rules."""

from __future__ import annotations

import gzip
import sys
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import msgspec

from extproc.prediction.evaluate import Pair, Score, evaluate

OK, FAULT = 0, 2


@click.command("evaluate-predictor")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def evaluate_predictor(file: Path) -> None:
    """How well the length of answers would have been predicted, from recorded ones.

    FILE holds lines of JSON, gzipped or not, with `prompt` and either `response` or `tokens`, and if known `model`,
    `tenant`, `route`, `prompt_tokens` and `max_tokens`. Prompts are held out: none is judged that was learned from.
    """
    sys.exit(run_evaluation(file))


def run_evaluation(file: Path) -> int:
    """Prints a table. Gives the exit status."""
    try:
        scores = evaluate(read_pairs(file))
    except (OSError, EOFError, zlib.error, msgspec.DecodeError, ValueError) as error:
        sys.stderr.write(f"sluice: {file}: {error}\n")
        return FAULT
    sys.stdout.writelines(f"{line}\n" for line in table(scores))
    return OK


def read_pairs(file: Path) -> list[Pair]:
    """Raises OSError, EOFError or zlib.error for what cannot be read, ValueError for a line that is no pair."""
    data = file.read_bytes()
    if data[:2] == b"\x1f\x8b":
        data = gzip.decompress(data)
    decode = msgspec.json.Decoder(Pair).decode
    pairs: list[Pair] = []
    for number, line in enumerate(data.splitlines(), start=1):
        if line.strip():
            try:
                pairs.append(decode(line))
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise ValueError(f"line {number}: {error}") from None
    return pairs


def table(scores: Sequence[Score]) -> Iterator[str]:
    """`below high`: share of answers not longer than what is reserved for them; 0.9 is right."""
    yield f"{'rule':<16}{'answers seen':>12}{'Kendall tau':>13}{'mean error, tokens':>20}{'below high':>12}"
    for each in scores:
        yield f"{each.rule:<16}{each.seen:>12}{each.tau:>13.3f}{each.error:>20.1f}{each.covered:>12.3f}"
