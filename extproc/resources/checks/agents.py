"""Checks of where agents report: addresses, token, certificates, and pools that only agents fill."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from ipaddress import ip_address

from extproc.resources import addresses
from extproc.resources.checks.destinations import check_key
from extproc.resources.checks.gateway import bad_certificates
from extproc.resources.checks.scope import Located, Scope
from extproc.resources.kinds.gateway import Agents, AgentTls, Gateway
from extproc.resources.kinds.pool import InferencePool
from extproc.resources.problems import Problem
from extproc.resources.shape import Path

_PLACE: Path = ("spec", "agents")


def check_agents(scope: Scope) -> Iterator[Problem]:
    """All checks of what concerns agents."""
    for at, gateway in scope.of(Gateway):
        if gateway.spec.agents is not None:
            yield from _address(at, gateway, gateway.spec.agents)
            yield from check_key(scope, at, (*_PLACE, "token"), gateway.spec.agents.token)
            if gateway.spec.agents.tls is not None:
                yield from _tls(scope, at, gateway.spec.agents.tls)
    if scope.complete and scope.snapshot.gateway.spec.agents is None:
        for at, pool in scope.of(InferencePool):
            if pool.spec.membership == "agents":
                hint = "add `agents: {token: ${NAME}}` to the spec of the Gateway"
                yield at.error(("spec", "membership"), "no agent can register, as the Gateway has no `agents`", hint)


def _address(at: Located, gateway: Gateway, agents: Agents) -> Iterator[Problem]:
    if not addresses.is_ip(agents.address):
        hint = "write `127.0.0.1` for this machine only, `0.0.0.0` for all its addresses"
        yield at.error((*_PLACE, "address"), "expected an IP address", hint)
    elif agents.tls is None and not agents.insecure and not ip_address(agents.address).is_loopback:
        hint = "add `tls: {cert, key}`, or `insecure: true` where the network is trusted"
        yield at.error((*_PLACE, "address"), "other machines reach this address, and nothing is encrypted", hint)
    for name, other in (("listener", gateway.spec.listener), ("admin", gateway.spec.admin)):
        same = agents.address == other.address or any(
            addresses.is_ip(text) and ip_address(text).is_unspecified for text in (agents.address, other.address)
        )
        if same and agents.port == other.port:
            yield at.error((*_PLACE, "port"), f"`{name}` has this address and port already")


def _tls(scope: Scope, at: Located, tls: AgentTls) -> Iterator[Problem]:
    cert, key = scope.snapshot.directory / tls.cert, scope.snapshot.directory / tls.key
    missing = False
    for name, file in (("cert", cert), ("key", key)):
        try:
            file.open("rb").close()
        except (OSError, ValueError) as error:
            missing = True
            why = error.strerror if isinstance(error, OSError) else "not a valid file name"
            yield at.error((*_PLACE, "tls", name), f"file {file} cannot be read: {why}")
    if not missing:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, password=lambda: b"")
        except (ssl.SSLError, ValueError) as error:
            reason = getattr(error, "reason", None) or "encrypted or no PEM"
            yield at.error((*_PLACE, "tls"), f"`cert` and `key` are no pair that can be used: {reason}")
    if tls.client_ca is not None and (said := bad_certificates(scope.snapshot.directory / tls.client_ca)):
        yield at.error((*_PLACE, "tls", "clientCa"), said)
