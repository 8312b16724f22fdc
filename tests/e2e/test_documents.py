"""The manifests of the quickstart, which are those of the documents, and what the documents say they do."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest
import yaml

from bench.certs import Certificates, make_certificates
from bench.provider import ProviderServer
from tests.e2e.talk import HELLO, hello, last, send
from tests.support.far_side import FarSide
from tests.support.gateway import Gateway, Gateways, Manifest, provider, write_manifests
from tests.support.processes import BIN

QUICKSTART = Path(__file__).parents[2] / "deploy" / "quickstart"
DASHSCOPE, MOONSHOT = "dashscope.aliyuncs.com", "api.moonshot.cn"
KEYS = {"dashscope的API_KEY": "sk-of-dashscope", "Moonshot的API_KEY": "sk-of-moonshot"}


def printed(name: str) -> list[Manifest]:
    return list(yaml.safe_load_all((QUICKSTART / name).read_text(encoding="utf-8")))


@dataclass(frozen=True)
class World:
    """The quickstart's gateway and the two providers, each of which takes its own key only."""

    gateway: Gateway
    dashscope: ProviderServer
    moonshot: ProviderServer

    def curl(self, host: str, *options: str) -> Any:
        """What `curl` prints, decoded; it must succeed."""
        command = ["curl", "--silent", "--show-error", "--fail-with-body", "-H", f"Host: {host}", *options]
        command += [self.gateway.url, "-d", json.dumps({"messages": HELLO}, ensure_ascii=False)]
        done = subprocess.run(command, capture_output=True, timeout=30, check=False)
        assert done.returncode == 0, (done.stdout, done.stderr)
        return json.loads(done.stdout)


@pytest.fixture(scope="module")
def world(
    far_side: FarSide, gateways: Gateways, certificates: Certificates, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    dashscope = far_side.provider(certificates, keys=[KEYS["dashscope的API_KEY"]], hosts=[DASHSCOPE])
    moonshot = far_side.provider(certificates, keys=[KEYS["Moonshot的API_KEY"]], hosts=[MOONSHOT])
    foreign = make_certificates(tmp_path_factory.mktemp("foreign"), ["api.example.com"])
    stranger = far_side.provider(foreign)
    impostor = far_side.provider(certificates)
    pool, pool_route = printed("pool.yaml")
    for endpoint in pool["spec"]["endpoints"]:
        endpoint["address"] = far_side.engine(time_scale=50.0).address
    gateway = gateways.start(
        *printed("providers.yaml"),
        *printed("routes.yaml"),
        pool,
        pool_route,
        provider("stranger", "api.example.com", port=443, model="m"),
        provider("impostor", "not-in-the-certificate.example.com", port=443, model="m"),
        environ=KEYS,
        trustedCa=str(certificates.ca),
        hostAliases={
            DASHSCOPE: dashscope.address,
            MOONSHOT: moonshot.address,
            "api.example.com": stranger.address,
            "not-in-the-certificate.example.com": impostor.address,
        },
    )
    yield World(gateway, dashscope, moonshot)
    assert stranger.recorder.seen == impostor.recorder.seen == 0


def test_a_bare_curl_gets_the_default_model(world: World) -> None:
    answer = world.curl(DASHSCOPE)
    assert answer["model"] == "qwen-1.8b-chat"
    assert answer["choices"][0]["message"]["content"] == "我是来自阿里云的大规模语言模型，我叫qwen-1.8b-chat。"
    assert answer["usage"]["completion_tokens"] > 0


def test_what_the_provider_sees_of_a_bare_curl(world: World) -> None:
    world.curl(DASHSCOPE)
    seen = last(world.dashscope)
    assert seen.path == "/compatible-mode/v1/chat/completions"
    assert (seen.host, seen.sni) == (DASHSCOPE, DASHSCOPE)
    assert seen.headers["authorization"] == "Bearer sk-of-dashscope"
    assert seen.headers["content-type"] == "application/json"  # curl -d calls it a form
    assert seen.json == {"messages": HELLO, "model": "qwen-1.8b-chat", "stream": False}


def test_a_subscriber_gets_the_larger_model(world: World) -> None:
    assert world.curl(DASHSCOPE, "-H", "user-type: subscriber")["model"] == "qwen-turbo"
    assert last(world.dashscope).json["model"] == "qwen-turbo"
    assert world.curl(DASHSCOPE, "-H", "user-type: guest")["model"] == "qwen-1.8b-chat"


def test_the_configured_model_and_stream_replace_the_clients(world: World) -> None:
    reply = send(world.gateway, hello(model="gpt-4o", stream=True), "/", host=DASHSCOPE)
    assert reply.json["model"] == "qwen-1.8b-chat"
    assert last(world.dashscope).json["stream"] is False


def test_one_name_is_split_evenly_between_two_providers(world: World) -> None:
    before = world.dashscope.recorder.seen, world.moonshot.recorder.seen
    models = [world.curl("demo-llm-server")["model"] for _ in range(6)]
    assert Counter(models) == {"qwen-1.8b-chat": 3, "moonshot-v1-8k": 3}
    assert (world.dashscope.recorder.seen, world.moonshot.recorder.seen) == (before[0] + 3, before[1] + 3)
    seen = last(world.moonshot)
    assert (seen.host, seen.sni, seen.path) == (MOONSHOT, MOONSHOT, "/v1/chat/completions")
    assert seen.headers["authorization"] == "Bearer sk-of-moonshot"
    assert last(world.dashscope).headers["authorization"] == "Bearer sk-of-dashscope"


def test_a_provider_without_a_route_is_reached_by_its_host(world: World) -> None:
    assert world.curl(MOONSHOT)["model"] == "moonshot-v1-8k"


@pytest.mark.parametrize("host", ["api.example.com", "not-in-the-certificate.example.com"])
def test_a_certificate_that_is_not_trusted_or_for_another_host_is_refused(world: World, host: str) -> None:
    reply = send(world.gateway, hello(), "/", host=host)
    assert reply.status == 503
    assert reply.error["code"] == "upstream_unavailable"
    assert reply.error["type"] == "server_error"


def test_credentials_and_addresses_of_the_client_stay_here(world: World) -> None:
    private = {"authorization": "Bearer sk-client", "x-api-key": "sk-client", "api-key": "sk-client"}
    private |= {"cookie": "session=sk-client", "x-forwarded-for": "10.9.8.7", "proxy-authorization": "Basic sk-client"}
    reply = send(world.gateway, hello(), "/", host=DASHSCOPE, **private)
    assert reply.status == 200
    shown = json.dumps(dict(last(world.dashscope).headers))
    assert "sk-client" not in shown
    assert "10.9.8.7" not in shown
    assert "127.0.0.1" not in shown
    assert "x-sluice" not in shown


def test_any_openai_client_reaches_the_pool(world: World) -> None:
    with openai.OpenAI(base_url=f"{world.gateway.url}/v1", api_key="any") as client:
        answer = client.chat.completions.create(model="qwen3-8b", messages=[{"role": "user", "content": "hi"}])
        assert [model.id for model in client.models.list()] == ["qwen3-8b"]
    assert answer.model == "qwen3-8b"
    assert world.gateway.log_line(requested_model="qwen3-8b")["target"] == "pool/qwen3-8b"


def test_a_bare_curl_with_a_model_reaches_the_pool_too(world: World) -> None:
    reply = send(world.gateway, hello(model="qwen3-8b"), "/")
    assert (reply.status, reply.json["object"], reply.json["model"]) == (200, "chat.completion", "qwen3-8b")


def test_check_accepts_the_quickstart_as_it_is_shipped(tmp_path: Path) -> None:
    """With the certificates that `make run` writes, and without a variable it says which one."""
    for source in QUICKSTART.glob("*.yaml"):
        (tmp_path / source.name).write_bytes(source.read_bytes())
    make_certificates(tmp_path / "certs", [DASHSCOPE])
    command = [str(BIN / "sluice"), "check", "-c", str(tmp_path)]
    good = subprocess.run(command, env=KEYS, capture_output=True, timeout=60, check=False, text=True)
    assert (good.returncode, good.stderr) == (0, "")
    assert "2 providers, 3 routes, 1 pool" in good.stdout
    one = {"dashscope的API_KEY": "sk"}
    bad = subprocess.run(command, env=one, capture_output=True, timeout=60, check=False, text=True)
    assert bad.returncode == 1
    assert "Moonshot的API_KEY" in bad.stdout
    assert "providers.yaml:" in bad.stdout


def test_a_provider_without_a_key_is_refused_at_load(tmp_path: Path) -> None:
    write_manifests(tmp_path, provider("p", "api.example.com", port=443, key="${NOT_SET}"))
    command = [str(BIN / "sluice"), "check", "-c", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False, text=True)
    assert done.returncode == 1
    assert "NOT_SET" in done.stdout
