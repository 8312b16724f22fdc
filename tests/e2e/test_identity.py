"""Who sends a request: networks, a header, and verified tokens; routes and metrics go by it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from bench.provider import ProviderServer
from tests.e2e.talk import Reply, hello, last, send
from tests.support.far_side import FarSide
from tests.support.gateway import Gateway, Gateways, Manifest, provider, route
from tests.support.processes import wait_until

HOST = "api.example.com"
ISSUER, AUDIENCE = "https://login.example.com", "sluice"


@dataclass(frozen=True)
class Issuer:
    """Signs tokens with a key of its own."""

    key: rsa.RSAPrivateKey
    kid: str = "1"

    @classmethod
    def create(cls) -> Issuer:
        return cls(rsa.generate_private_key(65537, 2048))

    @property
    def jwks(self) -> str:
        key = jwt.algorithms.RSAAlgorithm.to_jwk(self.key.public_key(), as_dict=True)
        return json.dumps({"keys": [{**key, "kid": self.kid, "alg": "RS256", "use": "sig"}]})

    def token(self, *, minutes: float = 5, issuer: str = ISSUER, audience: str = AUDIENCE, **claims: Any) -> str:
        expiry = datetime.now(UTC) + timedelta(minutes=minutes)
        claims |= {"iss": issuer, "aud": audience, "exp": expiry}
        return jwt.encode(claims, self.key, algorithm="RS256", headers={"kid": self.kid})


def to(model: str, **match: Any) -> Manifest:
    rule: Manifest = {"backendRefs": [{"provider": "p", "model": model}]}
    return {**rule, "matches": [match]} if match else rule


RULES = [
    to("platinum", claims={"plan": {"exact": "platinum"}, "realm.tenant": {"prefix": "acme"}}),
    to("admins", claims={"groups": {"exact": "admin"}}),
    to("numbered", claims={"level": {"regex": "[5-9]"}}),
    to("labelled", sourceLabels={"tier": "inner"}, path={"exact": "/v1/labelled/chat/completions"}),
    to("outer", sourceLabels={"tier": "outer"}),
    to("anybody"),
]
SOURCES = [
    {"name": "office", "cidrs": ["10.1.0.0/16", "fd00::/8"], "labels": {"tier": "outer"}},
    {"name": "machine", "cidrs": ["127.0.0.0/8"], "labels": {"tier": "inner"}},
]


@dataclass(frozen=True)
class World:
    gateway: Gateway
    provider: ProviderServer
    issuer: Issuer

    def send(self, token: str | None = None, path: str = "/v1/chat/completions", **headers: str) -> Reply:
        if token is not None:
            headers["authorization"] = f"Bearer {token}"
        return send(self.gateway, hello(), path, **headers)

    def chosen(self, token: str | None = None, **claims: Any) -> str:
        """The model of the rule that took the request."""
        reply = self.send(token or (self.issuer.token(**claims) if claims else None))
        assert reply.status == 200, reply
        model: str = last(self.provider).json["model"]
        return model


@pytest.fixture(scope="module", params=[False, True], ids=["optional", "required"])
def world(request: pytest.FixtureRequest, far_side: FarSide, gateways: Gateways) -> World:
    acme, issuer = far_side.provider(), Issuer.create()
    verifier = {"name": "login", "issuer": ISSUER, "jwks": issuer.jwks, "audiences": [AUDIENCE]}
    gateway = gateways.start(
        provider("p", HOST, port=80, protocol="http"),
        route("all", "*", *RULES),
        hostAliases={HOST: acme.address},
        sources=SOURCES,
        telemetry={"sourceHeader": "x-app"},
        jwt=[{**verifier, "required": request.param}],
    )
    return World(gateway, acme, issuer)


@pytest.fixture
def required(world: World) -> bool:
    found: bool = world.gateway.gateway_manifest()["spec"]["jwt"][0]["required"]
    return found


class TestClaims:
    @pytest.mark.parametrize(
        ("claims", "chosen"),
        [
            ({"plan": "platinum", "realm": {"tenant": "acme-eu"}}, "platinum"),
            ({"plan": "platinum", "realm": {"tenant": "other"}}, "anybody"),
            ({"plan": "platinum"}, "anybody"),
            ({"groups": ["user", "admin"]}, "admins"),
            ({"groups": ["administrators"]}, "anybody"),
            ({"level": 7}, "numbered"),
            ({"level": 3}, "anybody"),
        ],
    )
    def test_they_choose_the_rule(self, world: World, claims: dict[str, Any], chosen: str) -> None:
        assert world.chosen(**claims) == chosen

    def test_the_token_does_not_reach_the_provider(self, world: World) -> None:
        world.chosen(plan="x")
        assert last(world.provider).headers["authorization"] == "Bearer sk-simulated"


class TestTokens:
    @pytest.mark.parametrize(
        "spoil",
        [
            lambda good, _other: good[:-6] + "AAAAAA",
            lambda _good, other: other,
            lambda good, _other: ".".join((good.split(".")[0], good.split(".")[1][:-2] + "fQ", good.split(".")[2])),
            lambda _good, _other: "not-a-token",
        ],
        ids=["signature", "signer", "payload", "garbage"],
    )
    def test_a_forged_one_is_refused(self, world: World, spoil: Any) -> None:
        claims: dict[str, Any] = {"plan": "platinum", "realm": {"tenant": "acme"}}
        seen = world.provider.recorder.seen
        reply = world.send(spoil(world.issuer.token(**claims), Issuer.create().token(**claims)))
        assert (reply.status, reply.error["code"]) == (401, "invalid_token")
        assert reply.error["type"] == "authentication_error"
        assert reply.error["message"]
        assert world.provider.recorder.seen == seen

    @pytest.mark.parametrize("wrong", [{"minutes": -5}, {"issuer": "https://evil.test"}, {"audience": "other"}])
    def test_one_that_is_expired_or_for_others_is_refused(self, world: World, wrong: dict[str, Any]) -> None:
        reply = world.send(world.issuer.token(**wrong))
        assert (reply.status, reply.error["code"]) == (401, "invalid_token")

    def test_none_at_all(self, world: World, required: bool) -> None:
        reply = world.send()
        assert reply.status == (401 if required else 200)
        if required:
            assert reply.error["code"] == "invalid_token"

    def test_claims_cannot_come_from_headers(self, world: World, required: bool) -> None:
        """Only what Envoy verified counts."""
        token = world.issuer.token() if required else None
        reply = world.send(token, x_sluice_plan="platinum", x_jwt_payload="eyJwbGFuIjoicGxhdGludW0ifQ")
        assert (reply.status, last(world.provider).json["model"]) == (200, "anybody")


class TestSources:
    def test_labels_choose_the_rule(self, world: World) -> None:
        reply = world.send(world.issuer.token(), "/v1/labelled/chat/completions")
        assert reply.status == 200
        assert last(world.provider).json["model"] == "labelled"

    def test_a_client_cannot_claim_another_address(self, world: World) -> None:
        reply = world.send(world.issuer.token(), x_forwarded_for="10.1.2.3", x_real_ip="10.1.2.3")
        assert reply.status == 200
        assert last(world.provider).json["model"] == "anybody"

    @pytest.mark.parametrize(("headers", "source"), [({}, "machine"), ({"x_app": "search"}, "search")])
    def test_the_label_of_metrics_and_log(self, world: World, headers: dict[str, str], source: str) -> None:
        def counted() -> float:
            return world.gateway.metric("sluice_prompt_tokens_total", source=source)

        before = counted()
        assert world.send(world.issuer.token(), **headers).status == 200
        wait_until(lambda: counted() > before, "the tokens of the source", 10)
        assert world.gateway.log_line(source=source, target="provider/p")["status"] == 200
