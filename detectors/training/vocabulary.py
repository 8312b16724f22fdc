"""The tokenizer: XLM-R's unigram pieces, those that Chinese and English text needs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from detectors.training.weights import Vocabulary

MARKS = ("<s>", "<pad>", "</s>", "<unk>")
UNKNOWN = 3
_SPACES = r"[\s\x00-\x1f\x7f-\x9f]+"
_ALWAYS = re.compile("▁?[A-Za-z0-9]{1,2}")
_ACROSS = re.compile("▁?[在是与对][\u4e00-\u9fff]+")
"""A word and what it governs in one piece, such as 在北京: the name in it would have no border of its own."""


def tokenizer(pieces: Iterable[tuple[str, float]]) -> Tokenizer:
    """A tokenizer with these PIECES and their log probabilities, the first four of them `MARKS`."""
    made = Tokenizer(models.Unigram(list(pieces), UNKNOWN))
    made.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(_SPACES), " ")])
    made.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    made.decoder = decoders.Metaspace()
    return made


def whole(vocabulary: Vocabulary) -> Tokenizer:
    """The tokenizer with every piece."""
    return tokenizer(zip(vocabulary.pieces, vocabulary.scores, strict=True))


def kept(vocabulary: Vocabulary, texts: Iterable[list[str]], least: int = 1) -> list[int]:
    """Numbers of the pieces to keep, in order: what stands `least` times in TEXTS (in batches), single characters of
    Latin and Chinese text and marks, and short pieces of letters and digits, of which any word can be built."""
    every = whole(vocabulary)
    seen: Counter[int] = Counter()
    for batch in texts:
        for encoding in every.encode_batch(batch, add_special_tokens=False):
            seen.update(encoding.ids)
    return [
        number
        for number, piece in enumerate(vocabulary.pieces)
        if number < len(MARKS)
        or (seen[number] >= least and not _ACROSS.fullmatch(piece))
        or _ALWAYS.fullmatch(piece)
        or _single(piece)
    ]


def _single(piece: str) -> bool:
    if len(piece) != 1:
        return False
    code = ord(piece)
    return code < 0x250 or 0x2000 < code < 0x2600 or 0x3000 <= code < 0xA000 or 0xFF00 <= code < 0xFFF0


def pruned(vocabulary: Vocabulary, numbers: Iterable[int]) -> Tokenizer:
    """The tokenizer with the pieces NUMBERS alone, renumbered in their order."""
    return tokenizer((vocabulary.pieces[number], vocabulary.scores[number]) for number in numbers)
