"""The Lua scripts, each with the common part in front."""

from __future__ import annotations

from hashlib import sha1
from pathlib import Path

import msgspec

_FOLDER = Path(__file__).parent / "lua"


class Script(msgspec.Struct, frozen=True):
    text: str
    sha: str
    """Under which Redis knows it."""


def _read(name: str) -> Script:
    text = "\n".join((_FOLDER / f"{part}.lua").read_text(encoding="utf-8") for part in ("common", name))
    return Script(text, sha1(text.encode(), usedforsecurity=False).hexdigest())


ASK = _read("ask")
SETTLE = _read("settle")
KEEP = _read("keep")
BEAT = _read("beat")
LEAVE = _read("leave")
VIEW = _read("view")
ALL = (ASK, SETTLE, KEEP, BEAT, LEAVE, VIEW)
