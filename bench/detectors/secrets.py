"""Secrets: recall on fixtures, false alarms on benign text, cost; side by side with `detect-secrets`.

    python -m bench.detectors.secrets --data DIR

DIR holds `secrets_fixtures_*.jsonl.gz` (rule, secret, text) and the benign sets. The fixtures are cut by family: a
family counts for the bar if its vendor publishes the format of a secret value. Two groups do not count: `NO_SECRET`
holds public identifiers (bucket and account names, client ids, public keys), which are no secrets here; `NO_FORMAT`
holds passwords that people choose, which only the words around them give away. A text that a rule does not mean often
holds a secret of another rule, so the share flagged among those is not a rate of false alarms.
"""

from __future__ import annotations

import argparse
import gzip
import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from detectors.secrets import Secrets
from detectors.text import Text

NO_SECRET = frozenset(
    [
        "AWS Account ID",
        "AWS S3 Bucket",
        "Age Recipient (X25519 public key)",
        "Amazon Resource Name",
        "GitHub Client ID",
        "Google Client ID",
        "Google Cloud Storage Bucket",
        "LinkedIn Client ID",
        "React App Username",
        "Shopify Domain",
        "Twitter Client ID",
    ]
)
"""Names of things that are public, or that say nothing without a secret beside them."""
NO_FORMAT = frozenset(
    [
        "Credentials in .NET System.DirectoryServices.DirectoryEntry",
        "Credentials in .NET System.Net.NetworkCredential",
        "Credentials in Connect-VIServer Invocation",
        "Credentials in PsExec Invocation",
        "Generic API Key",
        "Generic Password",
        "Generic Secret",
        "Generic Username and Password",
        "Hardcoded Gradle Credentials",
        "PHPMailer Credentials",
        "React App Password",
        "Sensitive Value in .NET Configuration",
    ]
)
"""Passwords as people choose them, in code and in commands: no vendor says what they look like."""
BENIGN = (
    "benign_en_t0_prompts",
    "benign_en_roleplay_prompts",
    "benign_zh_cvalues_prompts",
    "benign_zh_medical_qa",
    "dialogue_en_sgd_train",
    "dialogue_zh",
    "meeting_zh_vcsum_short_dev",
    "ner_zh_uner_train",
    "unlabelled_en_handbooks",
    "unlabelled_zh_docs",
)
MOST_ROWS = 3000
MOST_FOR_THE_OTHER = 150
"""Rows of a set that the slower scanner reads."""
Scanner = Callable[[str], bool]


def rows(path: Path) -> Iterator[Any]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def prompts(row: Any) -> str:
    """The words of a row as one text, as a user would send it."""
    if isinstance(row, str):
        return row
    if isinstance(row, dict):
        return "\n".join(filter(None, map(prompts, row.values())))
    return (
        ("\n" if any(isinstance(each, dict | list) for each in row) else " ").join(map(prompts, row))
        if isinstance(row, list)
        else ""
    )


def glued(text: str) -> str:
    return "请看下面的内容" + text.strip() + "这是什么意思"


def detect_secrets_scanner() -> Scanner | None:
    """`detect-secrets` with its default plugins and filters, on files, or nothing where it is not installed."""
    try:
        from detect_secrets.core.scan import scan_file
        from detect_secrets.settings import default_settings
    except ImportError:
        return None

    def scan(text: str) -> bool:
        with default_settings(), tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "text.txt"
            path.write_text(text, encoding="utf-8", errors="replace")
            return next(iter(scan_file(str(path))), None) is not None

    return scan


def recall(fixtures: list[Any], scan: Scanner, change: Callable[[str], str] = str) -> dict[str, tuple[int, int]]:
    """Rule to texts found and texts in all, over those with a secret."""
    found: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for row in fixtures:
        if row["secret"]:
            total[row["rule"]] += 1
            found[row["rule"]] += scan(change(row["text"]))
    return {rule: (found[rule], total[rule]) for rule in sorted(total)}


def share(counts: dict[str, tuple[int, int]], without: frozenset[str] = frozenset()) -> tuple[int, int]:
    kept = [pair for rule, pair in counts.items() if rule not in without]
    return sum(pair[0] for pair in kept), sum(pair[1] for pair in kept)


def show(label: str, pair: tuple[int, int]) -> None:
    print(f"{label:58} {pair[0]:6} of {pair[1]:6}  {100 * pair[0] / max(1, pair[1]):6.2f} %")


def cost(secrets: Secrets, text: str) -> tuple[float, float]:
    """p50 and p95 in microseconds."""
    taken = []
    for _ in range(200):
        begun = time.perf_counter()
        secrets.find(Text(text))
        taken.append(time.perf_counter() - begun)
    taken.sort()
    return taken[100] * 1e6, taken[190] * 1e6


def report_recall(fixtures: list[Any], scanners: dict[str, Scanner]) -> float:
    value = 0.0
    for name, scan in scanners.items():
        plain = recall(fixtures, scan)
        print(f"\n{name}: texts with a secret that are flagged")
        show("all rules", share(plain))
        show("without public identifiers", share(plain, NO_SECRET))
        public = share(plain, NO_SECRET | NO_FORMAT)
        show("families whose vendor format is public", public)
        show("the same, glued to Chinese", share(recall(fixtures, scan, glued), NO_SECRET | NO_FORMAT))
        negatives = [row["text"] for row in fixtures if not row["secret"]]
        show("flagged among texts that the rule does not mean", (sum(map(scan, negatives)), len(negatives)))
        if name == "sluice":
            value = 100 * public[0] / public[1]
            for rule, pair in plain.items():
                if pair[0] < pair[1]:
                    group = "identifier" if rule in NO_SECRET else "no format" if rule in NO_FORMAT else "public"
                    show(f"  missed: {rule[:40]} ({group})", pair)
    return value


def report_benign(data: Path, scanners: dict[str, Scanner]) -> float:
    print("\nbenign texts flagged")
    flagged = total = 0
    for name in BENIGN:
        path = data / f"{name}.jsonl.gz"
        texts = [text for text, _ in zip(map(prompts, rows(path)), range(MOST_ROWS), strict=False)]
        for scanner, scan in scanners.items():
            seen = texts if scanner == "sluice" else texts[:MOST_FOR_THE_OTHER]
            hits = sum(map(scan, seen))
            show(f"  {name}, {scanner}", (hits, len(seen)))
            if scanner == "sluice":
                flagged, total = flagged + hits, total + len(seen)
    show("all benign sets, sluice", (flagged, total))
    return 100 * flagged / total


def report_cost(secrets: Secrets) -> None:
    english = "Could you please summarise the discussion about the new office and draft a friendly note to the team? "
    chinese = "请帮我写一份关于新办公室布局的总结，并给团队起草一封友好的通知。"
    print("\ncost on clean text, microseconds")
    for label, words, size in (
        ("128 tokens, English", english, 520),
        ("128 tokens, Chinese", chinese, 200),
        ("8,000 characters, English", english, 8000),
        ("8,000 characters, Chinese", chinese, 8000),
    ):
        p50, p95 = cost(secrets, (words * (size // len(words) + 1))[:size])
        print(f"  {label:28} p50 {p50:8.1f}  p95 {p95:8.1f}")


def bar(name: str, value: float, limit: float, *, most: bool) -> None:
    met = value <= limit if most else value >= limit
    print(f"bar {name} {value:.3f} {limit} {'ok' if met else 'short'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with the shared sets, gzip JSON lines")
    data: Path = parser.parse_args().data
    secrets = Secrets()
    scanners: dict[str, Scanner] = {"sluice": lambda text: bool(secrets.find(Text(text)))}
    other = detect_secrets_scanner()
    if other is None:
        print("detect-secrets is not installed: its columns are left out")
    else:
        scanners["detect-secrets"] = other
    fixtures = [row for path in sorted(data.glob("secrets_fixtures_*.jsonl.gz")) for row in rows(path)]
    found = report_recall(fixtures, scanners)
    alarms = report_benign(data, scanners)
    report_cost(secrets)
    bar("secrets-recall-percent", found, 85, most=False)
    bar("secrets-benign-percent", alarms, 0.1, most=True)


if __name__ == "__main__":
    main()
