"""Who sends a request: the configured header, or the caller's address looked up in the gateway's `sources`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address

from extproc.steps.head import UNKNOWN, RequestHead

_CACHE_LIMIT = 10_000
PEER_ADDRESS = "x-envoy-external-address"
"""Set by Envoy to the address of the peer that it trusts to be the client."""


@dataclass(frozen=True, slots=True)
class CallerSource:
    """Callers of some networks; no networks means every caller."""

    name: str
    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)

    def holds(self, address: str) -> bool:
        if not self.networks:
            return True
        try:
            ip = ip_address(address)
        except ValueError:
            return False
        return any(ip in network for network in self.networks)


class Identity:
    """Finds the source of a request; addresses seen before cost one dictionary lookup."""

    __slots__ = ("_by_address", "_header", "_sources")

    def __init__(self, sources: tuple[CallerSource, ...] = (), header: str | None = None) -> None:
        self._sources = sources
        self._header = header
        self._by_address: dict[str, CallerSource | None] = {}

    def identify(self, head: RequestHead) -> None:
        """Fills `head.source` and `head.source_labels`, from what Envoy says of the peer: clients cannot forge that."""
        source = self._find(head) if self._sources else None
        if source is not None:
            head.source = source.name
            head.source_labels = source.labels
        named = head.text(self._header) if self._header else None
        head.source = named or head.source or UNKNOWN

    def _find(self, head: RequestHead) -> CallerSource | None:
        address = head.text(PEER_ADDRESS) or ""
        try:
            return self._by_address[address]
        except KeyError:
            found = next((source for source in self._sources if source.holds(address)), None)
            if len(self._by_address) >= _CACHE_LIMIT:
                self._by_address.clear()
            self._by_address[address] = found
            return found
