"""JSON Schema of the manifests, for editors and CRDs. Descriptions are the docstrings beside the fields."""

from __future__ import annotations

import ast
import functools
import importlib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
from msgspec import NODEFAULT, inspect

from extproc.resources.base import API_VERSIONS, Duration, Size
from extproc.resources.load import KINDS
from extproc.resources.redact import plain_value
from extproc.resources.shape import struct_type, unwrap

DIALECT = "https://json-schema.org/draft/2020-12/schema"

_COMMON = {
    "api_version": "Version of the API; both mean the same.",
    "kind": "What the document describes.",
    "metadata": "Name and labels.",
}
_SCALARS: dict[type, dict[str, Any]] = {
    Duration: {
        "type": "string",
        "pattern": r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$",
        "examples": ["250ms", "10s", "1m30s"],
    },
    Size: {
        "anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "pattern": r"^[0-9]+(Ki|Mi|Gi|k|M|G)?B?$"}],
        "examples": ["512KiB", "32MiB"],
    },
}
_PRIMITIVES: dict[type[inspect.Type], str] = {
    inspect.StrType: "string",
    inspect.BoolType: "boolean",
    inspect.NoneType: "null",
}


def json_schema() -> dict[str, Any]:
    """JSON Schema 2020-12 of one manifest document: one alternative per kind."""
    return {
        "$schema": DIALECT,
        "title": "Sluice manifest",
        "oneOf": [_reference(kind) for kind in KINDS.values()],
        "$defs": {each.__name__: _struct(each) for each in structs()},
    }


def structs() -> list[type[msgspec.Struct]]:
    """Every struct of the API, each kind followed by what it is made of."""
    found: dict[type[msgspec.Struct], None] = {}
    for kind in KINDS.values():
        _collect(kind, found)
    return list(found)


def description(kind: type) -> str:
    """The docstring of a struct as one line, or of its module for a kind. Structs without one have no description."""
    doc = kind.__dict__.get("__doc__") or ""
    if kind in KINDS.values():
        doc = importlib.import_module(kind.__module__).__doc__ or ""
        _, _, doc = doc.partition(": ")
    text = " ".join(doc.split())
    return text[:1].upper() + text[1:]


@functools.cache
def field_docs(kind: type) -> dict[str, str]:
    """Field name to the string that stands below it in the source."""
    found = {name: text for name, text in _COMMON.items() if kind in KINDS.values()}
    module = importlib.import_module(kind.__module__)
    tree = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))
    bodies = [node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == kind.__name__]
    for body in bodies:
        for field, below in pairwise(body):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and _is_string(below):
                found[field.target.id] = " ".join(ast.literal_eval(below.value).split())  # type: ignore[attr-defined]
    return found


def default_of(field: inspect.Field) -> Any:
    """The default as a manifest would say it; NODEFAULT for none, or one that is only the absence of a value."""
    if field.default is not NODEFAULT:
        return NODEFAULT if field.default is None else plain_value(field.default)
    if field.default_factory is NODEFAULT:
        return NODEFAULT
    made = plain_value(field.default_factory())
    return NODEFAULT if isinstance(unwrap(field.type), inspect.StructType) else made


def inner_types(kind: inspect.Type) -> Iterator[inspect.Type]:
    """The types that a type is made of, itself first."""
    kind = unwrap(kind)
    yield kind
    if isinstance(kind, inspect.UnionType):
        for member in kind.types:
            yield from inner_types(member)
    elif isinstance(kind, inspect.ListType):
        yield from inner_types(kind.item_type)
    elif isinstance(kind, inspect.DictType):
        yield from inner_types(kind.value_type)


def _is_string(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _collect(kind: type[msgspec.Struct], found: dict[type[msgspec.Struct], None]) -> None:
    if kind in found:
        return
    found[kind] = None
    for field in struct_type(kind).fields:
        for inner in inner_types(field.type):
            if isinstance(inner, inspect.StructType):
                _collect(inner.cls, found)


def _reference(kind: type) -> dict[str, Any]:
    return {"$ref": f"#/$defs/{kind.__name__}"}


def _struct(kind: type[msgspec.Struct]) -> dict[str, Any]:
    info = struct_type(kind)
    docs = field_docs(kind)
    properties: dict[str, Any] = {}
    for field in info.fields:
        schema: dict[str, Any] = {"enum": list(API_VERSIONS)} if field.name == "api_version" else _type(field.type)
        if text := docs.get(field.name):
            schema["description"] = text
        if (default := default_of(field)) is not NODEFAULT:
            schema["default"] = default
        properties[field.encode_name] = schema
    found: dict[str, Any] = {"type": "object", "title": kind.__name__, "properties": properties}
    if about := description(kind):
        found["description"] = about
    if required := [field.encode_name for field in info.fields if field.required]:
        found["required"] = required
    found["additionalProperties"] = not info.forbid_unknown_fields
    return found


def _type(kind: inspect.Type) -> dict[str, Any]:
    kind = unwrap(kind)
    if isinstance(kind, inspect.StructType):
        return _reference(kind.cls)
    if isinstance(kind, inspect.CustomType):
        return dict(_SCALARS[kind.cls])
    if isinstance(kind, inspect.LiteralType):
        return {"enum": list(kind.values)}
    if isinstance(kind, inspect.ListType):
        return {"type": "array", "items": _type(kind.item_type)}
    if isinstance(kind, inspect.DictType):
        return {"type": "object", "additionalProperties": _type(kind.value_type)}
    if isinstance(kind, inspect.UnionType):
        return {"anyOf": [_type(member) for member in kind.types]}
    if isinstance(kind, (inspect.IntType, inspect.FloatType)):
        found: dict[str, Any] = {"type": "integer" if isinstance(kind, inspect.IntType) else "number"}
        limits = {"minimum": kind.ge, "maximum": kind.le, "exclusiveMinimum": kind.gt}
        return found | {name: limit for name, limit in limits.items() if limit is not None}
    return {"type": _PRIMITIVES[type(kind)]} if type(kind) in _PRIMITIVES else {}
