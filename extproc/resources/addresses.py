"""Hosts and addresses as manifests write them."""

from __future__ import annotations

import ipaddress
import re

_LABEL = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST = re.compile(rf"{_LABEL}(\.{_LABEL})*")
_ADDRESS = re.compile(r"(\[(?P<v6>[^\]]*)\]|(?P<name>[^:\[\]]+)):(?P<port>[0-9]{1,5})")

EXPECTED = "expected `IP:PORT`, `[IPv6]:PORT` or `NAME:PORT`"


def split(address: str) -> tuple[str, int]:
    """Host and port of `IP:PORT`, `[IPv6]:PORT` or `NAME:PORT`. Raises ValueError that says what is wrong."""
    if "://" in address:
        raise ValueError(f"an address has no scheme: {EXPECTED}")
    if (match := _ADDRESS.fullmatch(address)) is None:
        raise ValueError(EXPECTED)
    port = int(match["port"])
    if not 1 <= port <= 65535:
        raise ValueError("the port must be from 1 to 65535")
    if match["v6"] is not None:
        if not is_ip(match["v6"]) or ":" not in match["v6"]:
            raise ValueError(f"not an IPv6 address: {EXPECTED}")
        return match["v6"], port
    name = match["name"]
    looks_numeric = re.fullmatch(r"[0-9.]+", name) is not None
    if (looks_numeric and not is_ip(name)) or not is_host(name.lower()):
        raise ValueError(f"not an IP address or DNS name: {EXPECTED}")
    return name, port


def is_ip(text: str) -> bool:
    """Is this an IPv4 or IPv6 address, without a zone?"""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text


def is_host(text: str) -> bool:
    """Is this a DNS name in lower case, or an IPv4 address?"""
    return len(text) <= 253 and _HOST.fullmatch(text) is not None


def bad_host(host: str, port_hint: str) -> tuple[str, str] | None:
    """What is wrong with a host, and a hint; None for a good one. `port_hint` says where a port belongs."""
    scheme, separator, rest = host.partition("://")
    if separator:
        return f"a host has no scheme (`{scheme}://`)", f"write `{rest.split('/')[0]}`"
    if "/" in host:
        return "a host has no path", f"write `{host.split('/')[0]}`"
    name, separator, port = host.rpartition(":")
    if separator and port.isdigit() and is_host(name.lower()):
        return "a host has no port", f"write `{name}`{port_hint}"
    if is_host(host):
        return None
    if is_host(host.lower()):
        return "a host is written in lower case", f"write `{host.lower()}`"
    return "not a valid host name", ""
