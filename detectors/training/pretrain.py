"""Pre-training: masked tokens over all unlabelled text, and an English teacher's sentence vectors."""

from __future__ import annotations

import ctypes
import logging
import math
import random
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from detectors.training import corpus, encoded, teacher
from detectors.training.network import WINDOW, Pretrained, Size

log = logging.getLogger(__name__)

TOKENS = 8_000_000
"""How many tokens of masked text the encoder reads, about one round of the corpus."""

UNTIL = 2_250
"""The step of that schedule at which it ends: behind it the rate is so low that fine-tuning uses the time better."""

SENTENCES = 40_000
BATCH = 24
DISTIL = 48
"""Rows of a step: blocks of masked text, sentences of the teacher."""

EVERY = 4
"""One step of distillation follows so many of masked text."""

RATE = 1e-3
CHINESE_TWICE = ("dialogue_zh", "benign_zh_medical_qa", "meeting_zh_vcsum_long_train", "ner_zh_uner_train")
"""Chinese that is not technical documentation is scarce, so a round reads it twice."""


_MALLOPT = {-3: 1 << 30, -1: 1 << 30, -2: 1 << 28, -8: 1}
"""glibc's thresholds for mapping and trimming, its padding, and the number of its arenas."""


def device() -> str:
    """The graphics card, or the processor."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def keep_memory() -> None:
    """Let the allocator keep what is freed: mapping big tensors afresh slows a step."""
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        for option, value in _MALLOPT.items():
            library.mallopt(option, value)


def blocks(data: Path, tokenizer: Tokenizer, seed: int) -> tuple[encoded.Short, encoded.Short]:
    """The corpus in shuffled order as blocks of `WINDOW` tokens."""
    rows = list(corpus.unlabelled(data, seed))
    rows += [row for row in rows if row.source in CHINESE_TWICE]
    random.Random(seed).shuffle(rows)
    texts = encoded.plain(row.text[:12_000] for row in rows)
    return encoded.blocks(encoded.typed(tokenizer, texts), WINDOW, *encoded.ends(tokenizer))


class Sentences:
    """The teacher's sentences, as batches of padded tokens with their vectors."""

    def __init__(self, data: Path, work: Path, tokenizer: Tokenizer, seed: int) -> None:
        texts = encoded.plain(teacher.sentences(corpus.unlabelled(data, seed), SENTENCES, seed))
        cache = work / "teacher.npy"
        if not cache.exists():
            log.info("teacher: %d sentences", len(texts))
            np.save(cache, teacher.vectors(texts, device()))
        self.vectors = np.load(cache)
        if len(self.vectors) != len(texts):
            raise ValueError(f"{cache} belongs to another run: remove it")
        self._rows = encoded.typed(tokenizer, texts)
        self._ends = encoded.ends(tokenizer)

    def batch(self, chosen: npt.NDArray[np.int64]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Ids, types, mask and target vectors of the sentences CHOSEN."""
        rows = [self._rows[at] for at in chosen]
        width = min(WINDOW, max(len(ids) for ids, _ in rows) + 2)
        ids = np.zeros((len(rows), width), np.int64)
        types = np.zeros((len(rows), width), np.int64)
        mask = np.zeros((len(rows), width), np.int64)
        for at, (row_ids, row_types) in enumerate(rows):
            length = min(len(row_ids), width - 2)
            ids[at, : length + 2] = [self._ends[0], *row_ids[:length], self._ends[1]]
            types[at, 1 : length + 1] = row_types[:length]
            mask[at, : length + 2] = 1
        targets = torch.from_numpy(self.vectors[chosen].astype(np.float32))
        return torch.from_numpy(ids), torch.from_numpy(types), torch.from_numpy(mask), targets


def masked(ids: Tensor, generator: torch.Generator, vocabulary: int, mask: int) -> tuple[Tensor, Tensor]:
    """IDS with about a fifth hidden, in runs of one to three; and where."""

    def chance(share: float) -> Tensor:
        return torch.rand(ids.shape, generator=generator) < share

    where = chance(0.12)
    for _ in range(2):
        where[:, 1:] |= where[:, :-1] & chance(0.4)[:, 1:]
    where &= ids > 4
    hidden = torch.where(where & chance(0.85), torch.full_like(ids, mask), ids)
    random_ids = torch.randint(5, vocabulary, ids.shape, generator=generator)
    return torch.where(where & (hidden == ids) & chance(0.5), random_ids, hidden), where


def rate(step: int, steps: int) -> float:
    """Share of the highest learning rate: a short rise, then down to a twentieth in half a cosine."""
    warm = max(1, steps // 25)
    if step < warm:
        return (step + 1) / warm
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def save(model: nn.Module, path: Path) -> None:
    """Write the weights; an interrupted write leaves the old file."""
    torch.save(model.state_dict(), path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)


def run(data: Path, work: Path, seed: int, total: int = TOKENS, until: int = UNTIL) -> None:
    """Train UNTIL that step of the schedule for TOTAL tokens and leave `pretrained.pt` in WORK.

    What is there on the way is usable, if weaker.
    """
    torch.manual_seed(seed)
    tokenizer = Tokenizer.from_file(str(work / "tokenizer.json"))
    size = Size(vocabulary=tokenizer.get_vocab_size())
    ids, types = blocks(data, tokenizer, seed)
    log.info("%d blocks of %d tokens", len(ids), WINDOW)
    sentences = Sentences(data, work, tokenizer, seed)
    model = Pretrained(size, teacher.WIDTH).to(device())
    groups = [
        {"params": [each for each in model.parameters() if each.ndim > 1], "weight_decay": 0.02},
        {"params": [each for each in model.parameters() if each.ndim < 2], "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.98))
    generator = torch.Generator().manual_seed(seed)
    draw = np.random.default_rng(seed)
    steps = total // (BATCH * WINDOW)
    order = np.concatenate([draw.permutation(len(ids)) for _ in range(steps * BATCH // len(ids) + 1)])
    mask = encoded.mark(tokenizer, "[MASK]")
    seen: list[float] = []
    near: list[float] = []
    for step in range(min(steps, until)):
        for group in optimiser.param_groups:
            group["lr"] = RATE * rate(step, steps)
        chosen = order[step * BATCH : (step + 1) * BATCH]
        clean = torch.from_numpy(ids[chosen].astype(np.int64))
        kinds = torch.from_numpy(types[chosen].astype(np.int64))
        noisy, where = masked(clean, generator, size.vocabulary, mask)
        with torch.autocast(device(), torch.bfloat16, enabled=device() == "cuda"):
            logits = model.masked(noisy.to(device()), kinds.to(device()), where.to(device()))
        loss = nn.functional.cross_entropy(logits.float(), clean[where].to(device()))
        seen.append(loss.item())
        if step % EVERY == 0:
            *inputs, targets = sentences.batch(draw.integers(0, len(sentences.vectors), DISTIL))
            with torch.autocast(device(), torch.bfloat16, enabled=device() == "cuda"):
                found = model.sentence(*(each.to(device()) for each in inputs))
            likeness = nn.functional.cosine_similarity(found.float(), targets.to(device())).mean()
            near.append(likeness.item())
            loss = loss + 4.0 * (1 - likeness)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        if step % 50 == 49:
            log.info("%d/%d masked %.3f likeness %.3f", step + 1, steps, np.mean(seen[-50:]), np.mean(near[-17:]))
        if step % 250 == 249:
            save(model, work / "pretrained.pt")
    save(model, work / "pretrained.pt")
