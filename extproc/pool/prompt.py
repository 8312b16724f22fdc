"""A prompt as a chain of block hashes: two prompts with equal hashes up to some block begin with the same bytes."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from xxhash import xxh64_intdigest


class Prompt:
    """Hashed when somebody asks for the first time, and then once.

    `pieces` are the encoded parts of the request that the engine turns into tokens, in the order in which its template
    puts them: tools, system text, messages with their images. None is copied before it is hashed. `model` and `salt` (a
    cache salt of the request, empty if none) are part of every hash, as an engine shares nothing across them.
    """

    __slots__ = ("_block_bytes", "_block_tokens", "_blocks", "_model", "_pieces", "_salt", "_size")

    def __init__(self, pieces: Sequence[bytes | msgspec.Raw], *, model: str, salt: str = "") -> None:
        self._pieces = pieces
        self._model = model
        self._salt = salt
        self._size = sum(map(len, pieces))
        self._block_bytes = 0
        self._block_tokens = 0
        self._blocks: Sequence[int] = ()

    @classmethod
    def hashed(cls, blocks: Sequence[int], block_tokens: int) -> Prompt:
        """One of which only the chained hashes of its full blocks are known, as in a trace."""
        prompt = cls((), model="")
        prompt._blocks = blocks
        prompt._block_tokens = block_tokens
        return prompt

    def __repr__(self) -> str:
        return f"<Prompt bytes={self._size} blocks={len(self._blocks)}>"

    def blocks(self, block_bytes: int, limit: int) -> Sequence[int]:
        """Chained 64-bit hashes of the first `limit` full blocks: `h_i = xxh64(block_i, seed=h_(i-1))`."""
        if self._block_tokens:
            return self._blocks
        if self._block_bytes != block_bytes:
            self._block_bytes = block_bytes
            self._blocks = self._hash(block_bytes, limit)
        return self._blocks

    def tokens_per_block(self, block_bytes: int, prompt_tokens: int) -> float:
        """Tokens in a block of a prompt that has `prompt_tokens` in all; 0 where nothing is known."""
        if self._block_tokens:
            return self._block_tokens
        return prompt_tokens * block_bytes / self._size if self._size else 0.0

    def forget_text(self) -> None:
        """Only the hashes are of interest from here on: a body of megabytes must not live as long as its answer."""
        self._pieces = ()

    def _hash(self, size: int, limit: int) -> list[int]:
        data = bytes(self._pieces[0]) if len(self._pieces) == 1 else b"\0".join(map(memoryview, self._pieces))
        last = xxh64_intdigest(f"{self._model}\0{self._salt}".encode())
        end = min(len(data) // size, limit) * size
        return [last := xxh64_intdigest(data[at : at + size], last) for at in range(0, end, size)]
