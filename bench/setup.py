"""Where the quickstart's parts live, read from its manifests."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509

from bench.certs import Certificates, make_certificates
from extproc.resources.addresses import split
from extproc.resources.load import load

LOCAL = "127.0.0.1"
HOSTS = ("dashscope.aliyuncs.com", "api.moonshot.cn")
"""Providers that the simulated certificate is good for."""
KEYS = {"dashscope的API_KEY": "sk-simulated-dashscope", "Moonshot的API_KEY": "sk-simulated-moonshot"}
"""Environment variables under the names that the printed manifests use."""


class TakenError(Exception):
    """A port that the quickstart needs is in use. The message says which, by whom to find out, and where it is set."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What has to run, and where."""

    directory: Path
    url: str
    """The gateway, for clients."""
    admin: str
    keys: tuple[str, ...]
    """What the simulated providers accept."""
    providers: Mapping[int, tuple[str, ...]]
    """Port on this machine to the hosts served there."""
    engines: Mapping[int, tuple[str, ...]]
    """Port on this machine to the models served there."""

    def ports(self) -> Iterator[tuple[int, str]]:
        """Every port and what it is for."""
        yield int(self.url.rpartition(":")[2]), "the gateway"
        yield int(self.admin.rpartition(":")[2]), "the admin pages"
        for port, hosts in self.providers.items():
            yield port, f"the simulated {' and '.join(hosts)}"
        for port, models in self.engines.items():
            yield port, f"a simulated engine with {' and '.join(models)}"


def certificates(directory: Path) -> Certificates:
    """Those of an earlier start as long as they are good for another day, so that a gateway that still runs keeps the
    authority it knows; else new ones."""
    found = Certificates(directory / "ca.pem", directory / "cert.pem", directory / "key.pem")
    if not (found.ca.exists() and found.cert.exists() and found.key.exists()):
        return make_certificates(directory, HOSTS)
    expires = x509.load_pem_x509_certificate(found.ca.read_bytes()).not_valid_after_utc
    return found if expires - datetime.now(UTC) > timedelta(days=1) else make_certificates(directory, HOSTS)


def read_setup(directory: Path, environ: Mapping[str, str]) -> Setup:
    """Raises ConfigurationError for manifests that cannot be used."""
    snapshot = load(directory, environ=environ)
    gateway = snapshot.gateway.spec
    providers: dict[int, tuple[str, ...]] = {}
    for host, alias in gateway.host_aliases.items():
        address, port = split(alias)
        if address == LOCAL:
            providers[port] = (*providers.get(port, ()), host)
    engines: dict[int, tuple[str, ...]] = {}
    for pool in snapshot.pools.values():
        for endpoint in pool.spec.endpoints:
            address, port = split(endpoint.address)
            if address == LOCAL:
                engines[port] = tuple(pool.spec.models) or (pool.metadata.name,)
    return Setup(
        directory=directory,
        url=f"http://{LOCAL}:{gateway.listener.port}",
        admin=f"http://{LOCAL}:{gateway.admin.port}",
        keys=tuple(environ[name] for name in KEYS),
        providers=providers,
        engines=engines,
    )


def claim_ports(setup: Setup) -> None:
    """Raises TakenError if a port is in use. Envoy would share one with another Envoy instead of failing."""
    for port, purpose in setup.ports():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOCAL, port))
            except OSError as error:
                raise TakenError(
                    f"Port {port} cannot be had for {purpose}: {error.strerror}.\n"
                    f"Is another `make run` still up? This shows who has it: ss -ltnp 'sport = :{port}'\n"
                    f"Another port can be set in {setup.directory}/*.yaml."
                ) from error
