"""Fine-tuning: both heads at once, in two stages; the first leaves whole sources out so that they can be measured."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from detectors.training import encoded, labelled
from detectors.training.examples import IGNORED, Batch, Batches, Example, example
from detectors.training.network import SEQUENCE, Classifier, Size
from detectors.training.pretrain import device, rate, save

log = logging.getLogger(__name__)

TOKENS = 3072
"""Tokens of a step."""

RATE = 8e-4
FIRST_STEPS = 900
SECOND_STEPS = 1500
THIRD_STEPS = 2050
TAG_WEIGHT = 2.0
SMOOTH = 0.01
"""The wanted probability of a label is so far from 0 and 1."""


def loss(model: Classifier, batch: Batch) -> tuple[Tensor, Tensor]:
    """Of the sequence labels, the highest window of a row counting, and of the tags."""
    where = device()
    sequence, tags = model(batch.ids.to(where), batch.types.to(where), batch.mask.to(where))
    rows = batch.rows.to(where).unsqueeze(-1).expand_as(sequence)
    highest = torch.full(batch.wanted.shape, -1e4, device=where)
    highest = highest.scatter_reduce(0, rows, sequence, "amax", include_self=True)
    wanted = batch.wanted.to(where) * (1 - 2 * SMOOTH) + SMOOTH
    known = batch.known.to(where)
    each = nn.functional.binary_cross_entropy_with_logits(highest, wanted, reduction="none")
    first = (each * known).sum() / known.sum().clamp(min=1)
    second = nn.functional.cross_entropy(
        tags.flatten(0, 1), batch.tags.to(where).flatten(), ignore_index=IGNORED, reduction="sum"
    )
    return first, second / max(1, int((batch.tags != IGNORED).sum()))


def _endless(batches: Batches) -> Iterable[Batch]:
    while True:
        yield from batches


def train(model: Classifier, examples: list[Example], ends: tuple[int, int], steps: int, seed: int, path: Path) -> None:
    """STEPS steps over EXAMPLES; leaves the weights at PATH, also on the way."""
    batches = Batches(examples, ends, TOKENS, seed)
    groups = [
        {"params": [each for each in model.parameters() if each.ndim > 1], "weight_decay": 0.02},
        {"params": [each for each in model.parameters() if each.ndim < 2], "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.98))
    model.train()
    seen: list[tuple[float, float]] = []
    for step, batch in enumerate(itertools.islice(_endless(batches), steps)):
        for group in optimiser.param_groups:
            group["lr"] = RATE * rate(step, steps)
        with torch.autocast(device(), torch.bfloat16, enabled=device() == "cuda"):
            first, second = loss(model, batch)
        torch.autograd.backward(len(SEQUENCE) * first + TAG_WEIGHT * second)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        seen.append((first.item(), second.item()))
        if step % 50 == 49:
            log.info("%d/%d labels %.4f tags %.4f", step + 1, steps, *np.mean(seen[-50:], axis=0))
        if step % 150 == 149:
            save(model, path)
    save(model, path)


def load(path: Path, tokenizer: Tokenizer) -> Classifier:
    """A classifier with the weights at PATH; of a pre-trained network, its encoder."""
    model = Classifier(Size(vocabulary=tokenizer.get_vocab_size()))
    found = torch.load(path, map_location="cpu", weights_only=True)
    encoder = {name.removeprefix("encoder."): each for name, each in found.items() if name.startswith("encoder.")}
    if "tag.weight" in found:
        model.load_state_dict(found)
    else:
        model.encoder.load_state_dict(encoder)
    return model.to(device())


def run(
    data: Path, work: Path, seed: int, first: int = FIRST_STEPS, second: int = SECOND_STEPS, third: int = THIRD_STEPS
) -> None:
    """`first.pt`, trained without the sources `labelled.UNSEEN`, then from there `final.pt`, trained with all, twice.

    No steps for a stage means that its checkpoint is there already.
    """
    torch.manual_seed(seed)
    tokenizer = Tokenizer.from_file(str(work / "tokenizer.json"))
    ends = encoded.ends(tokenizer)
    kept, _ = labelled.split(data, seed)
    log.info("%d rows", len(kept))
    pairs = [(each.family, made) for each in kept if len((made := example(tokenizer, each)).ids) > 1]
    model = load(work / "pretrained.pt", tokenizer)
    for number, (steps, name) in enumerate(((first, "first.pt"), (second, "final.pt"), (third, "final.pt"))):
        if steps:
            chosen = [each for family, each in pairs if number or family not in labelled.UNSEEN]
            train(model, chosen, ends, steps, seed + number, work / name)
        elif (work / name).is_file():
            model = load(work / name, tokenizer)
