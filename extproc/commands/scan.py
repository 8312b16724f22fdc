"""`sluice scan`: what a security policy finds in files, directories, standard input, or rows of JSON."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

import click
import msgspec

from detectors.guard import Check, Guard, Verdict
from detectors.load import GuardError, load_guard
from detectors.policy import Policy
from extproc.live.security import policy_of
from extproc.resources.kinds.security import LLMSecurityPolicy
from extproc.resources.load import examine

STDIN = Path("-")
_SNIFFED = 8192
"""Bytes of a file in which a NUL tells that it is no text."""
_SKIPPED = frozenset((".git", ".venv", "node_modules", "__pycache__"))
_AHEAD = 64
"""Rows examined ahead of the one that is written next."""
_UNLIMITED = 1 << 40


OK, DENIED, FAULT = 0, 1, 2


class ScanError(ValueError):
    """The scan cannot begin: what is wrong, and with which file."""


class _Row(msgspec.Struct):
    text: str


class Found(msgspec.Struct, frozen=True):
    """One finding as it is printed; offsets are characters of the text."""

    category: str
    start: int
    end: int
    score: float
    detector: str


class Result(msgspec.Struct, frozen=True):
    """What a policy says of one text."""

    action: str
    """`allow`, `mask` or `deny`; `error` for a row that could not be read."""
    reason: str
    findings: list[Found]
    scores: Mapping[str, float]


@click.command()
@click.argument("paths", nargs=-1, type=click.Path(exists=True, allow_dash=True, path_type=Path))
@click.option(
    "--policy",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File with one LLMSecurityPolicy. Default: every detector with its built-in action.",
)
@click.option(
    "--jsonl", is_flag=True, help="Read rows of JSON with `text`, write one row each: action, reason, findings, scores."
)
def scan(paths: tuple[Path, ...], policy: Path | None, jsonl: bool) -> None:
    """Look for sensitive content in files, directories or standard input, on this machine alone.

    The private judge is not asked. Exit status: 0 if nothing would be denied, 1 if something would, 2 on a fault;
    with --jsonl, 2 if a row could not be read, else 0.
    """
    sys.exit(run_scan(paths, policy, os.environ, jsonl=jsonl))


def run_scan(paths: Sequence[Path], policy: Path | None, environ: Mapping[str, str], *, jsonl: bool) -> int:
    """Prints what a security policy finds. Gives the exit status: 0 nothing to deny, 1 something, 2 a fault."""
    try:
        guard = guard_for(policy_from(policy, environ))
        if not jsonl:
            return DENIED if scan_files(guard, paths or [STDIN], sys.stdout) else OK
        complete = True
        for path in paths or [STDIN]:
            with sys.stdin.buffer if path == STDIN else path.open("rb") as lines:
                complete = scan_rows(guard, lines, sys.stdout.buffer) and complete
        return OK if complete else FAULT
    except (ScanError, OSError) as error:
        print(f"sluice: {error}", file=sys.stderr)
        return FAULT


def policy_from(file: Path | None, environ: Mapping[str, str]) -> Policy:
    """The policy in a manifest, or the default one. Nothing limits the size of what is scanned. Raises ScanError."""
    policy = Policy()
    if file is not None:
        found = examine(file, environ=environ)
        # the policy alone is of interest: the hosts and providers that it is for may stand in other files
        wrong = [each for each in found.problems if each.severity == "error" and ".targets" not in each.path]
        wrong = [each for each in wrong if not each.path.startswith("$.spec.judge.apiKey")]
        policies = [each for each in found.resources if isinstance(each, LLMSecurityPolicy)]
        if wrong or len(policies) != 1:
            said = "\n".join(map(str, wrong)) or f"{file}: expected one LLMSecurityPolicy, found {len(policies)}"
            raise ScanError(said)
        policy = policy_of(policies[0].spec, file.parent)
    budget = msgspec.structs.replace(policy.budget, characters=_UNLIMITED)
    return msgspec.structs.replace(policy, budget=budget)


def guard_for(policy: Policy) -> Guard:
    """Raises ScanError."""
    try:
        return load_guard(policy)
    except GuardError as error:
        raise ScanError(str(error)) from error


def result_of(guard: Guard, text: str) -> Result:
    """One text, looked at by itself."""
    check = guard.examine(text)
    verdict = guard.judge([(text, check)])
    return _result(guard, check, verdict)


def _result(guard: Guard, check: Check, verdict: Verdict) -> Result:
    findings = [
        Found(each.category, each.start, each.end, round(each.score, 4), each.detector)
        for each in guard.spans(check.findings)
    ]
    scores = {name: round(score, 4) for name, score in check.scores.items()}
    return Result(verdict.action, verdict.reason, findings, scores)


def scan_rows(guard: Guard, lines: Iterable[bytes], output: IO[bytes]) -> bool:
    """Rows of JSON with `text` in, one `Result` each out, in order. Gives whether every row could be read."""
    encode = msgspec.json.Encoder().encode
    decode = msgspec.json.Decoder(_Row).decode
    complete = True

    def look(numbered: tuple[int, bytes]) -> Result:
        number, line = numbered
        try:
            return result_of(guard, decode(line).text)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return Result("error", f"line {number}: {error}", [], {})

    rows = ((number, line) for number, line in enumerate(lines, start=1) if line.strip())
    for result in _in_order(look, rows):
        complete = complete and result.action != "error"
        output.write(encode(result) + b"\n")
        output.flush()
    return complete


def _in_order(look: Callable[[tuple[int, bytes]], Result], rows: Iterator[tuple[int, bytes]]) -> Iterator[Result]:
    """Two rows at a time, as the detectors let go of the interpreter; never more than `_AHEAD` in memory."""
    with ThreadPoolExecutor(2) as threads:
        ahead = []
        for row in rows:
            ahead.append(threads.submit(look, row))
            if len(ahead) >= _AHEAD:
                yield ahead.pop(0).result()
        for future in ahead:
            yield future.result()


def scan_files(guard: Guard, paths: Sequence[Path], output: IO[str]) -> bool:
    """One line per finding: `FILE:LINE:COLUMN CATEGORY ACTION SCORE DETECTOR`, never the text itself. Gives whether
    anything is denied. Raises ScanError for a path that cannot be read."""
    denied = False
    looked, skipped = 0, 0
    for path, raw in _contents(paths):
        if b"\0" in raw[:_SNIFFED]:
            skipped += 1
            continue
        looked += 1
        text = raw.decode("utf-8", "replace")
        result = result_of(guard, text)
        denied = denied or result.action == "deny"
        for found in result.findings:
            line = text.count("\n", 0, found.start) + 1
            column = found.start - (text.rfind("\n", 0, found.start) + 1) + 1
            action = guard.policy.action(found.category)
            output.write(f"{path}:{line}:{column} {found.category} {action} {found.score:.2f} {found.detector}\n")
        if result.action == "deny":
            output.write(f"{path}: denied: {result.reason}\n")
    binary = f", {skipped} that hold no text left out" if skipped else ""
    output.write(f"{looked} text{'s' if looked != 1 else ''} looked at{binary}\n")
    return denied


def _contents(paths: Sequence[Path]) -> Iterator[tuple[str, bytes]]:
    for path in paths:
        if path == STDIN:
            yield "standard input", sys.stdin.buffer.read()
            continue
        files = sorted(_walk(path)) if path.is_dir() else [path]
        for file in files:
            try:
                yield str(file), file.read_bytes()
            except OSError as error:
                raise ScanError(f"{file} cannot be read: {error.strerror}") from error


def _walk(directory: Path) -> Iterator[Path]:
    for entry in directory.iterdir():
        if entry.is_symlink() or entry.name in _SKIPPED:
            continue
        if entry.is_dir():
            yield from _walk(entry)
        elif entry.is_file():
            yield entry
