"""Checks of single values, wherever they stand."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import re2

from extproc.resources.base import Duration, HeaderEdits, Metadata, Size, StringMatch
from extproc.resources.checks.scope import Located, Scope
from extproc.resources.kinds.gateway import Telemetry
from extproc.resources.kinds.pool import EngineMetrics
from extproc.resources.kinds.provider import KeyHeader, LLMProviderSpec
from extproc.resources.kinds.route import RequestMatch
from extproc.resources.problems import Problem
from extproc.resources.shape import Path, fields_in

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_ENVOY_OWNS = ("host", "content-length", "transfer-encoding", "connection")
_LONGEST = 366 * 24 * 3600.0


def check_values(scope: Scope) -> Iterator[Problem]:
    """Applies the checks of `_BY_TYPE` to every value of every resource."""
    for each in scope.located:
        for path, value in fields_in(each.resource):
            if (examine := _BY_TYPE.get(type(value))) is not None:
                yield from examine(each, path, value)


def bad_path(path: str) -> str:
    """What is wrong with a URL path, or nothing."""
    if not path.startswith("/"):
        return "must start with `/`"
    if re.search(r"[\s?#]", path):
        return "must not hold white space, `?` or `#`"
    return ""


def bad_header(name: str) -> str:
    """What is wrong with a header's name, or nothing."""
    return "" if _TOKEN.fullmatch(name) else "not a valid header name"


def bad_regex(pattern: str) -> str:
    """Why RE2 does not take the pattern, or nothing."""
    options = re2.Options()
    options.log_errors = False
    try:
        re2.compile(pattern, options)
    except re2.error as error:
        said = error.args[0] if error.args else error
        return said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
    return ""


def _metadata(at: Located, path: Path, value: Metadata) -> Iterator[Problem]:
    if not _NAME.fullmatch(value.name):
        hint = "use up to 253 letters, digits, `.`, `_` and `-`, beginning and ending with a letter or digit"
        yield at.error((*path, "name"), "not a valid name", hint)


def _string_match(at: Located, path: Path, value: StringMatch) -> Iterator[Problem]:
    given = [kind for kind in ("exact", "prefix", "regex") if getattr(value, kind) is not None]
    if len(given) != 1:
        found = f"found {' and '.join(f'`{kind}`' for kind in given)}" if given else "found none"
        yield at.error(path, "give exactly one of `exact`, `prefix` and `regex`", found)
    if value.regex == "":
        yield at.error((*path, "regex"), "an empty pattern fits the empty value only", "write `exact: ''`")
    elif value.regex is not None and (said := bad_regex(value.regex)):
        yield at.error((*path, "regex"), f"not a valid RE2 pattern: {said}")


def _request_match(at: Located, path: Path, value: RequestMatch) -> Iterator[Problem]:
    for name in value.headers:
        # Envoy's own pseudo headers can be matched as well.
        if not _TOKEN.fullmatch(name.removeprefix(":")):
            yield at.error((*path, "headers", name), "not a valid header name")
    if value.path is None:
        return
    for kind in ("exact", "prefix"):
        text = getattr(value.path, kind)
        if text is not None and (said := bad_path(text)):
            yield at.error((*path, "path", kind), said)


def _header_edits(at: Located, path: Path, value: HeaderEdits) -> Iterator[Problem]:
    for name, text in value.set.items():
        place = (*path, "set", name)
        if not _TOKEN.fullmatch(name):
            yield at.error(place, "not a valid header name")
        elif name.lower() in _ENVOY_OWNS:
            yield at.error(place, "this header belongs to Envoy and cannot be edited")
        if _CONTROL.search(text):
            yield at.error(place, "holds a line break or another control character")
    for index, name in enumerate(value.remove):
        place = (*path, "remove", index)
        if not _TOKEN.fullmatch(name.removesuffix("*")) or "*" in name[:-1]:
            yield at.error(place, "not a valid header name", "a single `*` may end it")
        elif name.lower() in _ENVOY_OWNS:
            yield at.error(place, "this header belongs to Envoy and cannot be edited")


def _duration(at: Located, path: Path, value: Duration) -> Iterator[Problem]:
    if not 0 < value <= _LONGEST:
        yield at.error(path, "must be more than 0 and at most a year")


def _size(at: Located, path: Path, value: Size) -> Iterator[Problem]:
    if not 0 < value < 2**32:
        yield at.error(path, "must be more than 0 and less than 4GiB")


def _key_header(at: Located, path: Path, value: KeyHeader) -> Iterator[Problem]:
    if not _TOKEN.fullmatch(value.name):
        yield at.error((*path, "name"), "not a valid header name")
    elif value.name.lower() in _ENVOY_OWNS:
        yield at.error((*path, "name"), "this header belongs to Envoy and cannot be edited")
    if _CONTROL.search(value.prefix):
        yield at.error((*path, "prefix"), "holds a line break or another control character")


def _provider_path(at: Located, path: Path, value: LLMProviderSpec) -> Iterator[Problem]:
    if value.path is not None and (said := bad_path(value.path)):
        yield at.error((*path, "path"), said)


def _metrics_path(at: Located, path: Path, value: EngineMetrics) -> Iterator[Problem]:
    if said := bad_path(value.path):
        yield at.error((*path, "path"), said)


def _telemetry(at: Located, path: Path, value: Telemetry) -> Iterator[Problem]:
    if value.source_header is not None and not _TOKEN.fullmatch(value.source_header):
        yield at.error((*path, "sourceHeader"), "not a valid header name")


_BY_TYPE: dict[type, Callable[..., Iterator[Problem]]] = {
    Metadata: _metadata,
    StringMatch: _string_match,
    RequestMatch: _request_match,
    HeaderEdits: _header_edits,
    Duration: _duration,
    Size: _size,
    KeyHeader: _key_header,
    LLMProviderSpec: _provider_path,
    EngineMetrics: _metrics_path,
    Telemetry: _telemetry,
}
