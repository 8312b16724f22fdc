"""The files of a model: every fault is a ModelError that names the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from detectors.classifier.errors import ModelError


def read(path: Path) -> bytes:
    """The contents of a file of the model. Raises ModelError."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror or error}") from error


def read_json(path: Path) -> dict[str, Any]:
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
