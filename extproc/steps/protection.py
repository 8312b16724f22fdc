"""What the Envoy in front of the filter keeps a request from while the filter is away, as its routes were rendered.

Envoy says it at the beginning of every stream to the filter, in a header that neither clients nor destinations reach.
"""

from __future__ import annotations

from enum import IntEnum

import msgspec

HEADER = "x-sluice-envoy"
"""gRPC metadata of a stream: `DIGEST/LEVEL`. Other gateways than a rendered Envoy do not send it."""


class Protection(IntEnum):
    """What happens on a route without the filter; each level includes those before it."""

    OPEN = 0
    """Requests pass to a pool."""
    CLOSED = 1
    """Requests are answered with 503."""
    ANSWERS = 2
    """Also the rest of an answer does not pass where the filter ends in the middle of it."""


class Rendered(msgspec.Struct, frozen=True):
    """What an Envoy says of itself and of the route that a request has."""

    digest: str
    """Of the configuration that it was rendered from."""
    protection: Protection

    def written(self) -> str:
        return f"{self.digest}/{self.protection.name.lower()}"


def read(text: str | None) -> Rendered | None:
    """None where the gateway does not say it. What cannot be read protects nothing."""
    if text is None:
        return None
    digest, _, level = text.partition("/")
    known = {each.name.lower(): each for each in Protection}
    return Rendered(digest[:64], known.get(level, Protection.OPEN))
