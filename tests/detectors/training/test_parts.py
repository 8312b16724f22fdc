"""The branches as they are trained and as they are served, and what is kept between the steps."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch, which trains the model, is not installed")
onnx = pytest.importorskip("onnx", reason="onnx, which writes the model, is not installed")
pytest.importorskip("sklearn", reason="scikit-learn, which trains the model, is not installed")
onnxruntime = pytest.importorskip("onnxruntime")

from detectors.classifier.files import load_session  # noqa: E402 after what it needs
from detectors.training import export, graph, tune, unseen  # noqa: E402
from detectors.training.network import Layer  # noqa: E402
from detectors.training.parts import Names, Statements, standardised  # noqa: E402
from detectors.training.states import States  # noqa: E402
from detectors.training.weights import WIDTH, Pretrained, Vocabulary, unpacked  # noqa: E402

MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])


@pytest.fixture(scope="module")
def pretrained() -> Pretrained:
    """Random layers under the names of the real ones."""
    draw = np.random.default_rng(1)
    shapes = {"q": (384, 384), "k": (384, 384), "v": (384, 384), "ao": (384, 384), "fi": (1536, 384), "fo": (384, 1536)}
    tensors = {}
    for number in (6, 7):
        for name, shape in shapes.items():
            tensors[f"l{number}.{name}.w"] = draw.normal(0, 0.05, shape).astype(np.float32)
            tensors[f"l{number}.{name}.b"] = draw.normal(0, 0.05, shape[0]).astype(np.float32)
        for name in ("aln", "oln"):
            tensors[f"l{number}.{name}.w"] = np.ones(WIDTH, np.float32)
            tensors[f"l{number}.{name}.b"] = np.zeros(WIDTH, np.float32)
    return Pretrained(tensors, np.zeros((0, 12, 18), np.uint8), {}, Vocabulary([], []))


def served(model: object, path: Path, hidden: object) -> list[np.ndarray]:
    """What the graph gives in floats, without eight bits."""
    onnx.save(model, path)
    inputs = {"hidden": np.asarray(hidden, np.float32), "mask": MASK.numpy()}
    found: list[np.ndarray] = load_session(path, 1).run(None, inputs)
    return found


def test_names_are_served_as_they_are_trained(pretrained: Pretrained, tmp_path: Path) -> None:
    torch.manual_seed(1)
    module, hidden = Names(pretrained).eval(), torch.randn(2, 5, WIDTH)
    with torch.inference_mode():
        wanted = module(hidden, MASK).numpy()
    (found,) = served(export.names(module), tmp_path / "names.onnx", hidden)
    there = MASK.numpy() > 0
    assert np.abs(found - wanted)[there].max() < 1e-3


def test_statements_are_served_as_they_are_trained(pretrained: Pretrained, tmp_path: Path) -> None:
    torch.manual_seed(2)
    module, hidden = Statements(pretrained).eval(), torch.randn(2, 5, WIDTH)
    torch.nn.init.normal_(module.branch.head.weight, std=0.02)
    with torch.inference_mode():
        business, kinds, attack = (each.numpy() for each in module(hidden, MASK))
    logits, where = served(export.statements(module), tmp_path / "statements.onnx", hidden)
    assert np.abs(logits[:, -1] - attack).max() < 1e-3
    assert np.abs(logits[:, :-1].max(1) - business).max() < 1e-3
    assert (logits[:, :-1].argmax(1) == kinds.argmax(1)).all()
    assert np.abs(where[1, 3:, 1]).max() < 1e-6


def test_four_bits_are_the_stored_weights() -> None:
    draw = np.random.default_rng(3)
    blocks = draw.integers(0, 256, (WIDTH, 48, 18)).astype(np.uint8)
    blocks[:, :, :2] = np.full((WIDTH, 48), 0.01, np.float16).view(np.uint8).reshape(WIDTH, 48, 2)
    module = Layer().narrow
    with torch.no_grad():
        module.weight.copy_(torch.from_numpy(unpacked(blocks)))
    made = graph.Graph()
    made.given("source", ["rows", 1536], onnx.TensorProto.FLOAT)
    made.node("Identity", [graph.packed(made, "source", module, blocks, "it")], "found")
    made.told("found", ["rows", WIDTH])
    session = onnxruntime.InferenceSession(made.model().SerializeToString(), providers=["CPUExecutionProvider"])
    source = draw.normal(size=(3, 1536)).astype(np.float32)
    with torch.inference_mode():
        wanted = module(torch.from_numpy(source)).numpy()
    assert np.abs(session.run(None, {"source": source})[0] - wanted).max() < 1e-3


def test_a_regression_speaks_of_the_features_as_they_are() -> None:
    draw = np.random.default_rng(4)
    features = (draw.normal(size=(400, WIDTH)) * 7 + 100).astype(np.float32)
    wanted = features[:, 5] > 100
    slopes, shift = standardised(features, wanted, np.ones(400), 1.0)
    assert ((features @ slopes + shift > 0) == wanted).mean() > 0.95


def test_states_are_computed_once_and_outlast_the_process(tmp_path: Path) -> None:
    made = graph.Graph()
    made.given("ids", ["batch", "tokens"])
    made.given("mask", ["batch", "tokens"])
    made.node("Cast", ["ids"], "numbers", to=onnx.TensorProto.FLOAT)
    made.node("Unsqueeze", ["numbers", made.numbers(-1)], "layer.3")
    made.told("layer.3", ["batch", "tokens", 1])
    onnx.save(made.model(), tmp_path / "trunk.onnx")
    states = States(tmp_path / "states", tmp_path / "trunk.onnx", (3,), 1)
    assert states.fill([(0, 7, 2), (0, 5, 6, 2), (0, 7, 2)]) == 2
    again = States(tmp_path / "states", tmp_path / "trunk.onnx", (3,), 1)
    assert again.fill([(0, 5, 6, 2), (0, 9, 2)]) == 1
    for ids in ((0, 7, 2), (0, 5, 6, 2), (0, 9, 2)):
        start, size = again.place(ids)
        assert again.table(3)[start : start + size, 0].tolist() == list(ids)


def test_every_example_is_drawn_once_a_round() -> None:
    table = np.arange(60, dtype=np.float16)[:, None]
    examples = [tune.Example(at, 1 + at % 5, np.asarray([at], np.float32)) for at in range(50)]
    drawn = [
        int(value)
        for batch in tune.batches(table, examples, np.random.default_rng(1))
        for value in batch.wanted[:, 0].tolist()
    ]
    assert sorted(drawn) == list(range(50))


def test_recall_is_counted_above_the_loudest_harmless_share() -> None:
    harmless = np.arange(100, dtype=np.float64)
    assert unseen.recall_at(np.asarray([98.5, 97.0, 200.0, 0.0]), harmless, 0.01) == 0.5
