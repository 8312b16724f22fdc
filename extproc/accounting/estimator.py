"""Tokens from bytes: a ratio per model, learned from the answers that did report usage.

Pure: no clock, no I/O. Prompt and completion have a ratio each, since templates, tool schemas and hidden reasoning make
them differ; so has the completion of a stream, most of whose bytes are the frame around each token. A ratio is a
decayed ratio of sums, tokens over bytes, so that an answer counts by its size:

    q = T / B                        tokens per byte
    s = min(1, SAMPLE_BYTES / b)     one huge prompt (an image, a book) weighs no more than SAMPLE_BYTES
    t' = min(max(t, q*b / OUTLIER), q*b * OUTLIER)
    T <- DECAY*T + s*t'
    B <- DECAY*B + s*b

A one-word answer says little about a tokenizer and weighs little; an absurd usage block moves the ratio by a bounded
step.
"""

from __future__ import annotations

import math
from collections import OrderedDict

from extproc.payload.usage import Usage

BYTES_PER_TOKEN = 4.0
"""Before anything is learned: English text in current vocabularies, and close to Chinese in UTF-8 (3 bytes a character,
0.6 to 0.8 tokens)."""
PRIOR_BYTES = 256.0
"""Weight of that starting value: one short chat outweighs it."""
EVENT_BYTES_PER_TOKEN = 200.0
"""The same for event streams: one token an event, as OpenAI, vLLM and SGLang send them."""
PRIOR_EVENT_BYTES = 2048.0
SAMPLE_BYTES = 16_384.0
"""Most that one answer can weigh."""
DECAY = 0.98
"""Memory of about 50 answers."""
OUTLIER = 4.0
"""One answer may report at most this many times more, or fewer, tokens than expected."""
MAX_MODELS = 1024
MAX_NAME = 128


class Ratio:
    """Tokens per byte of one model in one direction."""

    __slots__ = ("_bytes", "_tokens")

    def __init__(self, bytes_per_token: float = BYTES_PER_TOKEN, weight: float = PRIOR_BYTES) -> None:
        self._bytes = weight
        self._tokens = weight / bytes_per_token

    def learn(self, size: int, tokens: int) -> None:
        """Take one observation in. A direction without bytes or tokens teaches nothing."""
        if size <= 0 or tokens <= 0:
            return
        expected = self._tokens / self._bytes * size
        tokens_used = min(max(tokens, expected / OUTLIER), expected * OUTLIER)
        scale = min(1.0, SAMPLE_BYTES / size)
        self._tokens = DECAY * self._tokens + scale * tokens_used
        self._bytes = DECAY * self._bytes + scale * size

    def tokens(self, size: int) -> int:
        """Expected tokens, rounded up, so that anything there is counts as at least one."""
        return math.ceil(self._tokens / self._bytes * size) if size > 0 else 0

    def __repr__(self) -> str:
        return f"<Ratio {self._bytes / self._tokens:.3f} bytes per token>"


class _Model:
    __slots__ = ("_completion", "_events", "answer", "prompt")

    def __init__(self) -> None:
        self.answer = 0.0
        """Mean tokens of an answer; 0 before the first."""
        self.prompt = Ratio()
        self._completion = Ratio()
        self._events = Ratio(EVENT_BYTES_PER_TOKEN, PRIOR_EVENT_BYTES)

    def completion(self, *, events: bool) -> Ratio:
        return self._events if events else self._completion


_UNKNOWN = _Model()
"""Stands for every model of which nothing was learned; never taught."""


class Estimator:
    """Ratios of the models seen last, at most `max_models`; the one unused longest is forgotten."""

    def __init__(self, max_models: int = MAX_MODELS) -> None:
        self._models: OrderedDict[str, _Model] = OrderedDict()
        self._max_models = max_models

    def learn(
        self, model: str, prompt_bytes: int, completion_bytes: int, usage: Usage, *, events: bool = False
    ) -> None:
        """Take in an answer whose usage came from the model server; `events`: it was an event stream."""
        name = model[:MAX_NAME]
        known = self._models.get(name)
        if known is None:
            known = self._models[name] = _Model()
            if len(self._models) > self._max_models:
                self._models.popitem(last=False)
        else:
            self._models.move_to_end(name)
        known.prompt.learn(prompt_bytes, usage.prompt_tokens)
        known.completion(events=events).learn(completion_bytes, usage.completion_tokens)
        if usage.completion_tokens > 0:
            known.answer += (1 - DECAY if known.answer else 1.0) * (usage.completion_tokens - known.answer)

    def estimate(self, model: str, prompt_bytes: int, completion_bytes: int, *, events: bool = False) -> Usage:
        """Usage of an answer that reported none. Cached and reasoning tokens cannot be told from sizes and stay 0."""
        known = self._known(model)
        return Usage(
            prompt_tokens=known.prompt.tokens(prompt_bytes),
            completion_tokens=known.completion(events=events).tokens(completion_bytes),
        )

    def expect(self, model: str, prompt_bytes: int) -> tuple[int, int]:
        """Expected prompt and completion tokens of a request that has not been answered yet; 0 is unknown."""
        known = self._known(model)
        return known.prompt.tokens(prompt_bytes), round(known.answer)

    def _known(self, model: str) -> _Model:
        name = model[:MAX_NAME]
        known = self._models.get(name)
        if known is None:
            return _UNKNOWN
        self._models.move_to_end(name)
        return known

    def __len__(self) -> int:
        return len(self._models)

    def __repr__(self) -> str:
        return f"<Estimator of {len(self._models)} models, at most {self._max_models}>"
