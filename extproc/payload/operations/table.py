"""The one table of operations, and how a method and a path find their row.

A path is looked at as a destination would read it: decoded, without query, `;parameters` and a slash at its end, in any
case of its fixed words. So no spelling leads past a policy; one that is not the usual is put right on the way.
"""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import quote, unquote

import msgspec

from extproc.payload.operations import openai, others
from extproc.payload.operations.operation import Body, Call, ModelIn, Operation, Streams

OTHER = Operation(name="other", paths=(), body=Body.OPTIONAL, model=ModelIn.NOWHERE, streams=Streams.UNKNOWN)
"""What is not in the table: it goes on as it is, and is not counted."""

OPERATIONS = (*openai.ROWS, *others.ROWS, OTHER)

_LONGEST = 512
"""Characters of a path from which on what was found for it is not remembered."""
_REMEMBERED = 2048
_PLACE = re.compile(r"\{(\w+)(\+?)\}")
_PARAMETERS = re.compile(r";[^/]*")
_SLASHES = re.compile(r"/{2,}")
_DEPLOYMENT = re.compile(r"(?<=/deployments/)[^/]+", re.IGNORECASE)
_VERSION = re.compile(r"(?<=/)V\d+(?=/|\Z)")


class _Pattern(msgspec.Struct, frozen=True):
    method: str
    expression: re.Pattern[str]
    operation: Operation
    path: str


def call_of(method: str, path: str) -> Call:
    """The operation that a request asks for, whatever base its provider puts before the path."""
    plain = path.partition("?")[0]
    return _remembered(method, plain) if len(plain) <= _LONGEST else _find(method, plain)


def operation_of(method: str, path: str) -> Operation:
    """The row alone."""
    return call_of(method, path).operation


def with_model(call: Call, model: str) -> str | None:
    """The call's path with another model or deployment in it; None where the path names none."""
    if not call.model:
        return None
    name = quote(model, safe="/:@+,.-_~")
    if "{model" in call.own:
        return f"{call.base}/{_PLACE.sub(lambda _: name, call.own)}"
    return f"{_DEPLOYMENT.sub(lambda _: name, call.base)}/{call.own}"


def chat_path(path: str) -> str:
    """A provider's configured path as that of its chat completions: a base URL, such as `/api/v3`, is completed."""
    return f"{path.rstrip('/')}/{openai.CHAT.own_path}" if is_base(path) else path


def is_base(path: str) -> bool:
    """Whether a provider's configured path is no operation's, so that operations stand below it."""
    return operation_of("POST", path) is OTHER


def _find(method: str, plain: str) -> Call:
    read = unquote(plain) if "%" in plain else plain
    if ";" in read:
        read = _PARAMETERS.sub("", read)
    if "//" in read:
        read = _SLASHES.sub("/", read)
    read = read.rstrip("/")
    method = "GET" if method == "HEAD" else method
    for key in _keys(read):
        for pattern in _BY_KEY.get((method, key), ()):
            if (found := pattern.expression.search(read)) is not None:
                return _call(pattern, found, read, plain)
    return Call(OTHER, base=read)


_remembered = lru_cache(_REMEMBERED)(_find)


def _call(pattern: _Pattern, found: re.Match[str], read: str, plain: str) -> Call:
    named = found.groupdict()
    base = _VERSION.sub(lambda version: version[0].lower(), read[: found.start()])
    spelled = f"{base}/{_PLACE.sub(lambda place: named[place[1]], pattern.path)}"
    if "%" in plain and "{" in pattern.path:
        spelled = plain  # what is escaped for a reason, such as a slash inside a name, stays so
    deployment = _DEPLOYMENT.search(base)
    model = named.get("model") or (deployment[0] if deployment else "")
    return Call(pattern.operation, spelled if spelled != plain else None, model, base, pattern.path)


def _keys(read: str) -> tuple[str, ...]:
    """Where patterns that may fit are kept: by last word, by verb, by the word before the last segment, or loose."""
    *_, before, last = ("", "", *read.lower().rsplit("/", 2))
    verb = last[last.rindex(":") :] if ":" in last else last
    return last, verb, before + "/", "+"


def _key_of(path: str) -> str:
    *_, before, last = ("", *path.lower().split("/"))
    if ":" in last:
        return last[last.rindex(":") :]
    if "+}" in last:
        return "+"
    return before + "/" if last.startswith("{") else last


def _compiled() -> dict[tuple[str, str], tuple[_Pattern, ...]]:
    found: dict[tuple[str, str], list[_Pattern]] = {}
    for operation in OPERATIONS:
        for entry in operation.paths:
            method, _, path = entry.partition(" ")
            pattern = _Pattern(method, _expression(path), operation, path)
            found.setdefault((method, _key_of(path)), []).append(pattern)
    # Longer ones first: `chat/completions` before `completions`.
    return {key: tuple(sorted(each, key=lambda one: -one.path.count("/"))) for key, each in found.items()}


def _expression(path: str) -> re.Pattern[str]:
    pieces = []
    at = 0
    for place in _PLACE.finditer(path):
        pieces.append(re.escape(path[at : place.start()]))
        pieces.append(f"(?P<{place[1]}>.+?)" if place[2] else f"(?P<{place[1]}>[^/]+)")
        at = place.end()
    pieces.append(re.escape(path[at:]))
    return re.compile(rf"(?:^|/){''.join(pieces)}\Z", re.IGNORECASE)


_BY_KEY = _compiled()
