"""The effective configuration as plain values, fit to be shown."""

from __future__ import annotations

import re
from typing import Any

import msgspec
from msgspec import inspect

from extproc.resources.base import Duration, HeaderEdits, Size
from extproc.resources.kinds.gateway import Agents, JwtProvider, SharedState
from extproc.resources.kinds.provider import OpenAIConfig
from extproc.resources.kinds.security import Judge
from extproc.resources.secrets import HIDDEN, parse_reference
from extproc.resources.shape import scalar_text, struct_type
from extproc.resources.snapshot import Snapshot

_TELLING_NAME = re.compile(r"auth|key|token|secret|cookie|password|credential", re.IGNORECASE)
"""Headers whose values are likely to be credentials."""


def to_builtins(snapshot: Snapshot, redacted: bool = True) -> dict[str, Any]:
    """Everything in force, defaults included, in the manifests' own field names.

    References such as `${NAME}` are shown as they are written and never resolved. Redacted, literal keys, values of
    headers that look like credentials, and key sets written into the manifest are `***`.
    """
    return {
        "gateway": _plain(snapshot.gateway, redacted),
        "providers": {name: _plain(each, redacted) for name, each in snapshot.providers.items()},
        "routes": {each.metadata.name: _plain(each, redacted) for each in snapshot.effective_routes()},
        "pools": {name: _plain(each, redacted) for name, each in snapshot.pools.items()},
        "traffic": {name: _plain(each, redacted) for name, each in snapshot.traffic.items()},
        "security": {name: _plain(each, redacted) for name, each in snapshot.security.items()},
    }


def plain_value(value: object) -> Any:
    """A value of a struct's field as JSON and YAML can hold it, nothing hidden."""
    return _plain(value, redacted=False)


def _plain(value: object, redacted: bool) -> Any:
    if isinstance(value, (Duration, Size)):
        return scalar_text(value)
    if isinstance(value, dict):
        return {key: _plain(item, redacted) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item, redacted) for item in value]
    if not isinstance(value, msgspec.Struct):
        return value
    shown = _hidden(value) if redacted else value
    return {field.encode_name: _plain(getattr(shown, field.name), redacted) for field in _fields(shown)}


def _fields(value: msgspec.Struct) -> list[inspect.Field]:
    """The fields that say something: optional ones that are not given are left out."""
    return [field for field in struct_type(type(value)).fields if getattr(value, field.name) is not None]


def _hidden(value: msgspec.Struct) -> msgspec.Struct:
    """The struct with what must not be seen replaced."""
    if isinstance(value, OpenAIConfig | Judge) and value.api_key is not None:
        if parse_reference(value.api_key).source == "literal":
            return msgspec.structs.replace(value, api_key=HIDDEN)
    elif isinstance(value, Agents):
        if parse_reference(value.token).source == "literal":
            return msgspec.structs.replace(value, token=HIDDEN)
    elif isinstance(value, SharedState):
        if "@" in value.redis and parse_reference(value.redis).source == "literal":
            return msgspec.structs.replace(value, redis=HIDDEN)
    elif isinstance(value, HeaderEdits):
        safe = {name: HIDDEN if _TELLING_NAME.search(name) else text for name, text in value.set.items()}
        return msgspec.structs.replace(value, set=safe)
    elif isinstance(value, JwtProvider) and not (value.by_url or value.jwks.startswith("file:")):
        return msgspec.structs.replace(value, jwks=HIDDEN)
    return value
