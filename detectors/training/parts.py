"""What is trained: the first look, and the two branches."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from detectors.training.labels import BUSINESS, TAGS
from detectors.training.network import Branch, layer
from detectors.training.weights import WIDTH, Pretrained

FIRST, FROZEN, TUNED = 3, 6, 2
"""Layers that the first look runs through, layers that are never trained, and layers of a branch."""

SCALE = 5.0
"""Heads begin at zero. Their outputs are multiplied by so much, so that they learn as fast as the layers below them."""

Floats = npt.NDArray[np.float64]


class First(msgspec.Struct, frozen=True):
    """Linear heads on the states of layer FIRST: the mean over all tokens for the parts that speak of the whole window,
    and for names the token that speaks most."""

    mean: tuple[Floats, Floats]
    """Weights (WIDTH x 2) and shifts (2): business, injection."""
    token: tuple[Floats, float]
    """Weights (WIDTH) and shift: a name."""


class Statements(nn.Module):
    """The branch for business information and attacks.

    Business information is the mean of what the tokens say: whether there is any, and beside that of which kind. An
    attack is what an attention of its own finds.
    """

    def __init__(self, pretrained: Pretrained) -> None:
        super().__init__()
        layers = [layer(pretrained, FROZEN + number) for number in range(TUNED)]
        self.branch = Branch(layers, 3 + len(BUSINESS))
        with torch.no_grad():
            self.branch.head.weight.zero_()
            self.branch.head.bias.zero_()

    def forward(self, hidden: Tensor, mask: Tensor, dropout: float = 0.0) -> tuple[Tensor, Tensor, Tensor]:
        """Logits of business (batch), of its kinds (batch x kinds) and of an attack (batch)."""
        votes = self.branch(hidden, mask, dropout) * SCALE
        weight = mask.unsqueeze(-1).float()
        mean = (votes[..., 3:] * weight).sum(1) / weight.sum(1)
        business = (votes[..., :1] * weight).sum(1) / weight.sum(1)
        look = (votes[..., 1] + (mask - 1) * 1e4).softmax(1)
        return business[:, 0], mean, (look * votes[..., 2]).sum(1)


class Names(nn.Module):
    """The branch for names: a tag per token."""

    def __init__(self, pretrained: Pretrained) -> None:
        super().__init__()
        self.branch = Branch([layer(pretrained, FROZEN + number) for number in range(TUNED)], len(TAGS))

    def forward(self, hidden: Tensor, mask: Tensor, dropout: float = 0.0) -> Tensor:
        """Batch x tokens x tags."""
        found: Tensor = self.branch(hidden, mask, dropout)
        return found


def standardised(
    features: npt.NDArray[np.float32],
    wanted: Sequence[bool] | npt.NDArray[np.bool_],
    weights: npt.NDArray[np.float64],
    strength: float,
) -> tuple[Floats, float]:
    """Logistic regression on standardised FEATURES, as weights and shift for the features as they are."""
    from sklearn.linear_model import LogisticRegression

    centre, spread = features.mean(0, dtype=np.float64), features.std(0, dtype=np.float64) + 1e-6
    model = LogisticRegression(C=strength, max_iter=400).fit(
        (features - centre) / spread, wanted, sample_weight=weights
    )
    slopes = model.coef_[0] / spread
    assert len(slopes) % WIDTH == 0  # noqa: S101 (the states of whole layers)
    return slopes, float(model.intercept_[0] - slopes @ centre)
