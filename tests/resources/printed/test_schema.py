from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest

from extproc.resources import base
from extproc.resources.kinds import route
from extproc.resources.kinds.provider import OpenAIConfig
from extproc.resources.load import KINDS
from extproc.resources.printed.reference import example, reference_markdown
from extproc.resources.printed.schema import field_docs, json_schema, structs
from extproc.resources.shape import struct_type
from extproc.resources.source import parse
from tests.resources.manifests import said

SCHEMA = json_schema()
DEFS: dict[str, Any] = SCHEMA["$defs"]


def test_it_is_json_and_every_reference_resolves() -> None:
    text = json.dumps(SCHEMA)
    names = set(re.findall(r'"#/\$defs/(\w+)"', text))
    assert names <= set(DEFS)
    assert {each["$ref"].rsplit("/", 1)[1] for each in SCHEMA["oneOf"]} == set(KINDS)


def test_fields_have_the_manifests_names_and_their_docstrings() -> None:
    properties = DEFS["OpenAIConfig"]["properties"]
    assert set(properties) == {"model", "stream", "apiKey", "mode"}
    assert properties["model"]["description"] == "Target model. Absent: the client's own."
    assert properties["mode"] == {
        "enum": ["default", "override"],
        "default": "override",
        "description": "`override` replaces the client's model and stream; `default` only fills in what is missing.",
    }
    assert "${NAME}" in field_docs(OpenAIConfig)["api_key"]
    assert DEFS["ProviderConfig"]["properties"].keys() == {"openAIConfig"}


def test_defaults_are_written_as_in_manifests() -> None:
    assert DEFS["Limits"]["properties"]["requestBody"]["default"] == "32MiB"
    assert DEFS["EngineMetrics"]["properties"]["interval"]["default"] == "200ms"
    assert DEFS["Timeouts"]["properties"]["stream"]["default"] == "5m"
    assert DEFS["Retries"]["properties"]["on"]["default"] == ["gateway-error", "connect-failure"]
    assert "default" not in DEFS["LLMProviderSpec"]["properties"]["path"]


def test_limits_strictness_and_required_fields() -> None:
    assert DEFS["Listener"]["properties"]["port"] == {
        "type": "integer", "minimum": 1, "maximum": 65535, "default": 10000
    }  # fmt: skip
    assert DEFS["RateLimiter"]["properties"]["fillAmount"] == {"type": "number", "exclusiveMinimum": 0.0}
    assert DEFS["BackendRef"]["additionalProperties"] is False
    assert DEFS["Metadata"]["additionalProperties"] is True
    assert DEFS["LLMRouteSpec"]["required"] == ["host", "rules"]
    assert DEFS["LLMRoute"]["properties"]["apiVersion"]["enum"] == list(base.API_VERSIONS)


@pytest.mark.parametrize("name", ["Duration", "Size"])
def test_the_patterns_of_scalars_accept_what_the_parser_accepts(name: str) -> None:
    field = {"Duration": ("Timeouts", "idle"), "Size": ("Limits", "requestBody")}[name]
    schema = DEFS[field[0]]["properties"][field[1]]
    pattern = schema.get("pattern") or schema["anyOf"][1]["pattern"]
    for text in [*schema["examples"], "1h", "0.5s", "5", "5 s", "", "1Ki", "1KiB", "-1s", "s", "1d", "12B"]:
        try:
            getattr(base, name).parse(text)
            accepted = True
        except ValueError:
            accepted = False
        assert (re.search(pattern, text) is not None) == accepted, text


def test_every_docstring_beside_a_field_is_used() -> None:
    for each in structs():
        assert set(field_docs(each)) <= {field.name for field in struct_type(each).fields}
    source = Path(str(route.__file__)).read_text(encoding="utf-8")
    strings = [
        " ".join(node.value.value.split())
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    ]
    text = reference_markdown()
    assert [each for each in strings[1:] if each.replace("|", "\\|") not in text] == []


def test_the_reference_has_a_table_for_every_struct_and_links_that_resolve() -> None:
    text = reference_markdown()
    headings = {each.lower() for each in re.findall(r"^##+ (\w+)$", text, re.MULTILINE)}
    assert headings == {each.__name__.lower() for each in structs()}
    assert set(re.findall(r"\(#(\w+)\)", text)) <= headings
    assert "| `interval` | duration | `200ms` |" in text
    assert "| `requestBody` | size | `32MiB` |" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {5}


def test_the_examples_are_one_configuration_without_findings(tmp_path: Path) -> None:
    files = {kind.lower(): example(kind) for kind in KINDS}
    findings = said(tmp_path, environ={"DASHSCOPE_API_KEY": "k"}, **files)
    assert findings == []


def test_a_schema_validates_the_quickstart() -> None:
    quickstart = Path(__file__).parents[2] / "deploy" / "quickstart"
    for file in quickstart.glob("*.yaml"):
        for document in parse(file.read_text(encoding="utf-8"), file).documents:
            root = document.root.plain()
            if root["apiVersion"] != "v1":
                check(root, DEFS[root["kind"]])


def check(value: Any, schema: dict[str, Any]) -> None:
    """The part of JSON Schema that this schema uses."""
    if "$ref" in schema:
        schema = DEFS[schema["$ref"].rsplit("/", 1)[1]]
    if "enum" in schema:
        assert value in schema["enum"]
    if "anyOf" in schema:
        found = []
        for option in schema["anyOf"]:
            try:
                check(value, option)
                found.append(option)
            except AssertionError:
                continue
        assert found
    kinds = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int, "number": float}
    kinds["null"] = type(None)
    if "type" in schema:
        assert isinstance(value, kinds[schema["type"]]), value
    if isinstance(value, dict):
        assert set(schema.get("required", [])) <= set(value)
        for key, item in value.items():
            inner = schema.get("properties", {}).get(key, schema.get("additionalProperties"))
            assert inner is not False, key
            if isinstance(inner, dict):
                check(item, inner)
    if isinstance(value, list):
        for item in value:
            check(item, schema["items"])
