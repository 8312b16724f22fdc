"""Windows as the network reads them, and the served graph, which has to say what the network says."""

from pathlib import Path

import numpy as np
import pytest

from detectors.training.text.row import Row

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("transformers", reason="transformers is not installed")
onnx = pytest.importorskip("onnx", reason="onnx is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
pytest.importorskip("sklearn", reason="scikit-learn is not installed")
tokenizers = pytest.importorskip("tokenizers", reason="tokenizers is not installed")

from tokenizers import Tokenizer  # noqa: E402

from detectors.training import calibrate, export, pretrain  # noqa: E402
from detectors.training.examples import IGNORED, INNER, Batches, example  # noqa: E402
from detectors.training.labelled import BUSINESS, EVERYTHING, INJECTION, Labelled  # noqa: E402
from detectors.training.network import SEQUENCE, TAGS, Classifier, Size  # noqa: E402

SIZE = Size(layers=2, width=32, heads=2, vocabulary=60)


def characters() -> Tokenizer:
    """A tokenizer with one token per letter."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = "abcdefghijklmnopqrstuvwxyz张三李四在说"
    model = tokenizers.models.WordLevel({word: at for at, word in enumerate([*special, *letters])}, unk_token="[UNK]")
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = tokenizers.normalizers.Lowercase()
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(
        [
            tokenizers.pre_tokenizers.WhitespaceSplit(),
            tokenizers.pre_tokenizers.Split(tokenizers.Regex("."), "isolated"),
        ]
    )
    return tokenizer


def made(text: str, labels: frozenset[str] = frozenset(), spans: tuple[tuple[int, int, str], ...] = ()) -> Labelled:
    return Labelled(Row(text, labels, spans, "x", text), EVERYTHING, bool(spans))


def test_spans_become_tags_behind_invisible_characters() -> None:
    found = example(characters(), made("在张\u200b三说", spans=((1, 4, "PERSON"),)))
    assert [TAGS[tag] for tag in found.tags] == ["O", "B-PERSON", "I-PERSON", "O"]


def test_rows_that_are_not_tagged_teach_no_tags() -> None:
    assert set(example(characters(), made("abc")).tags.tolist()) == {IGNORED}


def test_a_round_reads_every_row_in_windows_that_fit() -> None:
    rows = [made("ab " * count, INJECTION if count % 3 == 0 else frozenset()) for count in range(7, 200)]
    examples = [example(characters(), row) for row in rows]
    batches = list(Batches(examples, (2, 3), 2048, 1))
    assert sum(len(batch.wanted) for batch in batches) == len(rows)
    assert sum(int(batch.wanted.sum()) for batch in batches) == sum(bool(row.row.labels) for row in rows)
    for batch in batches:
        assert batch.ids.shape[1] <= INNER + 2
        assert set(batch.rows.tolist()) == set(range(len(batch.wanted)))
        ends = batch.mask.sum(1) - 1
        assert (batch.ids[:, 0] == 2).all()
        assert (batch.ids.gather(1, ends.unsqueeze(1)) == 3).all()


def test_masking_hides_words_only() -> None:
    ids = torch.randint(5, 60, (8, 64))
    ids[:, ::7] = 3
    noisy, where = pretrain.masked(ids, torch.Generator().manual_seed(1), 60, 4)
    assert not where[ids == 3].any()
    assert (noisy[~where] == ids[~where]).all()
    assert 0.1 < where.float().mean() < 0.35


def test_the_served_graph_says_what_the_network_says(tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = Classifier(SIZE).eval()
    onnx.save(export.graph(model), tmp_path / "full.onnx")
    export.quantise(tmp_path / "full.onnx", tmp_path / "small.onnx")
    ids, types = torch.randint(5, 60, (3, 20)), torch.randint(0, 6, (3, 20))
    mask = torch.ones_like(ids)
    mask[1, 9:] = 0
    with torch.inference_mode():
        logits, tags = model(ids, types, mask)
    inputs = {"ids": ids.numpy(), "types": types.numpy(), "mask": mask.numpy()}
    inside = mask.bool().numpy()
    for name, far in (("full", 1e-4), ("small", 0.1)):
        session = onnxruntime.InferenceSession(str(tmp_path / f"{name}.onnx"))
        found = session.run(None, inputs)
        assert np.abs(found[0] - logits.numpy()).max() < far
        assert np.abs(found[1] - tags.numpy())[inside].max() < far
        assert np.abs(found[2].sum(1) - 1).max() < 1e-4
        assert found[2][1, 9:].max() == 0


def test_platt_scaling_finds_the_line() -> None:
    draw = np.random.default_rng(1)
    logits = draw.normal(0, 3, 4000)
    wanted = (draw.random(4000) < 1 / (1 + np.exp(-(0.7 * logits - 1)))).astype(float)
    scale, shift = calibrate.fit(logits, wanted)
    assert scale == pytest.approx(0.7, abs=0.08)
    assert shift == pytest.approx(-1, abs=0.15)


def test_one_class_alone_is_left_as_it_is() -> None:
    assert calibrate.fit(np.asarray([1.0, 2.0]), np.asarray([1.0, 1.0])) == (1.0, 0.0)


def test_a_threshold_lets_its_share_of_harmless_rows_through() -> None:
    scores = np.linspace(0, 0.9, 1000)
    limit = calibrate.threshold(scores, 0.01)
    assert (scores >= limit).mean() == pytest.approx(0.01, abs=0.0011)
    assert calibrate.threshold(np.zeros(0), 0.01) == calibrate.LEAST


def test_the_categories_are_the_documented_ones() -> None:
    from detectors.findings import CATEGORIES
    from detectors.training.network import NAMES

    assert set(CATEGORIES) >= {*SEQUENCE, *NAMES}
    assert set(SEQUENCE) == BUSINESS | INJECTION
