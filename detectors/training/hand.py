"""The hand-written rows: `text/hand/KIND_LANGUAGE[_AUTHOR].jsonl`, held out by occasion.

A pair is `{"o", "c", "m", "flip", "yes", "no"}`: `yes` discloses internal information of category `c`, `no` is the
closest text that does not. A harmless row is `{"o", "k", "t"}`. An injection is `{"o", "k", "m", "y", "t"}`, where `y`
of 0 is a text that only looks like one. `o` is the occasion: one sitting, one setting, one author.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from detectors.training.labels import INJECTION, LETTERS
from detectors.training.text.row import Row

FOLDER = Path(__file__).parent / "text" / "hand"


class Pair(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    o: str
    c: str
    m: str
    flip: str
    yes: str
    no: str


class Harmless(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    o: str
    k: str
    t: str


class Injection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    o: str
    k: str
    m: str
    y: int
    t: str


def _lines(path: Path) -> Iterator[bytes]:
    return (line for line in path.read_bytes().splitlines() if line.strip())


def rows(folder: Path = FOLDER) -> Iterator[Row]:
    """Every row of FOLDER. The group is the occasion; the source is `hand/`, the file, and the kind.

    Raises ValueError, which names file and line, for a row of another form.
    """
    for path in sorted(folder.glob("*.jsonl")):
        for number, line in enumerate(_lines(path), 1):
            try:
                yield from _rows(path.stem, line)
            except (msgspec.DecodeError, KeyError) as error:
                raise ValueError(f"{path}:{number}: {error}") from error


def _rows(name: str, line: bytes) -> Iterator[Row]:
    kind = name.split("_")[0]
    source = f"hand/{name}"
    if kind == "pairs":
        pair = msgspec.json.decode(line, type=Pair)
        yield Row(pair.yes, frozenset({LETTERS[pair.c]}), source=f"{source}/{pair.c}", group=pair.o)
        yield Row(pair.no, source=f"{source}/{pair.c}", group=pair.o)
    elif kind == "harmless":
        harmless = msgspec.json.decode(line, type=Harmless)
        yield Row(harmless.t, source=f"{source}/{harmless.k}", group=harmless.o)
    else:
        attack = msgspec.json.decode(line, type=Injection)
        labels = frozenset({INJECTION}) if attack.y else frozenset[str]()
        yield Row(attack.t, labels, source=f"{source}/{attack.k}", group=attack.o)
