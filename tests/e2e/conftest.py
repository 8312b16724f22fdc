"""Shared parts of the end-to-end tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bench.certs import Certificates, make_certificates
from tests.support.far_side import FarSide
from tests.support.gateway import Gateways

HOSTS = ("dashscope.aliyuncs.com", "api.moonshot.cn", "api.example.com")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "/e2e/" in str(item.path):
            item.add_marker("e2e")


@pytest.fixture(scope="session")
def far_side() -> Iterator[FarSide]:
    with FarSide() as far:
        yield far


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Of a throw-away authority, good for every provider host that the tests use."""
    return make_certificates(tmp_path_factory.mktemp("certificates"), HOSTS)


@pytest.fixture(scope="module")
def gateways(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateways]:
    with Gateways(tmp_path_factory.mktemp("gateways")) as all_:
        yield all_
