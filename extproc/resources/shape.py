"""Does a document have the shape of its struct? Finds every difference at once, where msgspec stops at the first."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
from msgspec import inspect

from extproc.resources.base import Duration, Size, decode_hook
from extproc.resources.problems import Problem, Step, nearest
from extproc.resources.source import ManifestDocument

_INT64 = 2**63

_NAMES: dict[type[inspect.Type], str] = {
    inspect.StrType: "a string",
    inspect.IntType: "a whole number",
    inspect.FloatType: "a number",
    inspect.BoolType: "true or false",
    inspect.ListType: "a list",
    inspect.DictType: "a mapping",
    inspect.StructType: "a mapping",
    inspect.NoneType: "null",
}

_FOUND: dict[type, str] = {
    bool: "true or false",
    int: "a number",
    float: "a number",
    str: "a string",
    list: "a list",
    dict: "a mapping",
}

Path = tuple[Step, ...]


def differences(document: ManifestDocument, kind: type[msgspec.Struct]) -> Iterator[Problem]:
    """Every place where the document is not what `kind` allows."""
    yield from _Walk(document).value(document.root.plain(), struct_type(kind), ())


@functools.cache
def struct_type(kind: type) -> inspect.StructType:
    """What msgspec knows of a struct: its fields with names, types, limits and defaults."""
    found = inspect.type_info(kind)
    if not isinstance(found, inspect.StructType):
        raise TypeError(f"{kind!r} is not a struct")
    return found


def unwrap(kind: inspect.Type) -> inspect.Type:
    """The type without its annotations of description."""
    while isinstance(kind, inspect.Metadata):
        kind = kind.type
    return kind


def fields_in(value: object, path: Path = ()) -> Iterator[tuple[Path, object]]:
    """Every value inside a resource with its path in the manifest's own field names, outermost first."""
    yield path, value
    if isinstance(value, msgspec.Struct):
        for field in struct_type(type(value)).fields:
            yield from fields_in(getattr(value, field.name), (*path, field.encode_name))
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from fields_in(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from fields_in(item, (*path, index))


def snake_names(kind: type) -> Iterator[tuple[str, str]]:
    """Every field name of a struct and of those inside it that has another spelling: `(rate_limiter, rateLimiter)`."""
    for field in struct_type(kind).fields:
        if field.name != field.encode_name:
            yield field.name, field.encode_name
        pending = [unwrap(field.type)]
        while pending:
            inner = pending.pop()
            if isinstance(inner, inspect.StructType):
                yield from snake_names(inner.cls)
            elif isinstance(inner, inspect.ListType):
                pending.append(unwrap(inner.item_type))
            elif isinstance(inner, inspect.UnionType):
                pending += [unwrap(each) for each in inner.types]


class _Walk:
    """Compares values with types, keeping the path."""

    def __init__(self, document: ManifestDocument) -> None:
        self._document = document
        self._readers: dict[type[inspect.Type], Callable[[Any, Any, Path], Iterator[Problem]]] = {
            inspect.StructType: self._struct,
            inspect.DictType: self._dict,
            inspect.ListType: self._list,
            inspect.UnionType: self._union,
            inspect.LiteralType: self._literal,
            inspect.CustomType: self._custom,
            inspect.IntType: self._number,
            inspect.FloatType: self._number,
            inspect.AnyType: self._any,
        }

    def value(self, value: object, kind: inspect.Type, path: Path) -> Iterator[Problem]:
        kind = unwrap(kind)
        yield from self._readers.get(type(kind), self._plain)(value, kind, path)

    def _struct(self, value: object, kind: inspect.StructType, path: Path) -> Iterator[Problem]:
        if not isinstance(value, dict):
            yield self._expected(value, kind, path)
            return
        fields = {field.encode_name: field for field in kind.fields}
        for name, item in value.items():
            if name in fields:
                yield from self.value(item, fields[name].type, (*path, name))
            elif kind.forbid_unknown_fields:
                hint = "merge keys are not supported: write the fields out" if name == "<<" else nearest(name, fields)
                yield self._document.problem((*path, name), "unknown field", hint)
        for name, field in fields.items():
            if field.required and name not in value:
                yield self._document.problem(path, f"missing field `{name}`")

    def _dict(self, value: object, kind: inspect.DictType, path: Path) -> Iterator[Problem]:
        if not isinstance(value, dict):
            yield self._expected(value, kind, path)
            return
        for key, item in value.items():
            yield from self.value(item, kind.value_type, (*path, key))

    def _list(self, value: object, kind: inspect.ListType, path: Path) -> Iterator[Problem]:
        if not isinstance(value, list):
            yield self._expected(value, kind, path)
            return
        for index, item in enumerate(value):
            yield from self.value(item, kind.item_type, (*path, index))

    def _union(self, value: object, kind: inspect.UnionType, path: Path) -> Iterator[Problem]:
        if value is None and kind.includes_none:
            return
        members = [member for member in kind.types if not isinstance(member, inspect.NoneType)]
        found = [list(self.value(value, member, path)) for member in members]
        if all(found):
            yield from min(found, key=len)

    def _literal(self, value: object, kind: inspect.LiteralType, path: Path) -> Iterator[Problem]:
        if value not in kind.values:
            allowed = [str(each) for each in kind.values]
            yield self._document.problem(path, "unknown value", nearest(str(value), allowed))

    def _custom(self, value: object, kind: inspect.CustomType, path: Path) -> Iterator[Problem]:
        try:
            decode_hook(kind.cls, value)
        except ValueError as error:
            yield self._document.problem(path, str(error))

    def _number(self, value: object, kind: inspect.IntType | inspect.FloatType, path: Path) -> Iterator[Problem]:
        whole = isinstance(kind, inspect.IntType)
        accepted: tuple[type, ...] = (int,) if whole else (int, float)
        if isinstance(value, bool) or not isinstance(value, accepted):
            yield self._expected(value, kind, path)
            return
        assert isinstance(value, (int, float))  # noqa: S101 - narrows the type for the checker
        low, high, above = kind.ge, kind.le, kind.gt
        inside = (low is None or value >= low) and (high is None or value <= high) and (above is None or value > above)
        if not inside:
            limits = (("more than", above), ("at least", low), ("at most", high))
            bounds = " and ".join(f"{word} {limit}" for word, limit in limits if limit is not None)
            yield self._document.problem(path, f"{value} is out of range", f"must be {bounds}")
        elif isinstance(value, int):
            yield from self._fits(value, path)

    def _any(self, value: object, _kind: inspect.AnyType, path: Path) -> Iterator[Problem]:
        for inner, item in fields_in(value, path):
            if isinstance(item, int):
                yield from self._fits(item, inner)

    def _fits(self, value: int, path: Path) -> Iterator[Problem]:
        if not -_INT64 <= value < _INT64:
            yield self._document.problem(path, "number does not fit into 64 bits")

    def _plain(self, value: object, kind: inspect.Type, path: Path) -> Iterator[Problem]:
        fits = {inspect.StrType: str, inspect.BoolType: bool}[type(kind)]
        if not isinstance(value, fits):
            yield self._expected(value, kind, path)

    def _expected(self, value: object, kind: inspect.Type, path: Path) -> Problem:
        hint = ""
        if isinstance(kind, inspect.StrType) and isinstance(value, (int, float, bool)):
            hint = "put the value in quotes"
        return self._document.problem(path, f"expected {_NAMES[type(kind)]}, found {_found(value)}", hint)


def _found(value: object) -> str:
    """What a value is. The value itself stays out of messages, as it may be a key in the wrong place."""
    if value is None:
        return "nothing"
    return next(name for kind, name in _FOUND.items() if isinstance(value, kind))


def scalar_text(value: Duration | Size) -> str | int:
    """A duration or size as a manifest would say it: `5s`, `250ms`, `32MiB`."""
    if isinstance(value, Size):
        for unit, factor in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
            if value and value % factor == 0:
                return f"{value // factor}{unit}"
        return int(value)
    for unit, seconds in (("h", 3600), ("m", 60), ("s", 1)):
        if value and value % seconds == 0:
            return f"{value // seconds:.0f}{unit}"
    return f"{value * 1000:g}ms"
