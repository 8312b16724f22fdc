"""Conversations as clients send them: each turn with all that was said before it."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

FOLDER = Path(__file__).parent
TURNS = 10
"""Messages of users and assistants in one session, half of them each."""
SESSIONS = {"chats_zh": 40, "chats_en": 40, "coding": 20}
"""File to the sessions that are drawn from it."""
SEED = 7

Exchange = tuple[str, str]
"""What a user says, and what the assistant answers."""


class Session(msgspec.Struct, frozen=True):
    name: str
    exchanges: tuple[Exchange, ...]

    def requests(self) -> Iterator[dict[str, Any]]:
        """One body for each thing that the user says, and its history."""
        messages: list[dict[str, str]] = []
        for said, answered in self.exchanges:
            messages.append({"role": "user", "content": said})
            yield {"model": "m", "messages": list(messages)}
            messages.append({"role": "assistant", "content": answered})


def exchanges(file: Path) -> list[Exchange]:
    """The exchanges of a file: a line that begins with `> ` is a user's, the lines up to the next one the answer."""
    found: list[Exchange] = []
    for block in file.read_text("utf-8").strip().removeprefix("> ").split("\n> "):
        said, _, answered = block.partition("\n")
        found.append((said, answered.strip()))
    return found


def sessions(seed: int = SEED) -> Sequence[Session]:
    """Sessions of ten turns, their exchanges drawn without repetition; every exchange occurs in some session."""
    drawn = random.Random(seed)
    made: list[Session] = []
    for name, count in SESSIONS.items():
        known = exchanges(FOLDER / f"{name}.txt")
        left: list[Exchange] = []
        for number in range(count):
            chosen: list[Exchange] = []
            while len(chosen) < TURNS // 2:
                if not left:
                    left = drawn.sample(known, len(known))
                exchange = left.pop()
                if exchange not in chosen:
                    chosen.append(exchange)
            made.append(Session(f"{name}/{number}", tuple(chosen)))
    return made
