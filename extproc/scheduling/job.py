"""What flow control knows of one request."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, Protocol

import msgspec

Unit = Literal["requests", "tokens"]
Reserve = Literal["predicted", "max_tokens"]


class Spent(Protocol):
    """Real usage of one exchange; the gateway's `Usage` is one."""

    @property
    def prompt_tokens(self) -> int: ...

    @property
    def completion_tokens(self) -> int: ...


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One request before it is admitted. Labels are complete: whoever makes the job has computed them."""

    id: str
    """Unique among all requests of all replicas while it is in flight: it names the request's slots."""
    labels: Mapping[str, str] = {}
    prompt_tokens: int = 0
    """Estimated."""
    output_tokens: int = 0
    """Predicted."""
    max_tokens: int | None = None
    """What the client asked for at most."""
    open_ended: bool = False
    """Whether its answer may be as long as the model lets it be."""
    endpoint: str = ""
    """Destination, as far as it is known before admission: what service-time estimates are kept by."""
    cache_key: str = ""
    """From `cache.cache_key`; empty: the answer is neither looked up nor kept."""

    @property
    def expected_output(self) -> int:
        """Predicted output, which cannot exceed what the client asked for."""
        return self.output_tokens if self.max_tokens is None else min(self.output_tokens, self.max_tokens)

    def cost(self, unit: Unit, reserve: Reserve = "predicted", most: float = math.inf) -> float:
        """What is reserved before the request is sent; at least 1. Where all that an answer may take is reserved and
        nothing limits it, that is all that there is, `most`."""
        if unit == "requests":
            return 1
        if reserve == "max_tokens" and self.max_tokens is not None:
            return max(1, self.prompt_tokens + self.max_tokens)
        usual = max(1, self.prompt_tokens + self.expected_output)
        return max(usual, most) if reserve == "max_tokens" and self.open_ended and math.isfinite(most) else usual


def spent_tokens(usage: Spent | None) -> int:
    """Tokens that an exchange has used; none where it came to nothing."""
    return 0 if usage is None else usage.prompt_tokens + usage.completion_tokens
