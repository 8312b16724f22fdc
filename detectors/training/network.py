"""The encoder in torch: layers of BERT that read the pre-trained weights, and the branches that are tuned."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from detectors.training.weights import HEADS, INNER, WIDTH, Floats, Pretrained

EPSILON = 1e-12


class Layer(nn.Module):
    """One layer of BERT, the norm behind each sum."""

    def __init__(self) -> None:
        super().__init__()
        self.joint = nn.Linear(WIDTH, 3 * WIDTH)
        self.out = nn.Linear(WIDTH, WIDTH)
        self.middle = nn.LayerNorm(WIDTH, eps=EPSILON)
        self.wide = nn.Linear(WIDTH, INNER)
        self.narrow = nn.Linear(INNER, WIDTH)
        self.end = nn.LayerNorm(WIDTH, eps=EPSILON)

    def forward(self, hidden: Tensor, seen: Tensor, dropout: float = 0.0) -> Tensor:
        """`hidden` is batch x tokens x WIDTH; `seen` (batch x 1 x 1 x tokens) is true for tokens that are there."""
        rows, tokens, _ = hidden.shape
        joint = self.joint(hidden).view(rows, tokens, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(joint[0], joint[1], joint[2], attn_mask=seen)
        mixed = mixed.transpose(1, 2).reshape(rows, tokens, WIDTH)
        hidden = self.middle(hidden + functional.dropout(self.out(mixed), dropout, self.training))
        wide = functional.gelu(self.wide(hidden))
        result: Tensor = self.end(hidden + functional.dropout(self.narrow(wide), dropout, self.training))
        return result


def layer(pretrained: Pretrained, number: int) -> Layer:
    """Layer NUMBER, counted from 0, of the pre-trained encoder."""
    found = Layer()
    parts = ("joint", "out", "middle", "wide", "narrow", "end")
    names = ("", "ao", "aln", "fi", "fo", "oln")
    with torch.no_grad():
        for part, name in zip(parts, names, strict=True):
            module = getattr(found, part)
            for field, short in (("weight", "w"), ("bias", "b")):
                kinds = [name] if name else ["q", "k", "v"]
                value = np.concatenate([pretrained.tensors[f"l{number}.{kind}.{short}"] for kind in kinds])
                getattr(module, field).copy_(torch.from_numpy(value))
    return found


class Encoder(nn.Module):
    """The pre-trained encoder as far as it is read: the first LAYERS layers over the pieces KEPT."""

    def __init__(self, pretrained: Pretrained, words: Floats, layers: int, longest: int) -> None:
        super().__init__()
        tensors = pretrained.tensors
        places = tensors["emb.pos"].reshape(-1, WIDTH)[:longest] + tensors["emb.type"][:WIDTH]
        self.words = nn.Embedding.from_pretrained(torch.from_numpy(words))
        self.places = nn.Parameter(torch.from_numpy(places))
        self.norm = nn.LayerNorm(WIDTH, eps=EPSILON)
        self.layers = nn.ModuleList(layer(pretrained, number) for number in range(layers))
        with torch.no_grad():
            self.norm.weight.copy_(torch.from_numpy(tensors["emb.ln.w"].copy()))
            self.norm.bias.copy_(torch.from_numpy(tensors["emb.ln.b"].copy()))

    def forward(self, ids: Tensor, mask: Tensor) -> list[Tensor]:
        """What every layer hands on, the embeddings first."""
        hidden = self.norm(self.words(ids) + self.places[: ids.shape[1]])
        found = [hidden]
        for each in self.layers:
            hidden = each(hidden, mask[:, None, None, :] > 0)
            found.append(hidden)
        return found


class Branch(nn.Module):
    """Tuned layers on frozen ones, with a linear output per token."""

    def __init__(self, layers: Sequence[Layer], outputs: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.head = nn.Linear(WIDTH, outputs)

    def forward(self, hidden: Tensor, mask: Tensor, dropout: float = 0.0) -> Tensor:
        """Batch x tokens x outputs."""
        for each in self.layers:
            hidden = each(hidden, mask[:, None, None, :] > 0, dropout)
        found: Tensor = self.head(functional.dropout(hidden, dropout, self.training))
        return found
