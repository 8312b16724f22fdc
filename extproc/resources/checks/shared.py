"""Checks of what the gateway keeps beside its configuration: shared state, and what it has learned."""

from __future__ import annotations

from collections.abc import Iterator

from extproc.resources.checks.scope import Located, Scope
from extproc.resources.kinds.gateway import Gateway, SharedState
from extproc.resources.problems import Problem
from extproc.resources.secrets import BadSecretError, find, parse_reference
from extproc.resources.watch import MANIFEST_SUFFIXES

_SCHEMES = ("redis://", "rediss://", "unix://")


def check_shared(scope: Scope) -> Iterator[Problem]:
    """All checks of `predictor` and `sharedState`."""
    for at, gateway in scope.of(Gateway):
        if gateway.spec.predictor.file is not None:
            yield from _file(scope, at, gateway.spec.predictor.file)
        if gateway.spec.shared_state is not None:
            yield from _redis(scope, at, gateway.spec.shared_state)


def _file(scope: Scope, at: Located, name: str) -> Iterator[Problem]:
    path = ("spec", "predictor", "file")
    file = scope.snapshot.directory / name
    if file.suffix in MANIFEST_SUFFIXES:
        yield at.error(path, "a file of this name would be taken for a manifest", "write a name such as `lengths.bin`")
    elif not file.parent.is_dir():
        yield at.error(path, f"there is no directory {file.parent}")
    elif file.is_dir():
        yield at.error(path, f"{file} is a directory")


def _redis(scope: Scope, at: Located, shared: SharedState) -> Iterator[Problem]:
    path = ("spec", "sharedState", "redis")
    if not shared.prefix:
        yield at.error(("spec", "sharedState", "prefix"), "must not be empty")
    try:
        address = find(shared.redis, scope.environ, scope.snapshot.directory)
    except BadSecretError as error:
        yield at.error(path, str(error))
        return
    if not address.startswith(_SCHEMES):
        yield at.error(path, "expected an address such as `redis://127.0.0.1:6379/0`")
    elif "@" in shared.redis and parse_reference(shared.redis).source == "literal":
        hint = "write `${NAME}` to read the environment or `${file:PATH}` to read a file"
        yield at.warning(path, "a password in a manifest is easily copied and committed", hint)
