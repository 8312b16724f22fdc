from __future__ import annotations

import datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from extproc.resources.checks.gateway import bad_key_set
from tests.resources.manifests import PROVIDER, gateway, said


def certificate() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    start = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(start).not_valid_after(start + datetime.timedelta(days=9999))
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (None, "file ca.pem cannot be read: No such file or directory"),
        (b"", "file ca.pem is empty"),
        (b"not a certificate", "file ca.pem holds no PEM certificates"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "file ca.pem holds no PEM certificates"),
        ("证书".encode(), "file ca.pem holds no PEM certificates"),
        (b"\xff\xfe\x00", "file ca.pem is not text"),
    ],
)
def test_trusted_certificates_that_cannot_be_used(tmp_path: Path, raw: bytes | None, expected: str) -> None:
    if raw is not None:
        (tmp_path / "ca.pem").write_bytes(raw)
    assert said(tmp_path, a=gateway("trustedCa: ca.pem\n")) == [f"a.yaml:5: Gateway/main $.spec.trustedCa: {expected}"]


def test_trusted_certificates_with_comments(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_bytes("# 证书\n".encode() + certificate() + certificate())
    assert said(tmp_path, a=gateway("trustedCa: ca.pem\n")) == []


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (
            "hostAliases: {api.acme.example: localhost:443}",
            '.hostAliases["api.acme.example"]: expected `IP:PORT` or `[IPv6]:PORT`: an alias is there to do '
            "without DNS",
        ),
        (
            "hostAliases: {api.acme.example: 127.0.0.1}",
            '.hostAliases["api.acme.example"]: not a valid address: expected `IP:PORT` or `[IPv6]:PORT`',
        ),
        (
            "sources: [{name: a, cidrs: [10.0.0.0/33]}]",
            ".sources[0].cidrs[0]: expected an address range such as `10.0.0.0/8`",
        ),
        (
            "jwt: [{name: a, issuer: i, jwks: '{}'}]",
            ".jwt[0].jwks: not a key set: expected an object with a list `keys`",
        ),
        (
            "jwt: [{name: a, issuer: i, jwks: 'file:none'}]",
            ".jwt[0].jwks: file none cannot be read: No such file or directory",
        ),
        ("jwt: [{name: a, issuer: i, jwks: 'file:bad.json'}]", ".jwt[0].jwks: file bad.json: not valid JSON"),
        (
            "listener: {address: localhost}",
            ".listener.address: expected an IP address; write `127.0.0.1` for this machine only, `0.0.0.0` for all its "
            "addresses",
        ),
        ("admin: {port: 10000}", ".admin.port: the listener has this address and port already"),
        ("limits: {requestBody: 0}", ".limits.requestBody: must be more than 0 and less than 4GiB"),
        (
            "limits: {requestBody: 5 MB}",
            ".limits.requestBody: '5 MB' is not a size: write bytes or a number with a unit, such as 512KiB or 32MiB",
        ),
        ("telemetry: {sourceHeader: 'a:'}", ".telemetry.sourceHeader: not a valid header name"),
    ],
)
def test_values_of_the_gateway(tmp_path: Path, spec: str, expected: str) -> None:
    (tmp_path / "bad.json").write_text("{")
    found = said(tmp_path, a=gateway(f"{spec}\n"), b=PROVIDER)
    assert found == [f"a.yaml:5: Gateway/main $.spec{expected}"]


def test_an_alias_for_no_provider(tmp_path: Path) -> None:
    assert said(tmp_path, a=gateway("hostAliases: {api.acme.exampel: '127.0.0.1:1'}\n"), b=PROVIDER) == [
        'a.yaml:5: warning: Gateway/main $.spec.hostAliases["api.acme.exampel"]: no LLMProvider has this host; '
        "did you mean `api.acme.example`? (allowed: api.acme.example)"
    ]


def test_a_source_behind_one_that_fits_everybody(tmp_path: Path) -> None:
    (found,) = said(tmp_path, a=gateway("sources: [{name: all}, {name: never, cidrs: [10.0.0.0/8]}]\n"))
    assert found == (
        "a.yaml:5: warning: Gateway/main $.spec.sources[1]: this source never fits; `sources[0]` before it has no "
        "cidrs and fits every caller"
    )


def test_two_issuers_of_one_name(tmp_path: Path) -> None:
    entry = """{name: j, issuer: i, jwks: '{"keys": [{"kty": "EC"}]}'}"""
    assert said(tmp_path, a=gateway(f"jwt: [{entry}, {entry}]\n")) == [
        "a.yaml:5: Gateway/main $.spec.jwt[1].name: another entry has this name"
    ]


@pytest.mark.parametrize("text", ["", "[]", '{"keys": []}', '{"keys": [1]}', '{"keys": [{}]}', "[" * 20000])
def test_texts_that_are_no_key_set(text: str) -> None:
    assert bad_key_set(text)
