"""Export to ONNX with eight-bit weights, and the files beside it.

The graph is written node by node with those of ONNX Runtime's fused operators that are faster than their parts, which a
traced export does not find.
"""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from tokenizers import Tokenizer

from detectors.training import finetune
from detectors.training.network import NAMES, SEQUENCE, TAGS, WINDOW, Classifier, Size

log = logging.getLogger(__name__)

OPSET = 17
FULL, SMALL = "model.onnx", "model.int8.onnx"
FUSED = "com.microsoft"
QUANTISED = ["MatMul", "Gather", "Attention"]

Weights = dict[str, npt.NDArray[np.float32]]


def run(work: Path, directory: Path, weights: str) -> None:
    """Write DIRECTORY's config.json, tokenizer.json and model.int8.onnx from the checkpoint WEIGHTS in WORK."""
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer.from_file(str(work / "tokenizer.json"))
    model = finetune.load(work / f"{weights}.pt", tokenizer).cpu().eval()
    onnx.save(graph(model), work / FULL)
    quantise(work / FULL, directory / SMALL)
    shutil.copyfile(work / "tokenizer.json", directory / "tokenizer.json")
    config = model.encoder.config.to_dict() | {
        "architectures": ["SluiceForSequenceAndTokenClassification"],
        "id2label": {str(at): label for at, label in enumerate(TAGS)},
        "label2id": {label: at for at, label in enumerate(TAGS)},
        "sluice": {"categories": SEQUENCE, "names": NAMES, "tags": TAGS, "window": WINDOW},
    }
    (directory / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", "utf-8")
    size = sum(path.stat().st_size for path in directory.iterdir())
    log.info("%s: %.1f MB", directory, size / 1e6)


def quantise(source: Path, target: Path) -> None:
    """Eight-bit weights of products, attention and embeddings; activations are quantised while it runs."""
    quantize_dynamic(
        source,
        target,
        weight_type=QuantType.QInt8,
        op_types_to_quantize=QUANTISED,
        extra_options={"MatMulConstBOnly": True, "DefaultTensorType": TensorProto.FLOAT},
    )


class _Graph:
    """Nodes and constants as they are added."""

    def __init__(self, weights: Weights) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, npt.NDArray[np.generic]] = {}
        self.weights = weights

    def constant(self, name: str, value: npt.NDArray[np.generic] | None = None) -> str:
        """The name of a weight of the model, or of VALUE."""
        self.constants[name] = self.weights[name] if value is None else value
        return name

    def node(self, kind: str, inputs: list[str], output: str, domain: str = "", **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], output, domain=domain, **attributes))
        return output

    def linear(self, source: str, name: str, output: str) -> str:
        """SOURCE through the layer NAME."""
        turned = np.ascontiguousarray(self.weights[f"{name}.weight"].T)
        product = self.node("MatMul", [source, self.constant(f"{name}.weight", turned)], f"{output}.product")
        return self.node("Add", [product, self.constant(f"{name}.bias")], output)

    def normal(self, source: str, name: str, output: str) -> str:
        names = [self.constant(f"{name}.{part}") for part in ("weight", "bias")]
        return self.node("LayerNormalization", [source, *names], output, epsilon=1e-12)

    def added(self, source: str, other: str, name: str, output: str) -> str:
        """Layer norm of SOURCE + OTHER. Not by Add: ONNX Runtime would fuse the two into an operator that is slower."""
        return self.normal(self.node("Sum", [source, other], f"{output}.sum"), name, output)


def graph(model: Classifier) -> onnx.ModelProto:
    """The served model in 32-bit floats.

    Inputs `ids`, `types`, `mask` (batch x tokens, int64). Outputs `logits` (batch x categories), `tags` (batch x tokens
    x tags) and `attention` (batch x tokens x categories), which says where each category looked.
    """
    weights = {name: np.asarray(value.detach().float().cpu().numpy()) for name, value in model.state_dict().items()}
    made = _Graph(weights)
    hidden = _embedded(made)
    made.node("Cast", ["mask"], "mask.small", to=TensorProto.INT32)
    for layer in range(model.size.layers):
        hidden = _layer(made, hidden, layer, model.size)
    _heads(made, hidden)
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "tokens"]) for name in ("ids", "types", "mask")
    ]
    outputs = [
        helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", len(SEQUENCE)]),
        helper.make_tensor_value_info("tags", TensorProto.FLOAT, ["batch", "tokens", len(TAGS)]),
        helper.make_tensor_value_info("attention", TensorProto.FLOAT, ["batch", "tokens", len(SEQUENCE)]),
    ]
    constants = [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in made.constants.items()]
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(FUSED, 1)]
    body = helper.make_graph(made.nodes, "classifier", inputs, outputs, constants)
    return helper.make_model(body, opset_imports=opsets, ir_version=8)


def _embedded(made: _Graph) -> str:
    where = "encoder.embeddings"
    words = made.node("Gather", [made.constant(f"{where}.word_embeddings.weight"), "ids"], "words")
    kinds = made.node("Gather", [made.constant(f"{where}.token_type_embeddings.weight"), "types"], "kinds")
    made.node("Shape", ["ids"], "width", start=1, end=2)
    zero, one = (made.constant(f"number.{n}", np.asarray([n], np.int64)) for n in (0, 1))
    table = made.constant(f"{where}.position_embeddings.weight")
    places = made.node("Slice", [table, zero, "width", zero, one], "places")
    both = made.node("Add", [words, kinds], "words.kinds")
    return made.normal(made.node("Add", [both, places], "embedded"), f"{where}.LayerNorm", "hidden")


def _layer(made: _Graph, hidden: str, layer: int, size: Size) -> str:
    where, weights = f"encoder.encoder.layer.{layer}", made.weights
    parts = [f"{where}.attention.self.{part}" for part in ("query", "key", "value")]
    joint = np.concatenate([weights[f"{part}.weight"].T for part in parts], axis=1)
    shift = np.concatenate([weights[f"{part}.bias"] for part in parts])
    inputs = [
        hidden,
        made.constant(f"{where}.qkv.weight", joint),
        made.constant(f"{where}.qkv.bias", shift),
        "mask.small",
    ]
    seen = made.node("Attention", inputs, f"{where}.seen", FUSED, num_heads=size.heads)
    out = made.linear(seen, f"{where}.attention.output.dense", f"{where}.out")
    middle = made.added(out, hidden, f"{where}.attention.output.LayerNorm", f"{where}.middle")
    wide = made.linear(middle, f"{where}.intermediate.dense", f"{where}.wide")
    bent = made.node("FastGelu", [wide], f"{where}.bent", FUSED)
    narrow = made.linear(bent, f"{where}.output.dense", f"{where}.narrow")
    return made.added(narrow, middle, f"{where}.output.LayerNorm", f"{where}.end")


def _heads(made: _Graph, hidden: str) -> None:
    """The heads stay in floats: they are small, and the thresholds stand on them."""
    made.linear(hidden, "tag", "tags")
    looks = made.linear(hidden, "look", "looks")
    made.node("Cast", ["mask"], "mask.float", to=TensorProto.FLOAT)
    one = made.constant("one", np.asarray(1, np.float32))
    made.node("Sub", ["mask.float", one], "outside")
    made.node("Mul", ["outside", made.constant("wall", np.asarray(1e4, np.float32))], "walls")
    axis = made.constant("number.-1", np.asarray([-1], np.int64))
    made.node("Unsqueeze", ["walls", axis], "walls.wide")
    made.node("Add", [looks, "walls.wide"], "looks.inside")
    made.node("Softmax", ["looks.inside"], "attention", axis=1)
    votes = made.linear(hidden, "judge", "votes")
    made.node("Mul", ["attention", votes], "votes.weighted")
    made.node("ReduceSum", ["votes.weighted", "number.1"], "logits", keepdims=0)
