"""The folder between the steps: what each has made, so that the next finds it and a second run goes on from there."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path

import msgspec
import onnx
from tokenizers import Tokenizer

from detectors.training import export, graph, labelled, shared, vocabulary, weights, windows
from detectors.training.labelled import Labelled
from detectors.training.parts import FIRST, FROZEN, TUNED
from detectors.training.states import States
from detectors.training.weights import WIDTH, Pretrained
from detectors.training.windows import Window

BATCH = 1000
COMMON = 20
"""Frequency in jieba's dictionary from which a word has a say in which pieces are kept."""

LAYERS = (FIRST, FROZEN, FROZEN + TUNED)
"""Layers whose states are kept: for the first look, for the branches, and for what the branches begin from."""


class Work(msgspec.Struct, frozen=True, dict=True):
    """`data` is the folder of the shared sets, `folder` one outside the repository."""

    data: Path
    folder: Path
    seed: int

    @cached_property
    def pretrained(self) -> Pretrained:
        return weights.read(weights.find())

    @cached_property
    def kept(self) -> list[int]:
        found: list[int] = json.loads((self.folder / "kept.json").read_text("utf-8"))
        return found

    @cached_property
    def tokenizer(self) -> Tokenizer:
        return Tokenizer.from_file(str(self.folder / "tokenizer.json"))

    @cached_property
    def sequence(self) -> list[Labelled]:
        return labelled.sequence(self.data, self.seed)

    @cached_property
    def names(self) -> list[Labelled]:
        return labelled.names(self.data, self.seed)

    @cached_property
    def states(self) -> States:
        return States(self.folder / "states", self.folder / "trunk.onnx", LAYERS, WIDTH)

    def cut(self, rows: list[Labelled], most: int) -> list[tuple[Labelled, list[Window]]]:
        """ROWS with their windows, of which the states are there when this returns."""
        found = [(each, windows.cut(self.tokenizer, each, most if each.row.labels else 1)) for each in rows]
        self.states.fill([window.ids for _, several in found for window in several])
        return found


def prune(work: Work) -> None:
    """Write kept.json and tokenizer.json: the pieces that the rows, the documents and jieba's common words need."""
    from jieba import dt

    texts = [each.row.text for each in [*work.sequence, *work.names]]
    for name in ("unlabelled_zh_docs", "unlabelled_en_handbooks"):
        texts += [row.text for row in shared.UNLABELLED[name](work.data)]
    dt.initialize()
    texts += [word for word, count in dt.FREQ.items() if count >= COMMON]
    every = work.pretrained.vocabulary
    kept = vocabulary.kept(every, (texts[at : at + BATCH] for at in range(0, len(texts), BATCH)))
    (work.folder / "kept.json").write_text(json.dumps(kept), "utf-8")
    vocabulary.pruned(every, kept).save(str(work.folder / "tokenizer.json"))


def freeze(work: Work) -> None:
    """Write trunk.onnx, the frozen layers with the states of LAYERS as outputs, as they will be served."""
    encoder = export.trunk(work.pretrained, work.kept, max(LAYERS))
    made, hidden = export.started(work.pretrained, work.kept, encoder)
    last = 0
    for number in LAYERS:
        hidden = export.through(made, hidden, encoder, last, number, work.pretrained)
        made.node("Identity", [hidden], f"layer.{number}")
        made.told(f"layer.{number}", ["batch", "tokens", WIDTH])
        last = number
    model: onnx.ModelProto = made.model()
    graph.quantised(model, work.folder / "trunk.onnx")
