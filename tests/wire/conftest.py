"""What the tests of streams have in common."""

from __future__ import annotations

import pytest

from extproc.wire.server import TransportName


@pytest.fixture(params=["http2", "grpcio"])
def transport(request: pytest.FixtureRequest) -> TransportName:
    """Both, as Envoy must not notice which one carries its streams."""
    name: TransportName = request.param
    return name
