"""Prints the figures that tell whether the house is in order, each as `bar NAME VALUE LIMIT ok|short`."""

from __future__ import annotations

import argparse
import ast
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import grimp

ROOT = Path(__file__).parents[2]
ROOMS = ("extproc", "detectors")
BEFORE = "e036cda"
"""The last commit of version 0.1."""
_ROUNDS = 7


def product_files() -> list[Path]:
    """What users install, without what only trains the classifier."""
    files = [file for room in ROOMS for file in sorted((ROOT / room).rglob("*.py"))]
    return [file for file in files if "training" not in file.parts and "__pycache__" not in file.parts]


def loose_modules() -> int:
    """Modules of `extproc` beside its rooms."""
    return sum(file.stem not in ("__init__", "__main__") for file in (ROOT / "extproc").glob("*.py"))


def duplicate_class_names() -> int:
    """Class names that stand for more than one thing."""
    names = Counter(
        node.name
        for file in product_files()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
    )
    return sum(count > 1 for count in names.values())


def import_circles() -> int:
    """Groups of modules that import each other, directly or not (strongly connected components, Tarjan 1972)."""
    graph = grimp.build_graph(*ROOMS)
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found = 0

    def visit(module: str) -> None:
        nonlocal found
        index[module] = low[module] = len(index)
        stack.append(module)
        for other in graph.find_modules_directly_imported_by(module):
            if other not in index:
                visit(other)
                low[module] = min(low[module], low[other])
            elif other in stack:
                low[module] = min(low[module], index[other])
        if low[module] == index[module]:
            members = stack[stack.index(module) :]
            del stack[stack.index(module) :]
            found += len(members) > 1

    sys.setrecursionlimit(10_000)
    for module in sorted(graph.modules):
        if module not in index:
            visit(module)
    return found


def exchange_ratio(before: str) -> float:
    """CPU time of an exchange in this tree, in units of that at commit `before`: the best of rounds that take turns."""
    with tempfile.TemporaryDirectory() as place:
        old = Path(place) / "before"
        subprocess.run(["git", "-C", str(ROOT), "worktree", "add", "--detach", str(old), before], check=True)
        try:
            best = [float("inf"), float("inf")]
            for _ in range(_ROUNDS):
                best = [min(known, _exchange(tree)) for known, tree in zip(best, (old, ROOT), strict=True)]
        finally:
            subprocess.run(["git", "-C", str(ROOT), "worktree", "remove", "--force", str(old)], check=True)
    return best[1] / best[0]


def _exchange(tree: Path) -> float:
    program = ROOT / "bench" / "house" / "exchange.py"
    environ = {**os.environ, "PYTHONPATH": str(tree), "PYTHONSAFEPATH": "1"}
    done = subprocess.run([sys.executable, str(program)], env=environ, capture_output=True, text=True, check=True)
    return float(done.stdout)


def test_seconds() -> float:
    """How long the default run of the tests takes here."""
    began = time.monotonic()
    subprocess.run([sys.executable, "-m", "pytest", "-q"], cwd=ROOT, check=True)
    return time.monotonic() - began


def bars(before: str, *, with_tests: bool) -> Iterator[tuple[str, float, float]]:
    yield "loose-modules", loose_modules(), 0
    yield "import-circles", import_circles(), 0
    yield "product-lines", sum(file.read_bytes().count(b"\n") for file in product_files()), 32_000
    yield "duplicate-class-names", duplicate_class_names(), 10
    yield "exchange-cpu-ratio", exchange_ratio(before), 1.0
    if with_tests:
        yield "default-test-seconds", test_seconds(), 330


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", default=BEFORE, help="commit to compare the cost of an exchange with")
    parser.add_argument("--tests", action="store_true", help="time the default run of the tests too")
    chosen = parser.parse_args()
    for name, value, limit in bars(chosen.before, with_tests=chosen.tests):
        print(f"bar {name} {value:.4g} {limit:g} {'ok' if value <= limit else 'short'}", flush=True)


if __name__ == "__main__":
    main()
