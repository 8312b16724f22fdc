"""Loading a model directory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from detectors.classifier.calibration import Calibration
from detectors.classifier.cascade import GRAPHS, PARTS, Cascade
from detectors.classifier.errors import ModelError
from detectors.classifier.files import load_session, load_tokenizer, read, read_json
from detectors.classifier.model import EncoderClassifier
from detectors.classifier.names import Tags
from detectors.classifier.prediction import Classifier

INPUTS = {"first": {"ids", "mask"}}
LATER = {"hidden", "mask"}
"""Inputs of the graphs that read what another one gives."""


def load(directory: Path, *, threads: int = 1, labels: Mapping[str, str] | None = None) -> Classifier:
    """The classifier in DIRECTORY: this package's own, or any Hugging Face sequence or token classification model.

    `labels` names the category of a foreign model's label, an empty string for a label that is no finding. Raises
    ModelError, which names the file that is missing or broken.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise ModelError(f"{directory}: no such model directory")
    config = read_json(directory / "config.json")
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
    if problem := calibration.problem(categories, tags.categories, PARTS):
        raise ModelError(f"{path}: {problem}")
    tokenizer = load_tokenizer(directory / "tokenizer.json")
    if tokenizer.token_to_id("<s>") is None or tokenizer.token_to_id("</s>") is None:
        raise ModelError(f"{directory / 'tokenizer.json'}: <s> or </s> is not in the vocabulary")
    sessions = {}
    for name in GRAPHS:
        where = directory / f"{name}.onnx"
        sessions[name] = load_session(where, threads)
        if {each.name for each in sessions[name].get_inputs()} != INPUTS.get(name, LATER):
            raise ModelError(f"{where}: its inputs are not {' and '.join(sorted(INPUTS.get(name, LATER)))}")
    cascade = Cascade(sessions, calibration.onward, len(categories))
    return EncoderClassifier(directory.name, cascade, tokenizer, calibration, categories, tags, window=window)
