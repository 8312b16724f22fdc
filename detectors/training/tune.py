"""Tuning a branch on kept hidden states: batches of similar length, one rise and fall of the rate."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

log = logging.getLogger(__name__)

TOKENS = 3072
"""Tokens of a batch, padding included."""

POOL = 4096
"""Examples that are sorted by length together."""

DROPOUT = 0.1
WARM = 0.06
DECAY = 0.01


class Example(msgspec.Struct, frozen=True):
    """One window: where its hidden states stand, and what is wanted: integers of its tokens, or floats of the whole."""

    start: int
    size: int
    wanted: npt.NDArray[np.int64] | npt.NDArray[np.float32]
    weight: float = 1.0


class Batch(msgspec.Struct, frozen=True):
    hidden: Tensor
    mask: Tensor
    wanted: Tensor
    """Of tokens: batch x tokens, -100 where nothing is wanted. Of windows: batch x numbers."""
    weight: Tensor


def batch(table: npt.NDArray[np.float16], chosen: Sequence[Example]) -> Batch:
    """CHOSEN, padded to the longest."""
    width = max(each.size for each in chosen)
    hidden = np.zeros((len(chosen), width, table.shape[1]), np.float32)
    mask = np.zeros((len(chosen), width), np.int64)
    for at, each in enumerate(chosen):
        hidden[at, : each.size] = table[each.start : each.start + each.size]
        mask[at, : each.size] = 1
    if chosen[0].wanted.dtype == np.float32:
        wanted = torch.from_numpy(np.stack([each.wanted for each in chosen]))
    else:
        tags = np.full((len(chosen), width), -100, np.int64)
        for at, each in enumerate(chosen):
            tags[at, : each.size] = each.wanted
        wanted = torch.from_numpy(tags)
    weight = torch.tensor([each.weight for each in chosen])
    return Batch(torch.from_numpy(hidden), torch.from_numpy(mask), wanted, weight)


def batches(table: npt.NDArray[np.float16], examples: Sequence[Example], draw: np.random.Generator) -> Iterator[Batch]:
    """One round over EXAMPLES."""
    order = draw.permutation(len(examples))
    for start in range(0, len(order), POOL):
        pool = sorted((examples[at] for at in order[start : start + POOL]), key=lambda each: each.size)
        groups: list[list[Example]] = [[]]
        for each in pool:
            if groups[-1] and (len(groups[-1]) + 1) * each.size > TOKENS:
                groups.append([])
            groups[-1].append(each)
        for at in draw.permutation(len(groups)):
            yield batch(table, groups[at])


def run(
    module: nn.Module,
    table: npt.NDArray[np.float16],
    examples: Sequence[Example],
    loss: Callable[[Batch], Tensor],
    *,
    rounds: float,
    rate: float,
    seed: int,
) -> None:
    """Tune MODULE, in place, for so many ROUNDS over EXAMPLES; `loss` runs it on a batch."""
    draw = np.random.default_rng(seed)
    torch.manual_seed(seed)
    steps = int(rounds * sum(each.size for each in examples) / TOKENS * 1.12) + 1
    plain = [each for each in module.parameters() if each.ndim < 2]
    matrices = [each for each in module.parameters() if each.ndim >= 2]
    optimiser = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": DECAY}, {"params": plain, "weight_decay": 0.0}], lr=rate
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min((step + 1) / (WARM * steps + 1), max(0.0, 1 - step / steps))
    )
    module.train()
    began, step, seen = time.process_time(), 0, []
    while step < steps:
        for each in batches(table, examples, draw):
            value = loss(each)
            optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(value)
            nn.utils.clip_grad_norm_(module.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            seen.append(value.item())
            step += 1
            if step % 50 == 0:
                log.info("%d/%d loss %.4f, %.0f s", step, steps, np.mean(seen[-50:]), time.process_time() - began)
            if step >= steps:
                break
    module.eval()
