"""Key sets of token issuers and certificate authorities change while Envoy runs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from bench.certs import make_certificates
from tests.e2e.test_identity import AUDIENCE, ISSUER, Issuer
from tests.support.chat import Chat
from tests.support.far_side import FarSide
from tests.support.gateway import Gateway, Gateways, provider, route
from tests.support.processes import wait_until
from tests.support.raw import Reply

HOST = "api.example.com"


def replace(path: Path, text: str) -> None:
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(text)
    fresh.rename(path)


def ask(gateway: Gateway, token: str = "") -> Reply:
    headers = {"authorization": f"Bearer {token}"} if token else None
    with Chat(gateway.port, HOST, headers=headers) as client:
        return client.reply()


class KeyServer:
    def __init__(self) -> None:
        self.text = ""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = outer.text.encode()
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_arguments: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/keys"


@pytest.fixture
def keys() -> Iterator[KeyServer]:
    found = KeyServer()
    thread = threading.Thread(target=found.server.serve_forever)
    thread.start()
    yield found
    found.server.shutdown()
    found.server.server_close()
    thread.join()


def verified(gateways: Gateways, far_side: FarSide, jwks: str, **more: object) -> Gateway:
    upstream = far_side.provider()
    return gateways.start(
        provider("p", HOST, port=80, protocol="http"),
        route("all", "*", {"backendRefs": [{"provider": "p"}]}),
        hostAliases={HOST: upstream.address},
        jwt=[{"name": "login", "issuer": ISSUER, "jwks": jwks, "audiences": [AUDIENCE], "required": True, **more}],
    )


def test_a_key_set_in_a_file_rotates(gateways: Gateways, far_side: FarSide, tmp_path: Path) -> None:
    old, new = Issuer.create(), Issuer.create()
    file = tmp_path / "keys" / "jwks.json"
    file.parent.mkdir()
    file.write_text(old.jwks)
    gateway = verified(gateways, far_side, f"file:{file}")
    assert ask(gateway, old.token()).status == 200
    assert ask(gateway, new.token()).status == 401
    replace(file, new.jwks)
    wait_until(lambda: ask(gateway, new.token()).status == 200, "the new key", 20)
    assert ask(gateway, old.token()).status == 401


def test_a_key_set_at_a_url_rotates(gateways: Gateways, far_side: FarSide, keys: KeyServer) -> None:
    old, new = Issuer.create(), Issuer.create()
    keys.text = old.jwks
    gateway = verified(gateways, far_side, keys.url, jwksRefresh="1s")
    assert ask(gateway, old.token()).status == 200
    keys.text = new.jwks
    wait_until(lambda: ask(gateway, new.token()).status == 200, "the new key", 20)


def test_an_authority_rotates(gateways: Gateways, far_side: FarSide, tmp_path: Path) -> None:
    theirs, others = (make_certificates(tmp_path / name, [HOST]) for name in ("theirs", "others"))
    upstream = far_side.provider(theirs)
    ca = tmp_path / "trusted" / "ca.pem"
    ca.parent.mkdir()
    ca.write_text(others.ca.read_text())
    gateway = gateways.start(
        provider("p", HOST, port=upstream.port),
        hostAliases={HOST: upstream.address},
        trustedCa=str(ca),
    )
    assert ask(gateway).status == 503
    replace(ca, theirs.ca.read_text())
    wait_until(lambda: ask(gateway).status == 200, "the new authority", 20)
