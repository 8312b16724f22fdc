"""What the pages say is true: commands run, manifests load, links lead somewhere, tables match the code."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from bench.certs import make_certificates
from bench.setup import KEYS
from extproc.accounting import estimator
from extproc.exchange.endings import REFUSALS, Ending
from extproc.payload import encodings, sse
from extproc.pool.cache_forecast import CacheForecastParameters
from extproc.pool.engines import scrape
from extproc.pool.policies import POLICIES
from extproc.render import bootstrap
from extproc.render.listener import LOG_FIELDS
from extproc.render.replies import reply_codes
from extproc.resources import secrets, source
from extproc.resources.load import KINDS, examine
from extproc.resources.printed.reference import reference_markdown
from extproc.resources.printed.schema import default_of
from extproc.resources.shape import struct_type, unwrap
from extproc.steps import parse
from extproc.telemetry import labels, metrics
from tests.support.documents import PAGES, ROOT, Block, Command, anchors, bases, blocks, commands, links, rows
from tests.support.processes import BIN, Process, free_port, wait_until

QUICKSTART = Path("deploy/quickstart")
PORTS = ("10000", "10001", "18443", "18001", "18002", "18003")
FIXED_LIMITS = {
    "connections of clients to one Envoy": bootstrap._MAX_CONNECTIONS,
    "manifest file": source.MAX_BYTES,
    "nesting of a manifest": source.MAX_DEPTH,
    "values of a manifest document": source.MAX_VALUES,
    "key file": secrets._MAX_BYTES,
    "name of a requested model": parse._LONGEST_MODEL,
    "content encodings of one body": encodings._MOST_ENCODINGS,
    "one event of a streamed answer": sse.MAX_FRAME,
    "metrics page of an engine": scrape.MAX_PAGE,
    "characters of a metric label": labels.MAX_LENGTH,
    "label sets of the GenAI histograms": metrics.MAX_SERIES,
    "models with a token ratio of their own": estimator.MAX_MODELS,
    "prompt blocks known of all endpoints of a pool": CacheForecastParameters().index_blocks,
}
ENVOYS_OWN = "headers of a request"
UNITS = {"KiB": 2**10, "MiB": 2**20}


@dataclass(frozen=True)
class Place:
    """A working directory with a running quickstart on ports of its own."""

    directory: Path
    ports: Mapping[str, str]
    output: str
    """What the quickstart printed until it was up."""

    def here(self, text: str) -> str:
        """The text with this gateway's ports in place of the usual ones."""
        return re.sub(rf"\b({'|'.join(PORTS)})\b", lambda match: self.ports[match[0]], text)

    def run(self, *command: str, text: str = "") -> subprocess.CompletedProcess[str]:
        proxies = {"http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"}
        environ = {name: value for name, value in os.environ.items() if name not in proxies} | KEYS
        environ |= {"PATH": f"{BIN}:{os.environ['PATH']}", "no_proxy": "127.0.0.1"}
        return subprocess.run(
            command,
            input=text,
            capture_output=True,
            text=True,
            cwd=self.directory,
            env=environ,
            timeout=60,
            check=False,
        )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    directory = tmp_path_factory.mktemp("documentation")
    manifests = directory / QUICKSTART
    manifests.mkdir(parents=True)
    shutil.copytree(ROOT / "envoy", directory / "envoy")
    found = Place(directory, {port: str(free_port()) for port in PORTS}, "")
    for file in (ROOT / QUICKSTART).glob("*.yaml"):
        (manifests / file.name).write_text(found.here(file.read_text(encoding="utf-8")), encoding="utf-8")
    log = directory / "quickstart.log"
    with Process([sys.executable, "-m", "bench.quickstart", str(manifests)], log) as quickstart:
        quickstart.wait_ready(lambda: "Ctrl-C" in quickstart.output(), "the quickstart")
        yield Place(directory, found.ports, quickstart.output())
        quickstart.signal(signal.SIGINT)
        assert quickstart.wait() == 0
        wait_until(lambda: "Stopped." in quickstart.output(), "the last line")


@pytest.mark.e2e
def test_the_quickstart_shows_what_became_of_each_request(place: Place) -> None:
    table = [line.split() for line in place.output.splitlines() if " 200 " in line or " 404 " in line]
    assert [row[-1].isdigit() for row in table] == [True] * 7, place.output
    assert {"qwen-1.8b-chat", "qwen-turbo", "moonshot-v1-8k", "qwen3-8b"} <= {cell for row in table for cell in row}
    assert "not expected" not in place.output
    assert f"curl http://127.0.0.1:{place.ports['10000']}/v1/models" in place.output


@pytest.mark.e2e
@pytest.mark.parametrize("command", commands(), ids=lambda command: f"{command.block}:{command.text[:40]}")
def test_commands_print_what_is_shown(command: Command, place: Place) -> None:
    done = place.run("bash", "-o", "pipefail", "-c", place.here(command.text))
    assert done.returncode == 0, f"{command.block}: {done.stdout}\n{done.stderr}"
    rest = done.stdout
    for piece in map(place.here, command.expected):
        assert piece in rest, f"{command.block}: {piece!r} is not in the rest of\n{done.stdout}"
        rest = rest.partition(piece)[2]


@pytest.mark.e2e
@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_programs_run(block: Block, place: Place) -> None:
    done = place.run(sys.executable, "-", text=place.here(block.text))
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


@pytest.mark.e2e
def test_metrics_have_the_labels_that_are_told(place: Place) -> None:
    told = {
        cells[0]: set(re.findall(r"\w+", cells[2])) for cells in rows("docs/telemetry.md", "Metrics") if len(cells) == 4
    }
    shown = place.run("curl", "-s", f"http://127.0.0.1:{place.ports['10001']}/metrics").stdout
    for family in text_string_to_metric_families(shown):
        for sample in family.samples:
            name = sample.name if family.type == "counter" else family.name
            if name in told and not sample.name.endswith("_created"):
                assert set(sample.labels) - {"le"} == told[name], name


def test_blocks_say_what_they_are() -> None:
    odd = [str(each) for each in blocks() if each.language not in ("console", "python", "yaml", "text", "")]
    assert odd == []
    assert [str(each) for each in blocks() if each.note and not re.match(r"(not run: \w|base$)", each.note)] == []


@pytest.mark.parametrize("block", blocks("yaml"), ids=str)
def test_manifests_load(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = list(yaml.safe_load_all(block.text))
    names = {_identity(document) for document in own}
    around = [document for each in bases(block.page) for document in yaml.safe_load_all(each.text)]
    around = [document for document in around if _identity(document) not in names]
    (tmp_path / "block.yaml").write_text(block.text, encoding="utf-8")
    (tmp_path / "base.yaml").write_text(yaml.safe_dump_all(around, allow_unicode=True), encoding="utf-8")
    if not around:
        (tmp_path / "base.yaml").unlink()
    monkeypatch.syspath_prepend(tmp_path)
    for program in (each for each in blocks("python") if each.page == block.page):
        if module := re.match(r"# (\w+\.py)\n", program.text):
            (tmp_path / module[1]).write_text(program.text, encoding="utf-8")
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "azure").write_text("sk-1")
    (tmp_path / "jwks.json").write_text(json.dumps({"keys": [{"kty": "oct", "k": "AAAA"}]}))
    made = make_certificates(tmp_path / "made", ["a.example"])
    for file in (made.ca, made.cert, made.key):
        shutil.copy(file, tmp_path / file.name)
    environ = dict.fromkeys(re.findall(r"\$\{(\w+)\}", (tmp_path / "block.yaml").read_text() + str(around)), "sk-1")
    assert [str(problem) for problem in examine(tmp_path, environ=environ).problems] == []


def _identity(document: Mapping[str, Any]) -> tuple[str, str]:
    return document["kind"], document["metadata"]["name"]


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    here = PAGES[page]
    for link in links(page):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = (here.parent / path).resolve() if path else here
        assert target.exists(), f"{page}: {link}"
        assert not anchor or anchor in anchors(target), f"{page}: {link}"


@pytest.mark.parametrize("page", PAGES)
def test_every_page_can_be_found(page: str) -> None:
    start = {"README.md", "CHANGELOG.md", "docs/index.md"}
    assert page in start or page.removeprefix("docs/") in links("docs/index.md")


def test_the_reference_is_current() -> None:
    assert PAGES["docs/reference.md"].read_text(encoding="utf-8") == reference_markdown(), "run `make render`"


def test_metrics_are_those_of_the_code() -> None:
    families = metrics.Metrics().registry.collect()
    known = {family.name + ("_total" if family.type == "counter" else ""): family.type for family in families}
    known = {name: kind for name, kind in known.items() if not name.startswith(("process_", "python_"))}
    assert {cells[0]: cells[1] for cells in rows("docs/telemetry.md", "Metrics") if len(cells) == 4} == known


def test_access_log_fields_are_those_of_the_code() -> None:
    assert sorted(cells[0] for cells in rows("docs/telemetry.md", "Access log")) == sorted(LOG_FIELDS)


def test_endings_are_those_of_the_code() -> None:
    assert sorted(cells[0] for cells in rows("docs/telemetry.md", "Endings")) == sorted(Ending)


def test_every_reason_is_explained() -> None:
    headings = (
        "The request's body",
        "Where it should go",
        "Keys",
        "Destinations",
        "Flow control",
        "The gateway itself",
    )
    told = [cells[0] for heading in headings for cells in rows("docs/troubleshooting.md", heading)]
    refusals = {ending.value for ending in REFUSALS}
    assert len(told) == len(set(told))
    assert set(told) == refusals | set(reply_codes()) | _codes_in("payload") | _codes_in("steps")


def _codes_in(room: str) -> set[str]:
    """Literal codes that a room gives to PayloadError, or as `code=` to a refusal."""
    found = set()
    for file in (ROOT / "extproc" / room).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            given = [word.value for word in node.keywords if word.arg == "code"]
            if isinstance(node.func, ast.Name) and node.func.id == "PayloadError":
                given += node.args[1:2]
            found |= {each.value for each in given if isinstance(each, ast.Constant) and isinstance(each.value, str)}
    return found


@pytest.mark.parametrize("cells", [cells for cells in rows("docs/operations.md", "Limits") if "." in cells[0]], ids=str)
def test_limits_have_the_defaults_of_the_code(cells: list[str]) -> None:
    kind, *names, last = cells[0].split(".")
    here: type = KINDS[kind]
    for name in names:
        inside = unwrap(_field(here, name).type)
        assert isinstance(inside, msgspec.inspect.StructType)
        here = inside.cls
    assert str(default_of(_field(here, last))) == cells[1]


def _defaults(parameters: type) -> dict[str, str]:
    return {field.encode_name: str(field.default) for field in msgspec.structs.fields(parameters)}


def _told(page: str, policy: str) -> dict[str, str]:
    return {cells[0]: cells[1] for cells in rows(page, policy)}


def test_parameters_of_policies_are_those_of_the_code() -> None:
    known = {name: _defaults(kind.parameters) for name, kind in POLICIES.items()}
    for name in ("prefix-cache", "least-request", "llm-metric-based"):
        assert _told("docs/choosing-a-policy.md", name) == known[name]
    own = {"ownWeight", "requestSeconds"}
    assert known["least-token"] == {name: value for name, value in known["prefix-cache"].items() if name not in own}
    assert known["round-robin"] == {}
    static = _told("docs/prefill-decode.md", "static-pd") | _defaults(CacheForecastParameters)
    assert static == known["static-pd"]
    assert _told("docs/prefill-decode.md", "dynamic-pd") | static == known["dynamic-pd"]


def _field(kind: type, name: str) -> msgspec.inspect.Field:
    return next(field for field in struct_type(kind).fields if field.encode_name == name)


def test_fixed_limits_are_those_of_the_code() -> None:
    told = {}
    for name, value, _ in (
        cells for cells in rows("docs/operations.md", "Limits") if "." not in cells[0] and cells[0] != ENVOYS_OWN
    ):
        number, _, unit = value.replace(",", "").partition(" ")
        told[name] = int(number) * UNITS.get(unit, 1)
    assert told == FIXED_LIMITS


def test_measured_sections_are_marked() -> None:
    text = PAGES["docs/performance.md"].read_text(encoding="utf-8")
    for section in ("measured", "policies"):
        assert list(pairwise(re.findall(rf"<!-- {section}: (begin|end)", text))) == [("begin", "end")]
