"""The commands as processes: how they start, what they survive, how they end, and what they leave behind."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from tests.support.chat import Chat, chat
from tests.support.far_side import FarSide
from tests.support.gateway import Gateway, Gateways, manifest, pool, provider, route, write_manifests
from tests.support.held import Held
from tests.support.processes import BIN, Process, free_port, http_status, wait_until

SLUICE = [sys.executable, "-m", "extproc"]
SERVICE = "envoy.service.ext_proc.v3.ExternalProcessor"
COMMANDS = ["run", "serve", "check", "render", "render envoy", "schema", "version"]


def sluice(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*SLUICE, *arguments], capture_output=True, text=True, timeout=60, check=False)


def exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def serves(url: str) -> bool:
    return http_status(url) == 200


def envoys(gateway: Gateway) -> list[int]:
    """Process ids of the Envoys that the gateway has started, as it reports them."""
    return [int(pid) for pid in re.findall(r"Envoy is ready, process (\d+)", gateway.filter.output())]


@pytest.fixture
def engine(far_side: FarSide) -> Iterator[Held]:
    with Held(far_side) as held:
        yield held


@pytest.fixture
def gateway(gateways: Gateways, engine: Held, tmp_path: Path) -> Gateway:
    """`sluice run` with a directory of its own for temporary files."""
    (tmp_path / "tmp").mkdir()
    return gateways.start(*manifests(engine), environ={"TMPDIR": str(tmp_path / "tmp")})


def manifests(engine: Held) -> list[dict[str, object]]:
    return [pool("gpus", [engine.address]), route("all", "*", {"backendRefs": [{"pool": "gpus"}]})]


def answered(gateway: Gateway, engine: Held) -> bool:
    with Chat(gateway.port) as client:
        engine.next().answer()
        return client.reply().status == 200


class TestRun:
    def test_a_dead_envoy_is_started_again(self, gateway: Gateway, engine: Held) -> None:
        assert answered(gateway, engine)
        (first,) = envoys(gateway)
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: len(envoys(gateway)) == 2, "another Envoy")
        assert answered(gateway, engine)
        assert "Envoy ended with status -9; starting it again" in gateway.filter.output()

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_a_stop_lets_streams_finish_and_leaves_nothing(
        self, gateway: Gateway, engine: Held, tmp_path: Path, number: signal.Signals
    ) -> None:
        (envoy,) = envoys(gateway)
        with Chat(gateway.port, stream=True) as client:
            call = engine.next()
            call.event("one ")
            assert client.head()[0] == 200
            assert client.text() == "one "
            gateway.filter.signal(number)
            wait_until(lambda: http_status(f"{gateway.admin}/readyz") == 503, "the end of readiness")
            wait_until(lambda: http_status(f"{gateway.url}/v1/models") == 0, "the listener to close")
            assert gateway.filter.alive()
            call.event("two")
            call.end()
            assert client.remaining() == "two"
        assert gateway.filter.wait() == 0
        assert not exists(envoy)
        assert list((tmp_path / "tmp").iterdir()) == []

    def test_envoy_does_not_outlive_a_killed_filter(self, gateway: Gateway) -> None:
        (envoy,) = envoys(gateway)
        gateway.filter.kill()
        wait_until(lambda: not exists(envoy), "the end of Envoy")

    def test_a_taken_port_is_a_clear_error(self, gateway: Gateway, engine: Held, tmp_path: Path) -> None:
        """Also where another Envoy, which shares ports with its like, has it."""
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            cases = {
                port: {"listener": {"port": port}, "admin": {"port": free_port()}},
                gateway.port: {"listener": {"port": gateway.port}, "admin": {"port": free_port()}},
                gateway.admin_port: {"listener": {"port": free_port()}, "admin": {"port": gateway.admin_port}},
            }
            for number, spec in cases.items():
                directory = tmp_path / str(number)
                directory.mkdir()
                write_manifests(directory, *manifests(engine), manifest("Gateway", "test", **spec))
                with Process([*SLUICE, "run", "-c", str(directory)], tmp_path / f"{number}.log") as second:
                    assert second.wait() == 1, second.output()
                last = second.output().strip().splitlines()[-1]
                assert last.startswith("sluice: "), last
                assert str(number) in last, last
                assert "in use" in last, last
        assert answered(gateway, engine)

    @pytest.mark.parametrize("command", ["run", "serve"])
    def test_a_bad_configuration_is_reported_as_a_compiler_would(self, tmp_path: Path, command: str) -> None:
        (tmp_path / "a.yaml").write_text(
            "apiVersion: sluice.dev/v1alpha1\n"
            "kind: LLMRoute\n"
            "metadata: {name: r}\n"
            "spec:\n"
            "  host: example.com\n"
            "  rules:\n"
            "    - backendRefs:\n"
            "        - pol: gpus\n"
        )
        result = sluice(command, "-c", str(tmp_path))
        assert result.returncode == 1
        assert f"{tmp_path / 'a.yaml'}:8: LLMRoute/r $.spec.rules[0].backendRefs[0].pol: unknown field" in result.stderr
        assert "did you mean `pool`?" in result.stderr
        assert "Traceback" not in result.stderr


class TestServe:
    @pytest.fixture
    def served(self, gateways: Gateways, engine: Held) -> Gateway:
        return gateways.start(*manifests(engine), split=True)

    def test_draining_finishes_what_runs_and_says_so(self, served: Gateway, engine: Held) -> None:
        with (
            grpc.insecure_channel(f"unix:{served.directory.parent / 'filter.sock'}") as channel,
            Chat(served.port, stream=True) as client,
        ):
            check = health_pb2_grpc.HealthStub(channel).Check
            request = health_pb2.HealthCheckRequest(service=SERVICE)
            assert check(request, timeout=10).status == health_pb2.HealthCheckResponse.SERVING
            call = engine.next()
            call.event("one ")
            assert client.head()[0] == 200
            served.filter.signal(signal.SIGTERM)
            wait_until(lambda: http_status(f"{served.admin}/readyz") == 503, "the end of readiness")
            assert check(request, timeout=10).status == health_pb2.HealthCheckResponse.NOT_SERVING
            with Chat(served.port) as another:
                engine.next().answer()
                assert another.reply().status == 200, "an open route goes on without the filter"
            call.event("two")
            call.end()
            assert client.remaining() == "one two"
        assert served.filter.wait() == 0
        line = served.log_line(completion_tokens=5)
        assert line["model"] == "m", "the running exchange was processed to its end"

    def test_reflection_lists_the_service(self, served: Gateway) -> None:
        with grpc.insecure_channel(f"unix:{served.directory.parent / 'filter.sock'}") as channel:
            call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo
            (reply,) = call(iter([reflection_pb2.ServerReflectionRequest(list_services="")]), timeout=10)
        names = {service.name for service in reply.list_services_response.service}
        assert {SERVICE, "grpc.health.v1.Health"} <= names

    def test_memory_stays_small(self, served: Gateway, engine: Held) -> None:
        for _ in range(20):
            assert answered(served, engine)
        status = Path(f"/proc/{served.filter.pid}/status").read_text()
        resident = int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0])
        assert resident < 100 * 1000, f"{resident} kB"


def test_one_of_two_filters_may_die(engine: Held, far_side: FarSide, tmp_path: Path) -> None:
    """The provider's route is closed, so a single request that no filter has processed would fail."""
    port, filters = free_port(), [f"127.0.0.1:{free_port()}" for _ in range(2)]
    cloud = provider("cloud", "api.example.com", port=80, protocol="http", model="qwen-max")
    spec = {"listener": {"port": port}, "hostAliases": {"api.example.com": engine.address}}
    with ExitStack() as stack:
        serving = []
        for i, address in enumerate(filters):
            directory, admin = tmp_path / str(i), free_port()
            directory.mkdir()
            write_manifests(directory, cloud, manifest("Gateway", "test", admin={"port": admin}, **spec))
            command = [*SLUICE, "serve", "-c", str(directory), "--listen", address]
            serving.append(Process(command, tmp_path / f"{i}.log", {"KEY": "sk-simulated"}))
            stack.enter_context(serving[i])
            serving[i].wait_ready(partial(serves, f"http://127.0.0.1:{admin}/readyz"), "a filter")
        rendered = tmp_path / "envoy.yaml"
        arguments = ["render", "envoy", "-c", str(tmp_path / "0"), "--filter", ",".join(filters), "-o", str(rendered)]
        render = Process(
            [*SLUICE, *arguments, "--envoy-admin", f"unix:{tmp_path / 'a.sock'}"], tmp_path / "r.log", {"KEY": "k"}
        )
        assert render.wait() == 0, render.output()
        envoy = [
            str(BIN / "envoy"),
            "-c",
            str(rendered),
            "--concurrency",
            "1",
            "--disable-hot-restart",
            "-l",
            "warning",
        ]
        stack.enter_context(Process(envoy, tmp_path / "envoy.log"))
        wait_until(lambda: http_status(f"http://127.0.0.1:{port}/v1/models"), "Envoy's listener")

        def ten_requests_are_processed() -> None:
            for _ in range(10):
                with Chat(port, "api.example.com") as client:
                    call = engine.next()
                    call.answer()
                    assert client.reply().status == 200
                    assert call.headers["authorization"] == "Bearer sk-simulated"

        ten_requests_are_processed()
        serving[0].kill()
        ten_requests_are_processed()
        serving[1].kill()
        reply = chat(port, "api.example.com")
        assert (reply.status, reply.error["code"]) == (503, "filter_unavailable")


class TestOutput:
    def test_version_names_what_it_stands_on(self) -> None:
        result = sluice("version")
        assert result.returncode == 0
        assert re.fullmatch(
            r"envoy-sluice \d\S*\ngrpcio \d\S*\nxds-protos \d\S*\nprotobuf \d\S*\nenvoy-server \d\S*\n", result.stdout
        )

    def test_schema_is_json_schema_of_every_kind(self) -> None:
        result = sluice("schema")
        assert result.returncode == 0
        text = json.loads(result.stdout)
        assert "$schema" in text
        for kind in ("LLMProvider", "LLMRoute", "InferencePool", "Gateway"):
            assert kind in result.stdout

    def test_check_counts_what_is_good_and_names_what_is_not(self, tmp_path: Path, engine: Held) -> None:
        write_manifests(tmp_path, *manifests(engine))
        good = sluice("check", "-c", str(tmp_path))
        assert (good.returncode, good.stderr) == (0, "")
        assert good.stdout == f"{tmp_path}: configuration is good: 0 providers, 1 route, 1 pool\n"
        write_manifests(tmp_path, route("all", "*", {"backendRefs": [{"pool": "gpu"}]}), manifests(engine)[0])
        bad = sluice("check", "-c", str(tmp_path))
        assert bad.returncode == 1
        assert "$.spec.rules[0].backendRefs[0].pool" in bad.stdout
        assert "`gpus`" in bad.stdout
        assert "\x1b" not in bad.stdout, "no colour when not a terminal"

    @pytest.mark.parametrize("command", ["", *COMMANDS])
    def test_help_teaches(self, command: str) -> None:
        result = sluice(*command.split(), "--help")
        assert result.returncode == 0
        assert result.stdout.startswith(f"Usage: sluice {command}".rstrip())
        assert result.stderr == ""
        if command in ("run", "serve", "render envoy"):
            assert f"Example:\n    sluice {command} " in result.stdout.replace("      sluice", "    sluice")

    def test_a_typing_error_gets_a_usage_line(self) -> None:
        result = sluice("rnu")
        assert result.returncode == 2
        assert "No such command 'rnu'" in result.stderr
        assert "Traceback" not in result.stderr
