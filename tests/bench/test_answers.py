from __future__ import annotations

import base64
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import answers

texts = st.text(st.characters(codec="utf-8"), max_size=80)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("", 0), ("a", 1), ("abcd", 1), ("hello", 2), ("你好", 2), ("你好ab", 3), ("ab你cd", 3), ("é", 1)],
)
def test_the_token_rule(text: str, tokens: int) -> None:
    assert answers.count_tokens(text) == tokens


@given(texts)
def test_counting_and_splitting_agree(text: str) -> None:
    tokens = answers.tokenize(text)
    assert "".join(tokens) == text
    assert len(tokens) == answers.count_tokens(text)


@given(st.integers(0, 300), st.integers(0, 2**63 - 1))
def test_answers_have_exactly_the_tokens_asked_for(tokens: int, seed: int) -> None:
    pieces = answers.answer_pieces(tokens, seed)
    assert len(pieces) == tokens
    assert all(answers.count_tokens(piece) == 1 for piece in pieces)
    assert answers.count_tokens("".join(pieces)) == tokens


@given(texts, texts, st.integers(1, 5))
def test_block_hashes_agree_exactly_on_the_common_prefix(start: str, more: str, size: int) -> None:
    short = answers.block_hashes(start, size, "m")
    long = answers.block_hashes(start + more, size, "m")
    assert len(short) == answers.count_tokens(start) // size
    # The last token of `start` may be longer in the longer text, and with it the block that it is in.
    settled = max(0, answers.count_tokens(start) - 1) // size
    assert long[:settled] == short[:settled]
    assert not set(short) & set(answers.block_hashes(start, size, "other"))


def test_block_hashes_are_the_same_for_ascii_and_mixed_text() -> None:
    ascii_part = "abcdefgh" * 4
    assert answers.block_hashes(ascii_part + "你", 4, "m")[:2] == answers.block_hashes(ascii_part, 4, "m")


def test_chat_is_rendered_with_roles_parts_and_tools() -> None:
    parts = [{"type": "text", "text": "你好"}, {"type": "image_url", "image_url": {"url": "data:,"}}]
    rendered = answers.render_chat([{"role": "user", "content": parts}], [{"type": "function"}])
    assert (
        rendered
        == '[{"type": "function"}]<|user|>你好' + '{"type": "image_url", "image_url": {"url": "data:,"}}<|assistant|>'
    )


def test_embeddings_are_the_same_in_both_encodings() -> None:

    plain = answers.embedding("x", 8, "float")
    encoded = answers.embedding("x", 8, "base64")
    assert isinstance(encoded, str)
    assert list(struct.unpack("<8f", base64.b64decode(encoded))) == pytest.approx(plain)
