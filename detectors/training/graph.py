"""ONNX graphs written node by node, with those of ONNX Runtime's fused operators that are faster than their parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from torch import nn

from detectors.training.network import EPSILON, Encoder, Layer
from detectors.training.weights import BLOCK, HEADS, WIDTH, nibbles

OPSET, VERSION = 21, 10
FUSED = "com.microsoft"
ZERO = 0x88
"""Two zero points of 8, one for each half of a byte. They have to be said: the operator's own default is 0."""

Array = npt.NDArray[Any]


def array(value: Any) -> Array:
    """A tensor of torch as numpy's."""
    return np.asarray(value.detach().float().cpu().numpy())


class Graph:
    """Nodes, constants, inputs and outputs as they are added; names are unique."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []

    def given(self, name: str, shape: list[Any], kind: int = TensorProto.INT64) -> str:
        """An input of the graph."""
        self.inputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def told(self, name: str, shape: list[Any]) -> str:
        """Makes the value NAME an output of the graph."""
        self.outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
        return name

    def constant(self, name: str, value: Array) -> str:
        self.constants.setdefault(name, numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def node(self, kind: str, inputs: list[str], output: str, domain: str = "", **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], output, domain=domain, **attributes))
        return output

    def linear(self, source: str, module: nn.Linear, name: str) -> str:
        """SOURCE through a linear layer."""
        weight = self.constant(f"{name}.weight", array(module.weight).T)
        product = self.node("MatMul", [source, weight], f"{name}.product")
        return self.node("Add", [product, self.constant(f"{name}.bias", array(module.bias))], name)

    def normal(self, source: str, module: nn.LayerNorm, name: str) -> str:
        scale = self.constant(f"{name}.weight", array(module.weight))
        shift = self.constant(f"{name}.bias", array(module.bias))
        return self.node("LayerNormalization", [source, scale, shift], name, epsilon=EPSILON)

    def numbers(self, *values: int) -> str:
        """A constant list of integers."""
        return self.constant("numbers." + ".".join(map(str, values)), np.asarray(values, np.int64))

    def model(self) -> onnx.ModelProto:
        body = helper.make_graph(self.nodes, "classifier", self.inputs, self.outputs, list(self.constants.values()))
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(FUSED, 1)]
        return helper.make_model(body, opset_imports=opsets, ir_version=VERSION)


def embedded(made: Graph, encoder: Encoder, words: npt.NDArray[np.uint8], ids: str) -> str:
    """Embeddings of the pieces IDS from the stored blocks WORDS, which stay in four bits."""
    values, scales = nibbles(words)
    flat = values.reshape(len(words), WIDTH)
    packed = (flat[:, 0::2] | (flat[:, 1::2] << 4)).astype(np.uint8)
    made.constants["words"] = helper.make_tensor("words", TensorProto.UINT4, flat.shape, packed.tobytes(), raw=True)
    zeros = np.full((len(words), scales.shape[1] // 2), ZERO, np.uint8)
    made.constants["zeros"] = helper.make_tensor("zeros", TensorProto.UINT4, scales.shape, zeros.tobytes(), raw=True)
    table = ["words", ids, made.constant("scales", scales.astype(np.float16)), "zeros"]
    found = made.node(
        "GatherBlockQuantized", table, "pieces.half", FUSED, block_size=BLOCK, gather_axis=0, quantize_axis=1
    )
    found = made.node("Cast", [found], "pieces", to=TensorProto.FLOAT)
    made.node("Shape", [ids], "width", start=1, end=2)
    places = made.constant("places.table", array(encoder.places))
    inputs = [places, made.numbers(0), "width", made.numbers(0), made.numbers(1)]
    both = made.node("Add", [found, made.node("Slice", inputs, "places")], "embedded")
    return made.normal(both, encoder.norm, "start")


def packed(made: Graph, source: str, module: nn.Linear, blocks: npt.NDArray[np.uint8], name: str) -> str:
    """SOURCE through a linear layer whose matrix stays in the four bits that it is stored in, as BLOCKS."""
    values, scales = nibbles(blocks)
    halves = (values[:, :, 0::2] | (values[:, :, 1::2] << 4)).astype(np.uint8)
    inputs = [source, made.constant(f"{name}.packed", halves), made.constant(f"{name}.scales", scales.reshape(-1))]
    sizes = {"K": scales.shape[1] * BLOCK, "N": len(scales), "bits": 4, "block_size": BLOCK}
    product = made.node("MatMulNBits", inputs, f"{name}.product", FUSED, **sizes)
    return made.node("Add", [product, made.constant(f"{name}.bias", array(module.bias))], name)


def layered(
    made: Graph, hidden: str, module: Layer, mask: str, name: str, exact: npt.NDArray[np.uint8] | None = None
) -> str:
    """HIDDEN through one layer; `mask` is batch x tokens, int32. `exact` are the stored blocks of the last matrix, if
    its product has to stay in floats."""
    joint = made.constant(f"{name}.joint.weight", array(module.joint.weight).T)
    shift = made.constant(f"{name}.joint.bias", array(module.joint.bias))
    seen = made.node("Attention", [hidden, joint, shift, mask], f"{name}.seen", FUSED, num_heads=HEADS)
    out = made.linear(seen, module.out, f"{name}.out")
    # Sum and not Add: ONNX Runtime would fuse Add and norm into an operator that is slower
    middle = made.normal(made.node("Sum", [out, hidden], f"{name}.first"), module.middle, f"{name}.middle")
    wide = made.linear(middle, module.wide, f"{name}.wide")
    bent = made.node("Gelu", [wide], f"{name}.bent", FUSED)
    if exact is None:
        narrow = made.linear(bent, module.narrow, f"{name}.narrow")
    else:
        narrow = packed(made, bent, module.narrow, exact, f"{name}.narrow")
    return made.normal(made.node("Sum", [narrow, middle], f"{name}.second"), module.end, f"{name}.end")


def quantised(model: onnx.ModelProto, target: Path, *, exact: tuple[str, ...] = ()) -> None:
    """Write MODEL to TARGET with eight-bit weights per channel; activations are quantised while it runs.

    Of the eight bits seven are used: products of two full bytes overflow on processors without VNNI.
    `exact` are the beginnings of names of nodes that stay in floats: heads are small, and thresholds stand on them.
    """
    names = [node.name for node in model.graph.node if node.name.startswith(exact)] if exact else []
    quantize_dynamic(
        model,
        target,
        weight_type=QuantType.QInt8,
        per_channel=True,
        reduce_range=True,
        op_types_to_quantize=["MatMul", "Attention"],
        nodes_to_exclude=names,
        extra_options={"MatMulConstBOnly": True, "DefaultTensorType": TensorProto.FLOAT},
    )
