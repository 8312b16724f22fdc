"""Checks of `Gateway`: addresses, callers, tokens, certificates."""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Iterator
from pathlib import Path as FilePath
from urllib.parse import urlsplit

import msgspec

from extproc.resources import addresses
from extproc.resources.checks.scope import Located, Scope
from extproc.resources.kinds.gateway import Gateway, JwtProvider, Source
from extproc.resources.problems import Problem, nearest
from extproc.resources.shape import Path

_MAX_BYTES = 4 * 2**20


def check_gateway(scope: Scope) -> Iterator[Problem]:
    """All checks of the gateway."""
    for at, gateway in scope.of(Gateway):
        spec = gateway.spec
        yield from _listeners(at, gateway)
        yield from _aliases(scope, at, spec.host_aliases)
        yield from _sources(at, spec.sources)
        yield from _tokens(scope, at, spec.jwt)
        if spec.trusted_ca is not None and (said := bad_certificates(scope.snapshot.directory / spec.trusted_ca)):
            yield at.error(("spec", "trustedCa"), said)


def bad_certificates(file: FilePath) -> str:
    """Why a file does not hold trusted certificates, or nothing."""
    try:
        # Only comments can hold other characters than ASCII, and OpenSSL skips them.
        ascii_text = _read(file).encode("ascii", "replace").decode("ascii")
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=ascii_text)
    except ssl.SSLError:
        return f"file {file} holds no PEM certificates"
    except ValueError as error:
        return str(error)
    return ""


def bad_key_set(text: str) -> str:
    """Why a text is not a JSON Web Key Set (RFC 7517), or nothing."""
    try:
        found = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return "not valid JSON"
    keys = found.get("keys") if isinstance(found, dict) else None
    if not isinstance(keys, list) or not keys:
        return "not a key set: expected an object with a list `keys`"
    if not all(isinstance(key, dict) and isinstance(key.get("kty"), str) for key in keys):
        return "not a key set: every key is an object with `kty`"
    return ""


def _read(file: FilePath) -> str:
    """Text of a file. Raises ValueError that says why there is none."""
    try:
        with file.open("rb") as stream:
            raw = stream.read(_MAX_BYTES + 1)
    except OSError as error:
        raise ValueError(f"file {file} cannot be read: {error.strerror}") from None
    except ValueError:
        raise ValueError("not a valid file name") from None
    if len(raw) > _MAX_BYTES:
        raise ValueError(f"file {file} is larger than {_MAX_BYTES} bytes")
    if not raw.strip():
        raise ValueError(f"file {file} is empty")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"file {file} is not text") from None


def _listeners(at: Located, gateway: Gateway) -> Iterator[Problem]:
    listener, admin = gateway.spec.listener, gateway.spec.admin
    for name, address in (("listener", listener.address), ("admin", admin.address)):
        if not addresses.is_ip(address):
            hint = "write `127.0.0.1` for this machine only, `0.0.0.0` for all its addresses"
            yield at.error(("spec", name, "address"), "expected an IP address", hint)
    if (listener.address, listener.port) == (admin.address, admin.port):
        yield at.error(("spec", "admin", "port"), "the listener has this address and port already")


def _aliases(scope: Scope, at: Located, aliases: dict[str, str]) -> Iterator[Problem]:
    hosts = {provider.spec.host for provider in scope.snapshot.providers.values()}
    for host, address in aliases.items():
        path: Path = ("spec", "hostAliases", host)
        try:
            name, _ = addresses.split(address)
            if not addresses.is_ip(name):
                yield at.error(path, "expected `IP:PORT` or `[IPv6]:PORT`: an alias is there to do without DNS")
        except ValueError:
            yield at.error(path, "not a valid address: expected `IP:PORT` or `[IPv6]:PORT`")
        if host not in hosts and scope.complete:
            yield at.warning(path, "no LLMProvider has this host", nearest(host, hosts))


def _sources(at: Located, sources: list[Source]) -> Iterator[Problem]:
    everyone: int | None = None
    for index, source in enumerate(sources):
        path: Path = ("spec", "sources", index)
        if everyone is not None:
            hint = f"`sources[{everyone}]` before it has no cidrs and fits every caller"
            yield at.warning(path, "this source never fits", hint)
        elif not source.cidrs:
            everyone = index
        for position, cidr in enumerate(source.cidrs):
            try:
                ipaddress.ip_network(cidr, strict=False)
            except ValueError:
                yield at.error((*path, "cidrs", position), "expected an address range such as `10.0.0.0/8`")


def _tokens(scope: Scope, at: Located, providers: list[JwtProvider]) -> Iterator[Problem]:
    names: set[str] = set()
    for index, provider in enumerate(providers):
        path: Path = ("spec", "jwt", index)
        if provider.name in names:
            yield at.error((*path, "name"), "another entry has this name")
        names.add(provider.name)
        said = _bad_url(provider.jwks) if provider.by_url else _bad_jwks(scope, provider.jwks)
        if said:
            yield at.error((*path, "jwks"), said)


def _bad_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        usable = bool(parts.hostname) and parts.port != 0 and parts.username is None
    except ValueError:
        usable = False
    return "" if usable and not any(map(str.isspace, url)) else "not a URL that keys can be got from"


def _bad_jwks(scope: Scope, jwks: str) -> str:
    if not jwks.startswith("file:"):
        return bad_key_set(jwks)
    file = scope.snapshot.directory / jwks.removeprefix("file:")
    try:
        said = bad_key_set(_read(file))
    except ValueError as error:
        return str(error)
    return f"file {file}: {said}" if said else ""
