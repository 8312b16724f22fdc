"""Any other local Hugging Face model: sequence or token classification, in ONNX or torch."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from detectors.alarms import LEVEL, Level
from detectors.classifier.errors import ModelError
from detectors.classifier.files import load_session, load_tokenizer
from detectors.classifier.prediction import Classifier, Prediction, moved
from detectors.findings import CATEGORIES, Finding
from detectors.text import Text

LONGEST = 256
"""Tokens of a window, if the model takes as many: two such windows cost less than one of 512."""

OVERLAP = 32
MOST = 512
"""Windows of one text that are read where the caller names no number."""

THRESHOLD = 0.5
ONNX = ("model.int8.onnx", "model_quantized.onnx", "model.onnx", "onnx/model_quantized.onnx", "onnx/model.onnx")
TORCH = ("model.safetensors", "pytorch_model.bin", "model.safetensors.index.json")

ALIASES: Mapping[str, str] = {
    "PER": "PERSON",
    "NAME": "PERSON",
    "FIRSTNAME": "PERSON",
    "LASTNAME": "PERSON",
    "GIVENNAME": "PERSON",
    "SURNAME": "PERSON",
    "ORG": "ORGANIZATION",
    "ORGANISATION": "ORGANIZATION",
    "COMPANY": "ORGANIZATION",
    "CORPORATION": "ORGANIZATION",
    "LOC": "LOCATION",
    "GPE": "LOCATION",
    "CITY": "LOCATION",
    "STREET": "ADDRESS",
    "STREET_ADDRESS": "ADDRESS",
    "TITLE": "POSITION",
    "JOBTITLE": "POSITION",
    "PRODUCT": "PROJECT",
    "PHONE_NUMBER": "PHONE",
    "PHONENUMBER": "PHONE",
    "EMAIL_ADDRESS": "EMAIL",
    "CREDIT_CARD": "BANK_CARD",
    "CREDITCARDNUMBER": "BANK_CARD",
    "PASSWORD": "SECRET",
    "JAILBREAK": "INJECTION",
    "PROMPT_INJECTION": "INJECTION",
    "INJECTED": "INJECTION",
    "MALICIOUS": "INJECTION",
    "UNSAFE": "INJECTION",
}
"""Labels as they are usually called, to the categories of `detectors.findings`."""

HARMLESS = frozenset(
    {
        "O",
        "NONE",
        "SAFE",
        "BENIGN",
        "LEGIT",
        "LEGITIMATE",
        "NEGATIVE",
        "NORMAL",
        "OTHER",
        "CLEAN",
        "NO_INJECTION",
        "PUBLIC",
    }
)

Floats = npt.NDArray[np.float64]
Forward = Callable[[dict[str, npt.NDArray[np.int64]]], npt.NDArray[np.floating[Any]]]


def load_foreign(directory: Path, config: Mapping[str, Any], threads: int, labels: Mapping[str, str]) -> Classifier:
    """See `detectors.classifier.load`. Raises ModelError."""
    where = directory / "config.json"
    kind = next((name for name in config.get("architectures") or () if "Classification" in name), "")
    if not kind.endswith(("ForTokenClassification", "ForSequenceClassification")):
        raise ModelError(f"{where}: $.architectures names no sequence or token classification model")
    names = config.get("id2label", {"0": "LABEL_0", "1": "LABEL_1"})
    if not isinstance(names, dict) or not names:
        raise ModelError(f"{where}: $.id2label holds no labels")
    try:
        ordered = [str(names[str(at)]) for at in range(len(names))]
    except KeyError as error:
        raise ModelError(f"{where}: $.id2label has no {error}") from error
    categories = [category(label, labels) for label in ordered]
    if not labels and all(re.fullmatch(r"(?:[BI]-)?LABEL_\d+", label) for label in ordered):
        raise ModelError(f"{where}: $.id2label does not say what the labels mean: give a mapping")
    window = min(LONGEST, int(config.get("max_position_embeddings") or LONGEST))
    tokenizer = load_tokenizer(directory / "tokenizer.json")
    tokenizer.enable_truncation(window, stride=min(OVERLAP, window // 4))
    tokenizer.no_padding()
    forward = _forward(directory, kind, threads)
    many = config.get("problem_type") == "multi_label_classification" or len(ordered) == 1
    return ForeignClassifier(
        directory.name, tokenizer, forward, categories, ordered, tokens=kind.endswith("TokenClassification"), many=many
    )


def category(label: str, labels: Mapping[str, str]) -> str:
    """The category of a model's label, without the mark of its border; an empty string for one that is no finding."""
    if label in labels:
        return labels[label]
    bare = re.sub(r"^[BIESLU][-_](?=\w)", "", label)
    if bare in labels:
        return labels[bare]
    name = re.sub(r"\W+", "_", bare).upper()
    if name in HARMLESS:
        return ""
    return name if name in CATEGORIES else ALIASES.get(name, name)


def _forward(directory: Path, kind: str, threads: int) -> Forward:
    for name in ONNX:
        if (directory / name).is_file():
            return _onnx(load_session(directory / name, threads))
    if any((directory / name).is_file() for name in TORCH):
        return _torch(directory, kind)
    raise ModelError(f"{directory}: neither {ONNX[0]} nor {TORCH[0]} is there")


def _onnx(session: Any) -> Forward:
    wanted = [each.name for each in session.get_inputs()]

    def forward(inputs: dict[str, npt.NDArray[np.int64]]) -> npt.NDArray[np.floating[Any]]:
        found: npt.NDArray[np.floating[Any]] = session.run(None, {name: inputs[name] for name in wanted})[0]
        return found

    missing = [name for name in wanted if name not in ("input_ids", "attention_mask", "token_type_ids")]
    if missing:
        raise ModelError(f"the model wants an input {missing[0]}, which a tokenizer does not give")
    return forward


def _torch(directory: Path, kind: str) -> Forward:
    try:
        import torch
        import transformers
    except ImportError as error:
        raise ModelError(f"{directory}: a model in torch needs the packages torch and transformers") from error
    auto = "AutoModelForTokenClassification" if "Token" in kind else "AutoModelForSequenceClassification"
    try:
        model = getattr(transformers, auto).from_pretrained(directory, local_files_only=True).eval()
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise ModelError(f"{directory}: {error}") from error
    taken = inspect.signature(model.forward).parameters

    def forward(inputs: dict[str, npt.NDArray[np.int64]]) -> npt.NDArray[np.floating[Any]]:
        with torch.inference_mode():
            found = model(**{name: torch.from_numpy(value) for name, value in inputs.items() if name in taken}).logits
        result: npt.NDArray[np.floating[Any]] = found.float().numpy()
        return result

    return forward


class ForeignClassifier:
    """Serves a model that others trained; every category counts from `THRESHOLD`, unless the caller says otherwise."""

    def __init__(
        self,
        name: str,
        tokenizer: Any,
        forward: Forward,
        categories: list[str],
        labels: list[str],
        *,
        tokens: bool,
        many: bool,
    ) -> None:
        self.name = name
        self._tokenizer = tokenizer
        self._forward = forward
        self._categories = categories
        self._begins = [label[:2] in ("B-", "B_", "U-", "S-") for label in labels]
        self._tokens = tokens
        self._many = many

    def __repr__(self) -> str:
        return f"ForeignClassifier({self.name!r}, {sorted(set(self._categories) - {''})})"

    def predict(
        self,
        text: Text | str,
        *,
        thresholds: Mapping[str, float] | None = None,
        level: Level = LEVEL,
        most: int | None = None,
    ) -> Prediction:
        """See `Classifier.predict`. A token model has no `scores`, and every level is the same here."""
        whole = text if isinstance(text, Text) else Text(text)
        given = thresholds or {}
        first = self._tokenizer.encode(whole.plain)
        every = [first, *first.overflowing]
        parts = every[: MOST if most is None else most]
        if not whole.plain.strip():
            parts = []
        kinds = sorted(set(self._categories) - {""})
        limits = {kind: given.get(kind, THRESHOLD) for kind in kinds}
        scores: dict[str, float] = {} if self._tokens else dict.fromkeys(kinds, 0.0)
        found: set[Finding] = set()
        for part in parts:
            inputs = {
                "input_ids": np.asarray([part.ids], np.int64),
                "attention_mask": np.asarray([part.attention_mask], np.int64),
                "token_type_ids": np.asarray([part.type_ids], np.int64),
            }
            logits = np.asarray(self._forward(inputs)[0], np.float64)
            if self._tokens:
                found |= set(self._names(_softmax(logits), part.offsets, limits))
                continue
            for kind, score in self._sequence(logits).items():
                scores[kind] = max(scores[kind], round(score, 6))
                inside = [offset for offset in part.offsets if offset[1] > offset[0]]
                if score >= limits[kind] and inside:
                    found.add(Finding(inside[0][0], inside[-1][1], kind, round(score, 4), "classifier"))
        spans = sorted(moved(each, whole) for each in found)
        return Prediction(scores, spans, limits if not self._tokens else {}, len(parts) == len(every) or not parts)

    def _sequence(self, logits: Floats) -> dict[str, float]:
        shares = 1 / (1 + np.exp(-np.clip(logits, -30, 30))) if self._many else _softmax(logits)
        scores: dict[str, float] = {}
        for kind, share in zip(self._categories, shares, strict=True):
            if kind:
                before = scores.get(kind, 0.0)
                scores[kind] = max(before, float(share)) if self._many else before + float(share)
        return scores

    def _names(self, shares: Floats, offsets: list[tuple[int, int]], limits: Mapping[str, float]) -> Iterator[Finding]:
        """Runs of tokens of one category; a token that only continues a word takes part in the name that runs."""
        start = end = count = 0
        kind, total = "", 0.0

        def finished() -> Iterator[Finding]:
            if kind and total / count >= limits[kind]:
                yield Finding(start, end, kind, round(total / count, 4), "classifier")

        for row, (first, last) in zip(shares, offsets, strict=True):
            if last <= first:
                continue
            best = int(row.argmax())
            name, score = self._categories[best], float(row[best])
            glued = bool(kind) and first == end
            if kind and name == kind and (glued or not self._begins[best]) and first - end <= 1:
                end, total, count = last, total + score, count + 1
                continue
            yield from finished()
            kind, start, end, total, count = name, first, last, score, 1
        yield from finished()


def _softmax(logits: Floats) -> Floats:
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(powers / powers.sum(-1, keepdims=True), np.float64)
