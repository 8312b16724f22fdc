"""Text and token counts of the simulators, deterministic so that a test can compute them.

The token rule: a token is a run of up to four consecutive ASCII characters, or one other character, read from the left.
`count_tokens("hello")` is 2, `count_tokens("你好")` is 2, `count_tokens("你好ab")` is 3. The rule is stable under
extension: a longer text with the same beginning has the same tokens but for the last one of that beginning, as prefix
caching needs.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import struct
from collections.abc import Sequence
from typing import Any

_TOKEN = re.compile(r"[\x00-\x7f]{1,4}|[^\x00-\x7f]")
_ENGLISH = ("the", "cat", "sat", "and", "ran", "off", "far", "but", "not", "all", "day", "then", "came", "back", "home")
_PIECES = [word.ljust(4)[:4] for word in _ENGLISH] + list("今天的模拟引擎按照批次逐个生成词元，服务平稳。")


def tokenize(text: str) -> list[str]:
    """The tokens of a text; joined they are the text again."""
    return _TOKEN.findall(text)


def count_tokens(text: str) -> int:
    """Number of tokens by the rule of this module."""
    if text.isascii():
        return -(-len(text) // 4)
    return len(tokenize(text))


def answer_pieces(tokens: int, seed: int) -> list[str]:
    """`tokens` pieces of one token each that stay `tokens` tokens when joined (four ASCII characters or one other)."""
    start = seed % len(_PIECES)
    stride = 1 + seed % 7
    return [_PIECES[(start + stride * index) % len(_PIECES)] for index in range(tokens)]


def digest(text: str) -> int:
    """A 63-bit number from a text, the same in every process."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big") >> 1


def natural_length(prompt: str, mean: int) -> int:
    """Length in tokens of the answer to a prompt that sets no limit: between half and one and a half times `mean`."""
    return max(1, mean // 2 + digest(prompt) % (mean + 1))


def content_text(content: Any) -> str:
    """The text of a message's content: a string, null, or a list of parts; a part without text counts as its JSON."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise ValueError("content must be a string, null or a list of parts")
    return "".join(
        part["text"] if isinstance(part, dict) and isinstance(part.get("text"), str) else json.dumps(part)
        for part in content
    )


def render_chat(messages: Sequence[Any], tools: Any = None) -> str:
    """The prompt a chat becomes: tools as JSON, then `<|role|>content` per message, then `<|assistant|>`.

    Raises ValueError for a message that is not an object with a string `role` and a content as `content_text` takes it.
    """
    parts = [json.dumps(tools, ensure_ascii=False, sort_keys=True)] if tools else []
    for message in messages:
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise ValueError("every message needs a role")
        parts.append(f"<|{message['role']}|>{content_text(message.get('content'))}")
        if message.get("tool_calls"):
            parts.append(json.dumps(message["tool_calls"], ensure_ascii=False))
    return "".join([*parts, "<|assistant|>"])


def block_hashes(text: str, block_size: int, seed: str) -> tuple[int, ...]:
    """Chained hashes of the full blocks of `block_size` tokens; `seed`: what sets equal text apart (model, salt)."""
    if text.isascii():
        width = 4 * block_size
        full = count_tokens(text) // block_size
        blocks = [text[index * width : (index + 1) * width] for index in range(full)]
    else:
        tokens = tokenize(text)
        blocks = [
            "".join(tokens[start : start + block_size]) for start in range(0, len(tokens) - block_size + 1, block_size)
        ]
    hashes, previous = [], hashlib.blake2b(seed.encode(), digest_size=8).digest()
    for block in blocks:
        previous = hashlib.blake2b(previous + block.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        hashes.append(int.from_bytes(previous, "big"))
    return tuple(hashes)


def usage(prompt: int, completion: int, cached: int = 0, reasoning: int = 0) -> dict[str, Any]:
    """OpenAI's chat usage object; `completion` includes `reasoning`, `prompt` includes `cached`."""
    result: dict[str, Any] = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached},
    }
    if reasoning:
        result["completion_tokens_details"] = {"reasoning_tokens": reasoning}
    return result


def embedding(text: str, dimensions: int, encoding: str) -> list[float] | str:
    """A vector in [-1, 1] that depends on the text only; `encoding` is `float` or `base64` (little-endian float32)."""
    raw = hashlib.shake_256(text.encode("utf-8", "surrogatepass")).digest(dimensions)
    values = [(byte - 127.5) / 127.5 for byte in raw]
    if encoding == "base64":
        return base64.b64encode(struct.pack(f"<{dimensions}f", *values)).decode()
    return values


def tool_arguments(tool: Any) -> str:
    """JSON arguments for a function tool: an example value for every property of its parameter schema."""
    schema = tool.get("function", {}).get("parameters") or {}
    examples = {"string": "杭州", "integer": 7, "number": 0.5, "boolean": True, "array": [], "object": {}}
    properties = schema.get("properties") or {}
    return json.dumps(
        {name: examples.get(kind.get("type", "string"), "杭州") for name, kind in properties.items()},
        ensure_ascii=False,
    )


def error_body(message: str, kind: str, code: str | int | None = None, param: str | None = None) -> dict[str, Any]:
    """OpenAI's error object."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}
