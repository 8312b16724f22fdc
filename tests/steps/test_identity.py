"""Who a request is from."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from extproc.steps.head import UNKNOWN, RequestHead
from extproc.steps.identity import PEER_ADDRESS, CallerSource, Identity

OFFICE = CallerSource("office", (ip_network("10.0.0.0/8"),), {"app": "chat"})
SIX = CallerSource("six", (ip_network("2001:db8::/32"),))
REST = CallerSource("rest")


@pytest.mark.parametrize(
    ("address", "name"),
    [("10.1.2.3", "office"), ("2001:db8::1", "six"), ("192.0.2.1", "rest"), ("garbage", "rest"), ("", "rest")],
)
def test_the_first_source_that_holds_the_peer_names_it(address: str, name: str) -> None:
    identity = Identity((OFFICE, SIX, REST))
    for _ in range(2):  # looked up, then remembered
        head = RequestHead({PEER_ADDRESS: address.encode()})
        identity.identify(head)
        assert head.source == name
    assert head.source_labels == ({"app": "chat"} if name == "office" else {})


def test_a_header_names_the_source_but_gives_no_labels() -> None:
    head = RequestHead({"x-team": b"red", PEER_ADDRESS: b"10.1.2.3"})
    Identity((OFFICE,), "x-team").identify(head)
    assert (head.source, head.source_labels) == ("red", {"app": "chat"})


def test_nobody_known_is_unknown() -> None:
    head = RequestHead({PEER_ADDRESS: b"192.0.2.1", "x-forwarded-for": b"10.1.2.3"})
    Identity((OFFICE,)).identify(head)
    assert (head.source, head.source_labels) == (UNKNOWN, {})


def test_addresses_are_remembered_within_a_bound() -> None:
    identity = Identity((REST,))
    for i in range(25_000):
        identity.identify(RequestHead({PEER_ADDRESS: f"h{i}".encode()}))
    assert len(identity._by_address) <= 10_000
