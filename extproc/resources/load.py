"""Manifest files to one checked snapshot, or to everything that is wrong with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from extproc.resources import source
from extproc.resources.base import API_VERSIONS, decode_hook
from extproc.resources.checks.every import check
from extproc.resources.checks.scope import Located
from extproc.resources.kinds.gateway import Gateway
from extproc.resources.kinds.pool import InferencePool
from extproc.resources.kinds.provider import LLMProvider
from extproc.resources.kinds.route import LLMRoute
from extproc.resources.kinds.security import COMPATIBLE_NAMES, LLMSecurityPolicy
from extproc.resources.kinds.traffic import TRAFFIC_KINDS, TrafficPolicy
from extproc.resources.problems import ConfigurationError, Problem, in_order, nearest
from extproc.resources.shape import differences, snake_names
from extproc.resources.snapshot import Resource, Snapshot, default_gateway
from extproc.resources.source import ManifestDocument, Node

KINDS: dict[str, type[Resource]] = {
    "Gateway": Gateway,
    "InferencePool": InferencePool,
    "LLMProvider": LLMProvider,
    "LLMRoute": LLMRoute,
    "LLMSecurityPolicy": LLMSecurityPolicy,
    **TRAFFIC_KINDS,
}

_SNAKE = {snake: camel for kind in TRAFFIC_KINDS.values() for snake, camel in snake_names(kind)}
_KUBERNETES_CORE = "v1"
_Kind = TypeVar("_Kind", LLMProvider, LLMRoute, InferencePool, LLMSecurityPolicy)


class Examination(msgspec.Struct, frozen=True):
    """What a look at the manifests found."""

    snapshot: Snapshot | None
    """Absent where there is an error."""
    problems: list[Problem]
    """Errors and warnings, in file order."""
    resources: list[Resource] = []
    """What could be read, also where something else is wrong."""


def load(directory: Path | Sequence[Path], *, environ: Mapping[str, str]) -> Snapshot:
    """The configuration in a directory, or in several directories and files.

    Raises ConfigurationError with all problems found if one of them is an error.
    """
    found = examine(directory, environ=environ)
    if found.snapshot is None:
        raise ConfigurationError(found.problems)
    return found.snapshot


def examine(directory: Path | Sequence[Path], *, environ: Mapping[str, str]) -> Examination:
    """Like `load`, but returns the problems, so that warnings are seen as well. Never raises for bad input."""
    places = [directory] if isinstance(directory, Path) else list(directory)
    files, problems = _manifests(places)
    root = _directory(places[0]) if places else Path()
    located: list[Located] = []
    for file in files:
        read = source.read(file)
        problems += read.problems
        for document in map(_compatible, read.documents):
            wrong = list(_wrong(document))
            problems += wrong
            if not wrong and (kind := _kind(document)):
                located.append(Located(document, _convert(_anchored(document, root), kind)))
    complete = not any(found.severity == "error" for found in problems)
    snapshot = _snapshot(located, root)
    problems += check(located, snapshot, environ, complete=complete)
    if not located and complete:
        message = "no manifest of any kind that is known here"
        problems.append(Problem(file=root, message=message, hint=nearest("", KINDS)))
    failed = any(found.severity == "error" for found in problems)
    return Examination(None if failed else snapshot, in_order(problems), [each.resource for each in located])


def _directory(place: Path) -> Path:
    return place.parent if place.is_file() else place


def _is_manifest(path: Path) -> bool:
    """A link counts even if it leads nowhere: then it is reported, and not passed over."""
    return path.suffix in (".yaml", ".yml") and (path.is_file() or (path.is_symlink() and not path.exists()))


def _manifests(places: Sequence[Path]) -> tuple[list[Path], list[Problem]]:
    """`*.yaml` and `*.yml` directly in each directory, sorted; files as they are."""
    files: list[Path] = []
    problems: list[Problem] = []
    for place in places:
        if place.is_file():
            files.append(place)
            continue
        try:
            inside = sorted(path for path in place.iterdir() if _is_manifest(path))
        except OSError as error:
            problems.append(Problem(file=place, message=f"cannot be read: {error.strerror}"))
            continue
        if not inside:
            problems.append(Problem(file=place, message="holds no manifests", hint="they are named *.yaml or *.yml"))
        files += inside
    return list(dict.fromkeys(files)), problems


def _kind(document: ManifestDocument) -> type[Resource] | None:
    """The struct of a document; None for plain Kubernetes objects, which are not read."""
    if document.root.get("apiVersion") == _KUBERNETES_CORE:
        return None
    kind = document.root.get("kind")
    return KINDS.get(kind) if isinstance(kind, str) else None


def _wrong(document: ManifestDocument) -> Iterator[Problem]:
    """What is wrong with one document alone."""
    if not isinstance(document.root.value, dict):
        yield document.problem((), "expected a mapping with `apiVersion`, `kind`, `metadata` and `spec`")
        return
    version, kind = document.root.get("apiVersion"), document.root.get("kind")
    if version == _KUBERNETES_CORE:
        return
    if not isinstance(kind, str):
        yield document.problem(("kind",), "missing field `kind`", nearest("", KINDS))
        return
    if kind not in KINDS:
        yield document.problem(("kind",), "unknown kind", nearest(kind, KINDS))
        return
    if isinstance(version, str) and version not in API_VERSIONS:
        yield document.problem(("apiVersion",), "unknown version", nearest(version, API_VERSIONS))
    yield from differences(document, KINDS[kind])


def _compatible(document: ManifestDocument) -> ManifestDocument:
    """The document with the field names of the printed manifests in the words used here."""
    kind = document.root.get("kind")
    if kind == "LLMSecurityPolicy":
        return ManifestDocument(document.file, _renamed(document.root, COMPATIBLE_NAMES))
    return ManifestDocument(document.file, _renamed(document.root, _SNAKE)) if kind in TRAFFIC_KINDS else document


def _renamed(node: Node, known: Mapping[str, str]) -> Node:
    value = node.value
    if isinstance(value, list):
        return msgspec.structs.replace(node, value=[_renamed(item, known) for item in value])
    if not isinstance(value, dict):
        return node
    # both spellings of one field: the second stays, and is reported as unknown
    names = {name: new if (new := known.get(name, name)) not in value else name for name in value}
    lines = {names[name]: line for name, line in node.key_lines.items()}
    return msgspec.structs.replace(
        node, value={names[name]: _renamed(item, known) for name, item in value.items()}, key_lines=lines
    )


def _convert(document: ManifestDocument, kind: type[Resource]) -> Resource:
    """The resource of a document without differences to its shape."""
    return msgspec.convert(document.root.plain(), kind, dec_hook=decode_hook)


def _anchored(document: ManifestDocument, root: Path) -> ManifestDocument:
    """The document with file names relative to `root`, whichever directory it comes from."""
    here = document.file.parent
    if here == root:
        return document
    return ManifestDocument(document.file, _anchor(document.root, here.absolute(), ""))


def _anchor(node: Node, here: Path, name: str) -> Node:
    """Makes the names in `apiKey: ${file:…}`, `jwks: file:…`, `trustedCa` and a classifier's `model` absolute."""
    value = node.value
    if isinstance(value, dict):
        inside = "classifier." if name == "classifier" else ""
        value = {key: _anchor(item, here, inside + key) for key, item in value.items()}
    elif isinstance(value, list):
        value = [_anchor(item, here, "") for item in value]
    elif isinstance(value, str):
        if name in ("trustedCa", "classifier.model"):
            value = str(here / value)
        elif name == "jwks" and value.startswith("file:"):
            value = f"file:{here / value.removeprefix('file:')}"
        elif name == "apiKey" and value.startswith("${file:") and value.endswith("}"):
            value = f"${{file:{here / value[7:-1]}}}"
    return msgspec.structs.replace(node, value=value)


def _traffic(located: Sequence[Located]) -> dict[str, TrafficPolicy]:
    found: dict[str, TrafficPolicy] = {}
    for each in located:
        if isinstance(each.resource, TrafficPolicy):
            found.setdefault(f"{each.resource.kind}/{each.resource.metadata.name}", each.resource)
    return found


def _snapshot(located: Sequence[Located], root: Path) -> Snapshot:
    """All resources by name; of duplicates, which the checks refuse, the first."""

    def named(kind: type[_Kind]) -> dict[str, _Kind]:
        found: dict[str, _Kind] = {}
        for each in located:
            if isinstance(each.resource, kind):
                found.setdefault(each.resource.metadata.name, each.resource)
        return found

    gateways = [each.resource for each in located if isinstance(each.resource, Gateway)]
    return Snapshot(
        gateway=gateways[0] if gateways else default_gateway(),
        providers=named(LLMProvider),
        routes=named(LLMRoute),
        pools=named(InferencePool),
        security=named(LLMSecurityPolicy),
        traffic=_traffic(located),
        directory=root,
    )
