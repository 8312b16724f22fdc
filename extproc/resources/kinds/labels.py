"""Labels that the gateway gives to requests, for the traffic policies to use."""

from __future__ import annotations

from extproc.resources.base import Spec


class Label(Spec, frozen=True, kw_only=True):
    """Where a label's value comes from: one of `header`, `claim` and `cel`, or `value` alone."""

    header: str | None = None
    """Request header that holds it. A client can write into it what it likes."""
    claim: str | None = None
    """Claim of a verified token, such as `sub` or `realm.team`."""
    cel: str | None = None
    """Expression in the Common Expression Language over the other labels, such as
    `labels["tenant"] in ["acme", "globex"] ? "gold" : "bronze"`. It can read the labels that are declared above it."""
    value: str | None = None
    """What it is where header, claim or expression give nothing."""
