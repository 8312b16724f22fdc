"""Manifest text to plain values that know their lines.

YAML is read with the scalar rules of YAML 1.2 (core schema): `on`, `yes`, `1:30` and dates are strings, so that the
field `retries.on` and addresses keep their spelling. Depth and number of values are limited, aliases included.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import yaml

from extproc.resources.problems import Problem, Step, path_text

MAX_BYTES = 4 * 2**20
MAX_DEPTH = 64
MAX_VALUES = 200_000

Scalar = str | int | float | bool | None

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INT = re.compile(r"[-+]?[0-9]{1,400}")
_PREFIXED_INT = re.compile(r"0o[0-7]{1,400}|0x[0-9a-fA-F]{1,400}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS: dict[str, Scalar] = {"": None, "~": None}
_WORDS |= dict.fromkeys(("null", "Null", "NULL"))
_WORDS |= dict.fromkeys(("true", "True", "TRUE"), True)
_WORDS |= dict.fromkeys(("false", "False", "FALSE"), False)
_STRING_TAG = "tag:yaml.org,2002:str"


class Node(msgspec.Struct, frozen=True):
    """One value of a document with the line it starts on."""

    line: int
    value: Scalar | list[Node] | dict[str, Node]
    size: int = 1
    """Values inside, itself included; aliases count as often as they are used."""
    key_lines: dict[str, int] = {}

    def plain(self) -> Any:
        """The value alone, as `msgspec.convert` takes it."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value

    def line_of(self, path: Sequence[Step]) -> int:
        """Line of a place inside; of its nearest existing parent if it is not there."""
        node, line = self, self.line
        for step in path:
            value = node.value
            if isinstance(value, dict) and isinstance(step, str) and step in value:
                line, node = node.key_lines[step], value[step]
            elif isinstance(value, list) and isinstance(step, int) and 0 <= step < len(value):
                node = value[step]
                line = node.line
            else:
                break
        return line

    def get(self, *path: str) -> object:
        """The plain value at a path of field names, or None."""
        node = self
        for step in path:
            if not isinstance(node.value, dict) or step not in node.value:
                return None
            node = node.value[step]
        return node.plain()


class ManifestDocument(msgspec.Struct, frozen=True):
    """One YAML document of a manifest file."""

    file: Path
    root: Node

    @property
    def resource(self) -> str:
        """`KIND/NAME`, as far as they are given."""
        kind, name = self.root.get("kind"), self.root.get("metadata", "name")
        known = isinstance(kind, str) and kind
        return f"{kind}/{name}" if known and isinstance(name, str) else str(kind) if known else ""

    def problem(self, path: Sequence[Step], message: str, hint: str = "") -> Problem:
        """An error at a place in this document."""
        return Problem(
            file=self.file,
            line=self.root.line_of(path),
            resource=self.resource,
            path=path_text(path),
            message=message,
            hint=hint,
        )

    def warning(self, path: Sequence[Step], message: str, hint: str = "") -> Problem:
        """Like `problem`, for what works but is hardly meant."""
        return msgspec.structs.replace(self.problem(path, message, hint), severity="warning")


class ManifestSource(msgspec.Struct, frozen=True):
    """What a manifest file holds."""

    documents: list[ManifestDocument]
    problems: list[Problem]


def read(file: Path) -> ManifestSource:
    """Reads a file. What cannot be read is a problem, never an exception."""
    try:
        with file.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except OSError as error:
        return ManifestSource([], [Problem(file=file, message=f"cannot be read: {error.strerror}")])
    if len(raw) > MAX_BYTES:
        return ManifestSource([], [Problem(file=file, message=f"larger than {MAX_BYTES} bytes")])
    if not raw.strip():
        hint = "write its resources again, or delete the file if they are to go"
        return ManifestSource([], [Problem(file=file, message="the file is empty", hint=hint)])
    try:
        return parse(raw.decode("utf-8-sig"), file)
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        return ManifestSource(
            [], [Problem(file=file, line=line, message="not valid UTF-8", hint="save the file as UTF-8")]
        )


def parse(text: str, file: Path) -> ManifestSource:
    """Splits the text into documents. A syntax error ends the file; what stands before it is still returned."""
    composer = _Composer(text, file)
    documents: list[ManifestDocument] = []
    try:
        documents.extend(composer.documents())
    except _LimitError as error:
        composer.problems.append(Problem(file=file, line=error.line, message=error.message))
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        composer.problems.append(Problem(file=file, line=line, message=f"not valid YAML: {error.reason}"))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        said = ", ".join(part for part in (error.context, error.problem) if part)
        line = mark.line + 1 if mark else 0
        composer.problems.append(Problem(file=file, line=line, message=f"not valid YAML: {said}"))
    return ManifestSource(documents, composer.problems)


class _LimitError(Exception):
    """The document is bigger or deeper than any configuration."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line
        self.message = message


class _Composer:
    """Builds nodes from the parser's events; unlike PyYAML's own composer it bounds depth and aliases."""

    def __init__(self, text: str, file: Path) -> None:
        self._events: Iterator[Any] = iter(yaml.parse(text, Loader=_LOADER))
        self._file = file
        self._anchors: dict[str, Node] = {}
        self.problems: list[Problem] = []

    def documents(self) -> Iterator[ManifestDocument]:
        """Every document that is not empty. Raises yaml.YAMLError and _LimitError."""
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                self._anchors = {}
                root = self._node(next(self._events), 0)
                if root.value is not None:
                    yield ManifestDocument(self._file, root)

    def _node(self, event: Any, depth: int) -> Node:
        line: int = event.start_mark.line + 1
        if depth > MAX_DEPTH:
            raise _LimitError(line, f"nested more than {MAX_DEPTH} levels deep")
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event.anchor, line)
        if isinstance(event, yaml.ScalarEvent):
            node = Node(line, self._scalar(event, line))
        elif isinstance(event, yaml.SequenceStartEvent):
            node = self._sequence(line, depth)
        else:
            node = self._mapping(line, depth)
        if node.size > MAX_VALUES:
            raise _LimitError(line, f"holds more than {MAX_VALUES} values")
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _alias(self, anchor: str | None, line: int) -> Node:
        if anchor is None or (node := self._anchors.get(anchor)) is None:
            self._report(line, f"alias `*{anchor}` names no anchor before it")
            return Node(line, None)
        return node

    def _scalar(self, event: Any, line: int) -> Scalar:
        plain, _ = event.implicit
        if plain:
            return _core_schema(event.value)
        if event.tag not in (None, "!", _STRING_TAG):
            self._report(line, f"tag `{event.tag}` is not supported", "write the value without it")
        return str(event.value)

    def _sequence(self, line: int, depth: int) -> Node:
        items: list[Node] = []
        size = 1
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self._node(event, depth + 1))
            size += items[-1].size
        return Node(line, items, size)

    def _mapping(self, line: int, depth: int) -> Node:
        values: dict[str, Node] = {}
        lines: dict[str, int] = {}
        size = 1
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key_line = event.start_mark.line + 1
            key = event.value if isinstance(event, yaml.ScalarEvent) else None
            if key is None:
                self._node(event, depth + 1)
            value = self._node(next(self._events), depth + 1)
            size += value.size
            if key is None:
                self._report(key_line, "a field name must be a plain string")
            elif key in values:
                self._report(key_line, f"duplicate field `{key}`, first on line {lines[key]}")
            else:
                values[key], lines[key] = value, key_line
        return Node(line, values, size, lines)

    def _report(self, line: int, message: str, hint: str = "") -> None:
        self.problems.append(Problem(file=self._file, line=line, message=message, hint=hint))


def _core_schema(text: str) -> Scalar:
    """A plain scalar by YAML 1.2, section 10.3.2, without infinities, which JSON cannot hold."""
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return int(text)
    if _PREFIXED_INT.fullmatch(text):
        return int(text, 0)
    if _FLOAT.fullmatch(text) and abs(number := float(text)) != float("inf"):
        return number
    return text
