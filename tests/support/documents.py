"""The documentation pages as data: code blocks, tables, links, headings.

A `console` block is run: each line that begins with `$ ` is a command, the lines below it must appear in its output,
and `...` stands for anything. `<!-- not run: REASON -->` before a block excepts it. A `yaml` block is a complete
configuration, alone or together with the page's block below `<!-- base -->`, whose documents it replaces by kind and
name. The blocks of the generated reference are one configuration.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = {path.relative_to(ROOT).as_posix(): path for path in (ROOT / "README.md", ROOT / "CHANGELOG.md")} | {
    path.relative_to(ROOT).as_posix(): path for path in sorted((ROOT / "docs").glob("*.md"))
}

_BLOCK = re.compile(
    r"(?:<!-- (?P<note>[^\n]*) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """One fenced block and the comment right above it."""

    page: str
    line: int
    language: str
    text: str
    note: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


@dataclass(frozen=True)
class Command:
    """One command and what its output has to hold, in order."""

    block: Block
    text: str
    expected: tuple[str, ...]


def blocks(language: str | None = None) -> list[Block]:
    """Every block of every page, or those of one language."""
    found = []
    for page, path in PAGES.items():
        text = path.read_text(encoding="utf-8")
        for match in _BLOCK.finditer(text):
            line = text.count("\n", 0, match.start("language")) + 1
            found.append(Block(page, line, match["language"], match["text"], match["note"] or ""))
    return [block for block in found if language is None or block.language == language]


def commands() -> list[Command]:
    """What the runnable blocks say, in order."""
    return [command for block in blocks("console") if not block.note.startswith("not run") for command in _in(block)]


def _in(block: Block) -> Iterator[Command]:
    prompt, *rest = re.split(r"^\$ ", block.text, flags=re.MULTILINE)
    assert not prompt, f"{block}: a console block begins with `$ `"
    for part in rest:
        command, *output = part.replace("\\\n", "").splitlines()
        yield Command(block, command, tuple(piece for line in output for piece in line.split("...") if piece.strip()))


def bases(page: str) -> list[Block]:
    """What the page's manifests are loaded together with."""
    whole = page == "docs/reference.md"
    return [block for block in blocks("yaml") if block.page == page and (whole or block.note == "base")]


def rows(page: str, heading: str) -> list[list[str]]:
    """Cells of the tables below a heading, up to the next heading; back-ticks removed, header rows left out."""
    text = PAGES[page].read_text(encoding="utf-8")
    section = re.split(rf"^#+ {re.escape(heading)}$", text, flags=re.MULTILINE)[1]
    section = re.split(r"^#", section, flags=re.MULTILINE)[0]
    found: list[list[str]] = []
    for line in section.splitlines():
        if line.startswith("|---"):
            found.pop()
        elif line.startswith("|"):
            found.append([cell.strip().replace("`", "") for cell in line.strip("|").split("|")])
    return found


def links(page: str) -> list[str]:
    return _LINK.findall(_prose(page))


def anchors(path: Path) -> set[str]:
    """What GitHub makes of the headings."""
    text = _BLOCK.sub("", path.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in _HEADING.findall(text)}


def _prose(page: str) -> str:
    return _BLOCK.sub("", PAGES[page].read_text(encoding="utf-8"))
