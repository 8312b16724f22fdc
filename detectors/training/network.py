"""The encoder and its heads."""

from __future__ import annotations

import msgspec
import torch
from torch import Tensor, nn
from transformers import BertConfig, BertModel

from detectors.classifier.encode import SHAPES

WINDOW = 128
"""Tokens per window, with the two that mark its ends."""

SEQUENCE = (
    "BUSINESS_MEETING",
    "BUSINESS_FINANCE",
    "BUSINESS_PERSONNEL",
    "BUSINESS_CUSTOMER",
    "BUSINESS_ROADMAP",
    "BUSINESS_SECURITY",
    "BUSINESS_LEGAL",
    "INJECTION",
)
NAMES = ("PERSON", "ORGANIZATION", "LOCATION", "ADDRESS", "POSITION", "PROJECT")
TAGS = ("O", *(f"{border}-{name}" for name in NAMES for border in "BI"))


class Size(msgspec.Struct, frozen=True):
    """How big the encoder is."""

    layers: int = 4
    width: int = 192
    heads: int = 6
    vocabulary: int = 14_000


def encoder(size: Size, dropout: float = 0.0) -> BertModel:
    """A fresh encoder in the `transformers` architecture BERT; token types carry case and spacing."""
    config = BertConfig(
        vocab_size=size.vocabulary,
        hidden_size=size.width,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        intermediate_size=4 * size.width,
        max_position_embeddings=WINDOW,
        type_vocab_size=SHAPES,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=0.0,
        pad_token_id=0,
        hidden_act="gelu_pytorch_tanh",
    )
    return BertModel(config, add_pooling_layer=False)


class Pretrained(nn.Module):
    """The encoder with what only pre-training needs: the masked-token head, and the way to a teacher's vectors."""

    def __init__(self, size: Size, teacher: int) -> None:
        super().__init__()
        self.encoder = encoder(size)
        self.transform = nn.Sequential(nn.Linear(size.width, size.width), nn.GELU(), nn.LayerNorm(size.width))
        self.bias = nn.Parameter(torch.zeros(size.vocabulary))
        self.project = nn.Linear(size.width, teacher)

    def masked(self, ids: Tensor, types: Tensor, where: Tensor) -> Tensor:
        """Logits over the vocabulary at the positions WHERE (boolean, as `ids`) only."""
        hidden = self.encoder(input_ids=ids, token_type_ids=types).last_hidden_state[where]
        table = self.encoder.embeddings.word_embeddings.weight
        return nn.functional.linear(self.transform(hidden), table, self.bias)

    def sentence(self, ids: Tensor, types: Tensor, mask: Tensor) -> Tensor:
        """The mean over the tokens, in the teacher's space."""
        hidden = self.encoder(input_ids=ids, token_type_ids=types, attention_mask=mask).last_hidden_state
        weight = mask.unsqueeze(-1).to(hidden.dtype)
        projected: Tensor = self.project((hidden * weight).sum(1) / weight.sum(1))
        return projected


class Classifier(nn.Module):
    """The encoder with a tag per token, and per sequence label an attention of its own over the tokens."""

    def __init__(self, size: Size, dropout: float = 0.0) -> None:
        super().__init__()
        self.size = size
        self.encoder = encoder(size, dropout)
        self.drop = nn.Dropout(dropout)
        self.look = nn.Linear(size.width, len(SEQUENCE))
        self.judge = nn.Linear(size.width, len(SEQUENCE))
        self.tag = nn.Linear(size.width, len(TAGS))

    def forward(self, ids: Tensor, types: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the sequence labels (batch x labels) and of the tags (batch x tokens x tags)."""
        hidden = self.encoder(input_ids=ids, token_type_ids=types, attention_mask=mask).last_hidden_state
        hidden = self.drop(hidden)
        attention = self.look(hidden).float() + (mask.unsqueeze(-1) - 1.0) * 1e4
        votes = self.judge(hidden).float()
        return (attention.softmax(1) * votes).sum(1), self.tag(hidden).float()
