"""Export: four graphs with eight-bit weights, and the files beside them."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto
from tokenizers import Tokenizer

from detectors.classifier.cascade import PARTS
from detectors.training import graph
from detectors.training.graph import Graph
from detectors.training.labels import BUSINESS, NAMES, SEQUENCE, TAGS, WINDOW
from detectors.training.network import Encoder
from detectors.training.parts import FIRST, FROZEN, SCALE, First, Names, Statements
from detectors.training.weights import HEADS, WIDTH, Pretrained, unpacked

log = logging.getLogger(__name__)

EXACT = frozenset({4, 5})
"""Layers whose last product stays in floats, from four-bit weights as they came: outliers in what they read would
cost all that follows a hundredth of its direction."""


def trunk(pretrained: Pretrained, kept: list[int], layers: int) -> Encoder:
    """The frozen layers over the pieces KEPT."""
    return Encoder(pretrained, unpacked(pretrained.words[kept]), layers, WINDOW).eval()


def started(pretrained: Pretrained, kept: list[int], encoder: Encoder) -> tuple[Graph, str]:
    """A graph that reads tokens, and the name of their embeddings."""
    made = Graph()
    made.given("ids", ["batch", "tokens"])
    made.given("mask", ["batch", "tokens"])
    _masked(made)
    return made, graph.embedded(made, encoder, pretrained.words[kept], "ids")


def later() -> tuple[Graph, str]:
    """A graph that reads what another one gives."""
    made = Graph()
    made.given("hidden", ["batch", "tokens", WIDTH], TensorProto.FLOAT)
    made.given("mask", ["batch", "tokens"])
    _masked(made)
    return made, "hidden"


def _masked(made: Graph) -> None:
    made.node("Cast", ["mask"], "mask.small", to=TensorProto.INT32)


def through(made: Graph, hidden: str, encoder: Encoder, first: int, last: int, pretrained: Pretrained) -> str:
    """HIDDEN through the frozen layers FIRST to LAST, counted from 0, without LAST."""
    for number in range(first, last):
        exact = pretrained.blocks[f"l{number}.fo.w"] if number in EXACT else None
        hidden = graph.layered(made, hidden, encoder.layers[number], "mask.small", f"l{number}", exact)
    return hidden


def stages(pretrained: Pretrained, kept: list[int], first: First) -> dict[str, onnx.ModelProto]:
    """The two graphs of the frozen layers."""
    encoder = trunk(pretrained, kept, FROZEN)
    made, hidden = started(pretrained, kept, encoder)
    hidden = through(made, hidden, encoder, 0, FIRST, pretrained)
    made.node("Identity", [hidden], "hidden")
    made.told("hidden", ["batch", "tokens", WIDTH])
    _first(made, first)
    middle, states = later()
    middle.node("Identity", [through(middle, states, encoder, FIRST, FROZEN, pretrained)], "deep")
    middle.told("deep", ["batch", "tokens", WIDTH])
    return {"first": made.model(), "middle": middle.model()}


def _first(made: Graph, first: First) -> None:
    """The logits of PARTS from the states `hidden`."""
    weight = made.constant("first.weight", first.mean[0].astype(np.float32))
    shift = made.constant("first.bias", first.mean[1].astype(np.float32))
    votes = made.node("MatMul", ["hidden", weight], "first.votes")
    means = made.node("Add", [_mean(made, votes), shift], "first.means")
    token = made.constant("first.token", first.token[0].astype(np.float32)[:, None])
    each = made.node("Add", [made.node("MatMul", ["hidden", token], "first.each"), _walls(made)], "first.inside")
    most = made.node("ReduceMax", [each, made.numbers(1)], "first.most", keepdims=0)
    base = made.constant("first.base", np.asarray([first.token[1]], np.float32))
    made.node("Concat", [means, made.node("Add", [most, base], "first.name")], "scores", axis=1)
    made.told("scores", ["batch", len(PARTS)])


def _mean(made: Graph, votes: str) -> str:
    """Means of VOTES over the tokens that are there: batch x outputs."""
    made.node("Cast", ["mask"], "mask.float", to=TensorProto.FLOAT)
    wide = made.node("Unsqueeze", ["mask.float", made.numbers(-1)], "mask.wide")
    inside = made.node("Mul", [votes, wide], f"{votes}.there")
    total = made.node("ReduceSum", [inside, made.numbers(1)], f"{votes}.total", keepdims=0)
    count = made.node("ReduceSum", [wide, made.numbers(1)], f"{votes}.count", keepdims=0)
    return made.node("Div", [total, count], f"{votes}.mean")


def _walls(made: Graph) -> str:
    """0 for tokens that are there, -10,000 for others: batch x tokens x 1. After `_mean`."""
    less = made.node("Sub", ["mask.wide", made.constant("one", np.asarray(1, np.float32))], "mask.less")
    return made.node("Mul", [less, made.constant("wall", np.asarray(1e4, np.float32))], "mask.walls")


def statements(module: Statements) -> onnx.ModelProto:
    """Outputs `logits` (batch x SEQUENCE) and `where` (batch x tokens x 2)."""
    made, hidden = later()
    for number, each in enumerate(module.branch.layers):
        hidden = graph.layered(made, hidden, each, "mask.small", f"b{number}")
    raw = made.linear(hidden, module.branch.head, "head")
    made.node("Mul", [raw, made.constant("scale", np.asarray(SCALE, np.float32))], "votes")
    sizes = (1, 1, 1, len(BUSINESS))
    made.constant("sizes", np.asarray(sizes, np.int64))
    parts = ["votes.business", "votes.look", "votes.attack", "votes.kinds"]
    made.nodes.append(onnx.helper.make_node("Split", ["votes", "sizes"], parts, "votes.split", axis=2))
    business = _mean(made, "votes.business")
    total = made.node("Mul", ["votes.kinds", "mask.wide"], "kinds.there")
    total = made.node("ReduceSum", [total, made.numbers(1)], "kinds.total", keepdims=0)
    kinds = made.node("Div", [total, "votes.business.count"], "kinds")
    best = made.node("ReduceMax", [kinds, made.numbers(1)], "kinds.best", keepdims=1)
    less = made.node("Sub", [kinds, best], "kinds.less")
    every = made.node("Add", [less, business], "logits.business")
    inside = made.node("Add", ["votes.look", _walls(made)], "look.inside")
    look = made.node("Softmax", [inside], "look", axis=1)
    attack = made.node("Mul", [look, "votes.attack"], "attack.each")
    attack = made.node("ReduceSum", [attack, made.numbers(1)], "logits.attack", keepdims=0)
    made.node("Concat", [every, attack], "logits", axis=1)
    made.node("Concat", ["votes.business", "look"], "where", axis=2)
    made.told("logits", ["batch", len(SEQUENCE)])
    made.told("where", ["batch", "tokens", 2])
    return made.model()


def names(module: Names) -> onnx.ModelProto:
    """Output `tags` (batch x tokens x TAGS)."""
    made, hidden = later()
    for number, each in enumerate(module.branch.layers):
        hidden = graph.layered(made, hidden, each, "mask.small", f"b{number}")
    made.node("Identity", [made.linear(hidden, module.branch.head, "head")], "tags")
    made.told("tags", ["batch", "tokens", len(TAGS)])
    return made.model()


def write(directory: Path, graphs: dict[str, onnx.ModelProto], tokenizer: Tokenizer) -> None:
    """Write DIRECTORY's graphs, config.json and tokenizer.json."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, model in graphs.items():
        graph.quantised(model, directory / f"{name}.onnx", exact=("head", "first."))
    vocabulary = json.loads(tokenizer.to_str())
    vocabulary["model"]["vocab"] = [[piece, round(score, 4)] for piece, score in vocabulary["model"]["vocab"]]
    compact = json.dumps(vocabulary, ensure_ascii=False, separators=(",", ":"))
    (directory / "tokenizer.json").write_text(compact + "\n", "utf-8")
    config = {
        "architectures": ["SluiceCascade"],
        "model_type": "bert",
        "hidden_size": WIDTH,
        "num_attention_heads": HEADS,
        "num_hidden_layers": FROZEN,
        "vocab_size": tokenizer.get_vocab_size(),
        "max_position_embeddings": WINDOW,
        "sluice": {"categories": SEQUENCE, "names": NAMES, "tags": TAGS, "window": WINDOW},
    }
    (directory / "config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")
    size = sum(path.stat().st_size for path in directory.iterdir())
    log.info("%s: %.1f MB", directory, size / 1e6)
