"""Loading a model directory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from detectors.classifier.calibration import Calibration
from detectors.classifier.errors import ModelError
from detectors.classifier.model import EncoderClassifier
from detectors.classifier.names import Tags
from detectors.classifier.prediction import Classifier

WEIGHTS = "model.int8.onnx"


def load(directory: Path, *, threads: int = 1, labels: Mapping[str, str] | None = None) -> Classifier:
    """The classifier in DIRECTORY: this package's own, or any Hugging Face sequence or token classification model.

    `labels` names the category of a foreign model's label, an empty string for a label that is no finding. Raises
    ModelError, which names the file that is missing or broken.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise ModelError(f"{directory}: no such model directory")
    config = _json(directory / "config.json")
    if "sluice" in config:
        return _own(directory, config["sluice"], threads)
    from detectors.classifier.foreign import load_foreign

    return load_foreign(directory, config, threads, labels or {})


def _own(directory: Path, heads: Any, threads: int) -> EncoderClassifier:
    try:
        categories, tags = tuple(heads["categories"]), Tags.parse(heads["tags"])
        window = int(heads["window"])
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{directory / 'config.json'}: $.sluice: {error}") from error
    path = directory / "calibration.json"
    try:
        calibration = msgspec.json.decode(read(path), type=Calibration)
    except msgspec.DecodeError as error:
        raise ModelError(f"{path}: {error}") from error
    if problem := calibration.problem(categories, tags.categories):
        raise ModelError(f"{path}: {problem}")
    tokenizer = load_tokenizer(directory / "tokenizer.json")
    if tokenizer.token_to_id("[CLS]") is None or tokenizer.token_to_id("[SEP]") is None:
        raise ModelError(f"{directory / 'tokenizer.json'}: [CLS] or [SEP] is not in the vocabulary")
    session = load_session(directory / WEIGHTS, threads)
    if {each.name for each in session.get_inputs()} != {"ids", "types", "mask"}:
        raise ModelError(f"{directory / WEIGHTS}: its inputs are not ids, types and mask")
    return EncoderClassifier(directory.name, session, tokenizer, calibration, categories, tags, window=window)


def read(path: Path) -> bytes:
    """The contents of a file of the model. Raises ModelError."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror or error}") from error


def _json(path: Path) -> dict[str, Any]:
    try:
        return msgspec.json.decode(read(path), type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise ModelError(f"{path}: {error}") from error


def load_tokenizer(path: Path) -> Any:
    """A Hugging Face tokenizer. Raises ModelError."""
    from tokenizers import Tokenizer

    content = read(path)
    try:
        return Tokenizer.from_str(content.decode())
    except Exception as error:  # tokenizers raises nothing more specific
        raise ModelError(f"{path}: {error}") from error


def load_session(path: Path, threads: int) -> Any:
    """An ONNX Runtime session on the processor. Raises ModelError."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if not path.is_file():
        raise ModelError(f"{path}: No such file or directory")
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors share no base class of their own
        raise ModelError(f"{path}: {error}") from error
