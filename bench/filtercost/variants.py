"""What is compared, and under which loads."""

from __future__ import annotations

from dataclasses import dataclass

from bench.filtercost.manifests import REWRITE_HOST, STEER_HOST

LANES = ("none", "plain", "own", "grpcio", "sluice", "native")
"""One Envoy each: without filter, with the two empty filters, with Sluice on the gRPC library, with Sluice as it is,
and with Sluice where Envoy counts tokens."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One row of the table under each load."""

    title: str
    lane: str
    host: str = STEER_HOST
    edits: bool = False
    """The destination gets another model than the client asked for."""
    native: bool = False
    """Envoy counts tokens, so that the filter sees no events."""
    steers: bool = False
    """The filter chooses the endpoint."""


@dataclass(frozen=True, slots=True)
class Load:
    """What clients do during one measurement."""

    name: str
    body: int
    """Bytes of a request body."""
    variants: tuple[Variant, ...]
    connections: int = 1
    seconds: float = 1.5
    rounds: int = 4
    stream: bool = False
    count: int | None = None
    """Send exactly so many requests instead of as many as `seconds` allow."""


NONE = Variant("no filter", "none")
EMPTY = Variant("empty filter", "plain")
OWN = Variant("empty filter, Sluice's transport", "own")
REWRITE = Variant("Sluice: route + rewrite", "sluice", REWRITE_HOST, edits=True)
STEER = Variant("Sluice: + least-loaded", "sluice", edits=True, steers=True)
COUNT = Variant("Sluice: + SSE accounting", "sluice", edits=True, steers=True)
NATIVE = Variant("Sluice: tokens counted by Envoy", "native", edits=True, steers=True, native=True)
STEER_GRPCIO = Variant("the same on the gRPC library", "grpcio", edits=True, steers=True)

_ALL = (NONE, EMPTY, OWN, REWRITE, STEER, STEER_GRPCIO)
_SIZES = (NONE, EMPTY, OWN, STEER)
_STREAMS = (NONE, EMPTY, OWN, COUNT, NATIVE, STEER_GRPCIO)

ALONE = Load("1 KB, one connection", 1000, _ALL, rounds=7, seconds=1.0)
SMALL = Load("1 KB", 1000, _ALL, connections=16, rounds=7, seconds=1.5)
STREAM = Load("SSE, 200 events, per event", 1000, _STREAMS, connections=8, rounds=5, seconds=2.0, stream=True)
MEDIUM = Load("100 KB", 100_000, _SIZES, connections=8, rounds=5)
LARGE = Load("1 MB", 1_000_000, _SIZES, connections=4, rounds=7)
HUGE = Load("25 MB, one connection", 25_000_000, _SIZES, count=4, rounds=3)

LOADS = (ALONE, SMALL, STREAM, MEDIUM, LARGE, HUGE)
