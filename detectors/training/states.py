"""What the frozen layers say of a text, computed once by the graph that is served and kept on disk.

The trunk does not change while heads and branches are trained, so a text's hidden states are worth keeping. They come
from the eight-bit graph: what is trained on them fits what will be served.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from detectors.classifier.files import load_session

Half = npt.NDArray[np.float16]
Ids = tuple[int, ...]

SAVED = 2000
"""Windows after which what is there is written down, so that an interrupted run goes on from there."""


class States:
    """Hidden states of windows of tokens by their ids, of the layers LAYERS, in the folder FOLDER.

    `layer_N.f16` holds all tokens one after the other, `index.jsonl` a line `[ids…]` for each window in that order.
    """

    def __init__(self, folder: Path, trunk: Path, layers: Sequence[int], width: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.layers = tuple(layers)
        self._folder, self._trunk, self._width = folder, trunk, width
        self._places: dict[Ids, tuple[int, int]] = {}
        self._size = 0
        index = folder / "index.jsonl"
        if index.is_file():
            for line in index.read_text("utf-8").splitlines():
                self._add(tuple(json.loads(line)))
        self._session: Any = None

    def __repr__(self) -> str:
        return f"States({len(self._places)} windows, {self._size} tokens)"

    def _add(self, ids: Ids) -> None:
        self._places[ids] = self._size, len(ids)
        self._size += len(ids)

    def fill(self, windows: Sequence[Ids]) -> int:
        """Compute what is missing of WINDOWS; how many that were."""
        missing = sorted({each for each in windows if each not in self._places}, key=len)
        for start in range(0, len(missing), SAVED):
            self._save(missing[start : start + SAVED])
        return len(missing)

    def _save(self, windows: Sequence[Ids]) -> None:
        if self._session is None:
            self._session = load_session(self._trunk, 1)
        files = {
            layer: (self._folder / f"layer_{layer}.f16").open("r+b" if self._size else "wb") for layer in self.layers
        }
        for file in files.values():
            file.seek(self._size * self._width * 2)
            file.truncate()
        names = [f"layer.{layer}" for layer in self.layers]
        for ids in windows:
            rows = np.asarray([ids], np.int64)
            found = self._session.run(names, {"ids": rows, "mask": np.ones_like(rows)})
            for file, hidden in zip(files.values(), found, strict=True):
                file.write(hidden[0].astype(np.float16).tobytes())
        for file in files.values():
            file.close()
        with (self._folder / "index.jsonl").open("a", encoding="utf-8") as index:
            index.writelines(json.dumps(ids) + "\n" for ids in windows)
        for ids in windows:
            self._add(ids)

    def table(self, layer: int) -> Half:
        """All tokens of a layer, mapped and not read."""
        shape = self._size, self._width
        return np.memmap(self._folder / f"layer_{layer}.f16", np.float16, "r", shape=shape)

    def place(self, ids: Ids) -> tuple[int, int]:
        """Where a window's tokens begin in a table, and how many there are. Raises KeyError where it was not filled."""
        return self._places[ids]
