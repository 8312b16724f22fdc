from __future__ import annotations

from pathlib import Path

import pytest

from bench.certs import make_certificates
from tests.resources.manifests import POOL, gateway, said

PLACE = "a.yaml:6: Gateway/main $.spec.agents"
ENVIRON = {"TOKEN": "t0ken", "KEY": "k"}


def agents(text: str) -> str:
    return gateway(f"agents:\n  {{{text}}}\n")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('token: "${TOKEN}"', None),
        ('token: "${TOKEN}", address: "::1"', None),
        ('token: "${TOKEN}", address: 0.0.0.0, insecure: true', None),
        (
            'token: "${TOKEN}", address: 0.0.0.0',
            ".address: other machines reach this address, and nothing is encrypted; "
            "add `tls: {cert, key}`, or `insecure: true` where the network is trusted",
        ),
        (
            'token: "${TOKEN}", address: localhost',
            ".address: expected an IP address; "
            "write `127.0.0.1` for this machine only, `0.0.0.0` for all its addresses",
        ),
        (
            'token: "${NONE}"',
            ".token: environment variable `NONE` is not set; set it, or write `${file:PATH}` to read a file",
        ),
        ('token: "${file:none}"', ".token: file none cannot be read: No such file or directory"),
        ('token: "${TOKEN}", port: 10000', ".port: `listener` has this address and port already"),
        ('token: "${TOKEN}", port: 10001', ".port: `admin` has this address and port already"),
        (
            'token: "${TOKEN}", port: 10001, address: 0.0.0.0, insecure: true',
            ".port: `admin` has this address and port already",
        ),
        ('token: "${TOKEN}", address: 127.0.0.2, port: 10001', None),
        (
            "token: secret",
            ".token: a key in a manifest is easily copied and committed; "
            "write `${NAME}` to read the environment or `${file:PATH}` to read a file",
        ),
    ],
)
def test_where_agents_report(tmp_path: Path, text: str, expected: str | None) -> None:
    found = said(tmp_path, environ=ENVIRON, a=agents(text))
    assert [line.replace("warning: ", "") for line in found] == ([] if expected is None else [PLACE + expected])


def test_a_token_has_to_be_named(tmp_path: Path) -> None:
    (line,) = said(tmp_path, a=agents("port: 10002"))
    assert "`token`" in line


def test_certificates_have_to_fit(tmp_path: Path) -> None:
    one, other = (make_certificates(tmp_path / name, ["127.0.0.1"]) for name in ("one", "other"))
    good = f'token: "${{TOKEN}}", address: 0.0.0.0, tls: {{cert: one/{one.cert.name}, key: one/{one.key.name}'
    assert said(tmp_path, environ=ENVIRON, a=agents(good + "}")) == []
    assert said(tmp_path, environ=ENVIRON, a=agents(good + f", clientCa: other/{other.ca.name}}}")) == []
    assert said(tmp_path, environ=ENVIRON, a=agents(good + ", clientCa: none}")) == [
        f"{PLACE}.tls.clientCa: file none cannot be read: No such file or directory"
    ]
    mixed = agents(good.replace("key: one", "key: other") + "}")
    assert said(tmp_path, environ=ENVIRON, a=mixed) == [
        f"{PLACE}.tls: `cert` and `key` are no pair that can be used: KEY_VALUES_MISMATCH"
    ]
    (tmp_path / "junk").write_text("junk")
    (junk,) = said(tmp_path, environ=ENVIRON, a=agents(good.replace(f"one/{one.cert.name}", "junk") + "}"))
    assert "no pair that can be used" in junk
    missing = agents('token: "${TOKEN}", tls: {cert: no, key: nor}')
    assert said(tmp_path, environ=ENVIRON, a=missing) == [
        f"{PLACE}.tls.cert: file no cannot be read: No such file or directory",
        f"{PLACE}.tls.key: file nor cannot be read: No such file or directory",
    ]


def test_a_pool_of_agents_needs_a_gateway_for_them(tmp_path: Path) -> None:
    filled = POOL.replace('endpoints: [{address: "10.0.0.1:8000"}]', "membership: agents")
    assert said(tmp_path, a=filled) == [
        "a.yaml:5: InferencePool/gpus $.spec.membership: no agent can register, as the Gateway has no `agents`; "
        "add `agents: {token: ${NAME}}` to the spec of the Gateway"
    ]
    assert said(tmp_path, environ=ENVIRON, a=filled, b=agents('token: "${TOKEN}"')) == []
