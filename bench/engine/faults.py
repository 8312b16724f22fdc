"""Failures a simulated engine can be told to have, at start or at run time."""

from __future__ import annotations

import json
import random
from typing import Any, Literal

import msgspec


class Faults(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is wrong with the engine. `probability` applies to `status` and `reset`.

    `slow` multiplies every step's duration. `hang` accepts and never answers: `requests` only those for inference,
    `all` everything but `/_control`. `status` answers inference with an error. `reset` is a TCP RST before or after the
    response headers, or after half of the answer. `metrics` changes what `/metrics` says; `slow` delays it by
    `metrics_delay` seconds.
    """

    slow: float = 1.0
    hang: Literal["off", "requests", "all"] = "off"
    status: int | None = None
    reset: Literal["before-headers", "after-headers", "mid-stream"] | None = None
    probability: float = 1.0
    metrics: Literal["ok", "off", "garbage", "nan", "slow"] = "ok"
    metrics_delay: float = 5.0

    def __post_init__(self) -> None:
        if not self.slow > 0:
            raise ValueError("slow must be positive")
        if self.status is not None and not 400 <= self.status <= 599:
            raise ValueError("status must be an error status, 400 to 599")
        if not 0 <= self.probability <= 1:
            raise ValueError("probability must be in [0, 1]")

    def patched(self, changes: dict[str, Any]) -> Faults:
        """These faults with some fields replaced; `hang: true` means `all`. Raises msgspec.ValidationError."""
        if isinstance(hang := changes.get("hang"), bool):
            changes = {**changes, "hang": "all" if hang else "off"}
        return msgspec.convert({**msgspec.structs.asdict(self), **changes}, Faults)

    def strikes(self, dice: random.Random) -> bool:
        """Whether `status` or `reset` hits the request at hand."""
        return (self.status is not None or self.reset is not None) and dice.random() < self.probability


def parse_setting(text: str) -> tuple[str, Any]:
    """`NAME=VALUE` from a command line; the value is JSON if it can be read so, a string otherwise."""
    name, separator, value = text.partition("=")
    if not separator:
        raise ValueError(f"{text!r} is not NAME=VALUE")
    try:
        return name.replace("-", "_"), json.loads(value)
    except ValueError:
        return name.replace("-", "_"), value
