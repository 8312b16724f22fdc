"""What operators see: metrics, access log, audit log, pages."""

from __future__ import annotations

import http.client
import json
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from bench.certs import Certificates
from bench.engine.server import EngineServer
from bench.provider import ProviderServer
from tests.e2e.talk import hello, send
from tests.support.far_side import FarSide
from tests.support.gateway import Gateway, Gateways, pool, provider, route
from tests.support.processes import http_status, wait_until

HOST = "api.example.com"
MAX_LABELS = 40


@dataclass(frozen=True)
class World:
    gateway: Gateway
    provider: ProviderServer
    engine: EngineServer

    def samples(self, name: str, **labels: str) -> list[tuple[dict[str, str], float]]:
        """All samples of a name with at least these labels."""
        return [
            (sample.labels, sample.value)
            for family in text_string_to_metric_families(self.gateway.admin_text("/metrics"))
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        ]

    def ask(self, model: str, host: str = "served.test", **headers: str) -> int:
        return send(self.gateway, hello(model=model), host=host, **headers).status


@pytest.fixture(scope="module")
def world(
    far_side: FarSide, gateways: Gateways, certificates: Certificates, tmp_path_factory: pytest.TempPathFactory
) -> World:
    acme, engine = far_side.provider(certificates), far_side.engine(time_scale=50.0)
    gateway = gateways.start(
        provider("acme", HOST, port=443),
        provider("literal", HOST, port=443, key="sk-literal"),
        pool("gpus", [engine.address]),
        route(
            "served",
            "served.test",
            {"name": "named", "matches": [{"model": {"exact": "qwen3-8b"}}], "backendRefs": [{"pool": "gpus"}]},
            {"name": "any", "matches": [{"model": {"prefix": "model-"}}], "backendRefs": [{"provider": "acme"}]},
        ),
        trustedCa=str(certificates.ca),
        hostAliases={HOST: acme.address},
        accessLog={
            "path": str(tmp_path_factory.mktemp("log") / "access.log"),
            "fields": {"tenant": "%REQ(X-TENANT)%", "bytes_received": "", "protocol": "%PROTOCOL%"},
        },
        telemetry={"maxLabelValues": MAX_LABELS, "sourceHeader": "x-tenant", "auditLog": True},
        split=True,
    )
    gateway.access_log = Path(gateway.gateway_manifest()["spec"]["accessLog"]["path"])
    return World(gateway, acme, engine)


class TestMetrics:
    def test_genai_histograms(self, world: World) -> None:
        body = hello(model="qwen3-8b", stream=True)
        assert send(world.gateway, body, host="served.test", x_tenant="acme").status == 200
        assert world.ask("qwen3-8b", x_tenant="acme") == 200
        labels = {
            "gen_ai_operation_name": "chat",
            "gen_ai_provider_name": "pool/gpus",
            "gen_ai_request_model": "qwen3-8b",
            "gen_ai_response_model": "qwen3-8b",
            "source": "acme",
        }
        duration = "gen_ai_server_request_duration_seconds_count"
        wait_until(lambda: world.samples(duration, **labels) == [({**labels, "error_type": ""}, 2)], "both exchanges")
        for kind in ("input", "output"):
            wanted = {**labels, "gen_ai_token_type": kind}
            assert world.samples("gen_ai_client_token_usage_count", **labels, gen_ai_token_type=kind) == [(wanted, 2)]
            buckets = world.samples("gen_ai_client_token_usage_bucket", **wanted)
            assert [float(found["le"]) for found, _ in buckets[:-1]] == [4.0**power for power in range(14)]
        for name in ("gen_ai_server_time_to_first_token_seconds", "gen_ai_server_time_per_output_token_seconds"):
            assert world.samples(f"{name}_count", **labels) == [(labels, 1)], "of streams only"

    def test_requested_and_target_model_of_a_failure(self, world: World) -> None:
        status = send(world.gateway, hello(model="model-x"), host="served.test", x_sim="status:429").status
        assert status == 429
        found = world.samples("gen_ai_server_request_duration_seconds_count", error_type="429")
        assert [(each["gen_ai_provider_name"], value) for each, value in found] == [("provider/acme", 1)]

    def test_exchanges_by_ending(self, world: World) -> None:
        def count(**labels: str) -> float:
            return world.gateway.metric("sluice_exchanges_total", **labels)

        before = count(ending="model_not_found"), count(ending="completed", target="pool/gpus", status_class="2xx")
        assert world.ask("unknown") == 404
        assert world.ask("qwen3-8b") == 200
        wait_until(lambda: world.gateway.metric("sluice_exchanges_in_flight") == 0, "the end of both")
        after = count(ending="model_not_found"), count(ending="completed", target="pool/gpus", status_class="2xx")
        assert after == (before[0] + 1, before[1] + 1)

    def test_internals(self, world: World) -> None:
        phases = {labels["phase"] for labels, _ in world.samples("sluice_message_seconds_count")}
        assert {"request_headers", "request_body", "response_headers"} <= phases
        for name in ("sluice_config_generation", "process_resident_memory_bytes", "sluice_exchanges_in_flight"):
            assert len(world.samples(name)) == 1

    def test_endpoint_gauges(self, world: World) -> None:
        labels = {"pool": "gpus", "endpoint": world.engine.address}
        for name in ("up", "in_flight", "running", "waiting", "kv_usage_ratio", "metrics_age_seconds"):
            ((found, value),) = world.samples(f"sluice_endpoint_{name}")
            assert found == labels
            assert value >= 0
        assert world.gateway.metric("sluice_endpoint_up") == 1

    def test_openmetrics_where_it_is_accepted(self, world: World) -> None:
        request = urllib.request.Request(  # noqa: S310 the test's own server
            f"{world.gateway.admin}/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"}
        )
        with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310
            assert response.headers["content-type"].startswith("application/openmetrics-text")
            assert response.read().endswith(b"# EOF\n")

    def test_what_clients_invent_does_not_grow_the_metrics(self, world: World) -> None:
        """1,000 models that nobody serves, 100 that the provider refuses, 100 that it serves; as many sources."""

        def models(name: str) -> set[str]:
            return {labels["gen_ai_request_model"] for labels, _ in world.samples(name)}

        connection = http.client.HTTPConnection("127.0.0.1", world.gateway.port, timeout=30)
        statuses = set()
        cases = [("unknown-{}", "", 1000), ("model-refused-{}", "status:400", 100), ("model-good-{}", "", 100)]
        for pattern, sim, count in cases:
            for number in range(count):
                body = json.dumps(hello(model=pattern.format(number)))
                headers = {"host": "served.test", "x-sim": sim, "x-tenant": f"t{number}", "content-type": "text/json"}
                connection.request("POST", "/v1/chat/completions", body, headers)
                response = connection.getresponse()
                response.read()
                statuses.add((pattern, response.status))
        connection.close()
        assert statuses == {("unknown-{}", 404), ("model-refused-{}", 400), ("model-good-{}", 200)}
        found = models("gen_ai_server_request_duration_seconds_count")
        assert not {name for name in found if name.startswith(("unknown-", "model-refused-"))}
        assert "other" in found
        assert len(found) <= MAX_LABELS + 2  # those the configuration names, and `other`
        sources = {labels["source"] for labels, _ in world.samples("sluice_prompt_tokens_total")}
        assert "other" in sources
        assert len(sources) <= MAX_LABELS + 1
        total = sum(value for _, value in world.samples("gen_ai_server_request_duration_seconds_count"))
        assert total >= 200, "nothing is lost, only its name"


class TestAccessLog:
    def test_default_and_chosen_fields(self, world: World) -> None:
        assert world.ask("qwen3-8b", x_tenant="logged", user_agent="curl") == 200
        line = world.gateway.log_line(tenant="logged")
        wanted = {
            "authority": "served.test",
            "method": "POST",
            "path": "/v1/chat/completions",
            "protocol": "HTTP/1.1",
            "status": 200,
            "source": "logged",
            "route": "served/named",
            "target": "pool/gpus",
            "kind": "unary",
            "requested_model": "qwen3-8b",
            "model": "qwen3-8b",
            "endpoint": world.engine.address,
            "upstream_host": world.engine.address,
            "attempts": 1,
            "usage_estimated": False,
            "reason": None,
        }
        assert {name: line[name] for name in wanted} == wanted
        assert "bytes_received" not in line
        assert line["prompt_tokens"] > 0
        assert line["completion_tokens"] > 0

    def test_provider_and_refusal(self, world: World) -> None:
        assert world.ask("model-a", x_tenant="to-provider") == 200
        line = world.gateway.log_line(tenant="to-provider")
        assert (line["provider"], line["target"]) == ("acme", "provider/acme")
        assert world.ask("unknown", x_tenant="refused") == 404
        line = world.gateway.log_line(tenant="refused")
        assert (line["status"], line["reason"], line["requested_model"]) == (404, "model_not_found", "unknown")
        assert line["target"] is None

    def test_a_stream_has_the_time_to_its_first_token(self, world: World) -> None:
        body = hello(model="model-b", stream=True)
        assert send(world.gateway, body, host="served.test", x_tenant="timed", x_sim="delay:100").status == 200
        line = world.gateway.log_line(tenant="timed")
        assert line["kind"] == "stream"
        assert 100 <= line["time_to_first_token_ms"] <= line["duration_ms"] + 1


class TestAuditLog:
    def lines(self, world: World, source: str) -> list[dict[str, Any]]:
        """Decisions about one source, as the filter wrote them."""
        said = [line.partition("sluice.audit: ")[2] for line in world.gateway.filter.output().splitlines()]
        return [each for each in map(json.loads, filter(None, said)) if each["source"] == source]

    def test_every_decision_has_a_line(self, world: World) -> None:
        assert world.ask("qwen3-8b", x_tenant="audited") == 200
        assert world.ask("unknown", x_tenant="audited") == 404
        wait_until(lambda: len(self.lines(world, "audited")) == 2, "both decisions", 10)
        served, refused = self.lines(world, "audited")
        wanted = {"ending": "completed", "status": 200, "target": "pool/gpus", "endpoint": world.engine.address}
        assert {name: served[name] for name in wanted} == wanted
        assert served["completion_tokens"] > 0
        assert (refused["ending"], refused["requested_model"]) == ("model_not_found", "unknown")
        assert "target" not in refused
        assert "请介绍你自己" not in world.gateway.filter.output(), "no prompts"


class TestPages:
    def test_health(self, world: World) -> None:
        assert world.gateway.admin_text("/healthz") == "ok\n"
        assert world.gateway.admin_text("/readyz") == "ready\n"
        assert http_status(f"{world.gateway.admin}/other") == 404
        assert "/metrics" in world.gateway.admin_text("/")

    def test_configuration(self, world: World) -> None:
        shown = yaml.safe_load(world.gateway.admin_text("/config"))
        assert shown["gateway"]["spec"]["telemetry"]["maxLabelValues"] == MAX_LABELS
        configs = {
            name: each["spec"]["configs"]["defaultConfig"]["openAIConfig"]["apiKey"]
            for name, each in shown["providers"].items()
        }
        assert configs == {"acme": "${KEY}", "literal": "***"}
        assert set(shown["routes"]) == {"served", "acme"}, "with the one that a provider has by itself"

    def test_endpoints(self, world: World) -> None:
        (found,) = json.loads(world.gateway.admin_text("/endpoints"))
        (endpoint,) = found["endpoints"]
        assert (found["name"], endpoint["address"]) == ("gpus", world.engine.address)
        assert (endpoint["state"], endpoint["engine"], endpoint["in_flight"]) == ("healthy", "vllm", 0)
