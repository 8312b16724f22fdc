"""The tokenizer: byte-pair merges over lower-case words and over words of Chinese, with offsets into the text."""

import random
from collections.abc import Iterator
from pathlib import Path

import jieba
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from detectors.text import Text
from detectors.training import corpus

SIZE = 14_000
ALPHABET = 5_400
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]

_HAN = r"\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_SPLIT = rf"[{_HAN}]+|\p{{N}}{{1,2}}|[^\s\p{{N}}\p{{P}}\p{{S}}{_HAN}]+|[\p{{P}}\p{{S}}]"
"""A run of Chinese, one or two digits, a word of any other script, or one mark."""

_CHINESE_WORDS = 3
"""Longest merge of Chinese characters: longer ones are mostly names, whose borders the token head has to see."""


def _common() -> list[str]:
    """The 3,755 common characters of GB 2312, so that names and rarer words are no unknown tokens."""
    rows = ((row, cell) for row in range(0xB0, 0xD8) for cell in range(0xA1, 0xFF))
    return [letter for pair in rows if (letter := bytes(pair).decode("gb2312", "ignore"))]


def blank() -> Tokenizer:
    """The untrained tokenizer. Case is not in the vocabulary but in the token types, spaces likewise."""
    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))  # noqa: S106 (the word for an unknown token)
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(_SPLIT), "removed", invert=True)
    return tokenizer


def _segmented(data: Path, seed: int) -> Iterator[str]:
    """The corpus, with spaces between the words of Chinese so that no merge crosses a border between two."""
    rows = list(corpus.unlabelled(data, seed))
    random.Random(seed).shuffle(rows)
    for row in rows:
        text = Text(row.text[:20_000]).plain
        if text.isascii():
            yield text
            continue
        words = (word for word in jieba.cut(text, HMM=False))
        yield " ".join(word if len(word) <= _CHINESE_WORDS else " ".join(word) for word in words)


def train(data: Path, seed: int, size: int = SIZE) -> Tokenizer:
    """A tokenizer of SIZE entries trained on the unlabelled text."""
    tokenizer = blank()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=SPECIAL,
        limit_alphabet=ALPHABET,
        initial_alphabet=_common(),
        show_progress=False,
        min_frequency=3,
    )
    tokenizer.train_from_iterator(_segmented(data, seed), trainer)
    first, last = tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[SEP]")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", first), ("[SEP]", last)]
    )
    return tokenizer
