"""What is wrong with a configuration, said the way a compiler says it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import msgspec

Step = str | int
"""One step into a document: a field name or a list index."""

_PLAIN_NAME = re.compile(r"[A-Za-z0-9_-]+")


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """One finding about one place in the manifests."""

    file: Path
    line: int = 0
    """Counted from 1; 0 where the file as a whole is meant."""
    resource: str = ""
    """`KIND/NAME`, as far as the document says it."""
    path: str = ""
    """Place in the document, such as `$.spec.rules[0].backendRefs[1].weight`."""
    message: str
    hint: str = ""
    severity: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else str(self.file)
        subject = " ".join(part for part in (self.resource, self.path) if part)
        joint = " " if self.hint.startswith("(") else "; "
        text = f"{self.message}{joint}{self.hint}" if self.hint else self.message
        level = "" if self.severity == "error" else "warning: "
        return f"{place}: {level}{subject}: {text}" if subject else f"{place}: {level}{text}"


class ConfigurationError(ValueError):
    """The configuration cannot be used. `problems` holds everything found, warnings included, in file order."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


def in_order(problems: Iterable[Problem]) -> list[Problem]:
    """Sorted as a reader goes through the files, each finding once."""
    return sorted(dict.fromkeys(problems), key=lambda found: (str(found.file), found.line))


def path_text(path: Sequence[Step]) -> str:
    """`$.spec.rules[0].name`; names that hold dots or the like are quoted: `$.spec.hostAliases["a.example"]`."""
    parts = ["$"]
    for step in path:
        if isinstance(step, int):
            parts.append(f"[{step}]")
        elif _PLAIN_NAME.fullmatch(step):
            parts.append(f".{step}")
        else:
            parts.append(f'["{step}"]')
    return "".join(parts)


def nearest(word: str, allowed: Iterable[str]) -> str:
    """A hint that names the closest spelling, if there is one, and what is allowed."""
    names = sorted(allowed)
    by_folded = {name.casefold(): name for name in names}
    close = difflib.get_close_matches(word.casefold(), by_folded, n=1, cutoff=0.6)
    listing = f"(allowed: {', '.join(names)})" if names else ""
    guess = f"did you mean `{by_folded[close[0]]}`?" if close else ""
    return " ".join(part for part in (guess, listing) if part)
