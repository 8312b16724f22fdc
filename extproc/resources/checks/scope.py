"""What a cross-check looks at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

import msgspec

from extproc.resources.kinds.provider import LLMProvider
from extproc.resources.kinds.route import BackendRef, LLMRoute, Rule
from extproc.resources.problems import Problem, Step
from extproc.resources.snapshot import Resource, Snapshot
from extproc.resources.source import ManifestDocument

_Kind = TypeVar("_Kind", bound=Resource)


class Located(msgspec.Struct, frozen=True):
    """A resource and the document it was read from."""

    document: ManifestDocument
    resource: Resource

    def error(self, path: Sequence[Step], message: str, hint: str = "") -> Problem:
        return self.document.problem(path, message, hint)

    def warning(self, path: Sequence[Step], message: str, hint: str = "") -> Problem:
        return self.document.warning(path, message, hint)

    @property
    def place(self) -> str:
        """`FILE:LINE` of the document, for messages that point from one to another."""
        return f"{self.document.file}:{self.document.root.line}"


class Scope(msgspec.Struct, frozen=True):
    """Everything that was read, as one whole."""

    located: Sequence[Located]
    snapshot: Snapshot
    environ: Mapping[str, str]
    complete: bool
    """False where a document could not be read, so that a name that is not here may be there."""

    def of(self, kind: type[_Kind]) -> Iterator[tuple[Located, _Kind]]:
        """All resources of a kind."""
        for each in self.located:
            if isinstance(each.resource, kind):
                yield each, each.resource

    def provider(self, ref: BackendRef) -> LLMProvider | None:
        """The provider that a reference means; None for a pool or for what does not exist."""
        if ref.pool is not None or ref.backend_ref is not None:
            return None
        try:
            target = self.snapshot.resolve(ref)
        except KeyError:
            return None
        return target if isinstance(target, LLMProvider) else None

    def rules_of(self, provider: LLMProvider) -> Iterator[tuple[LLMRoute, Rule]]:
        """Every rule that sends requests to the provider, those of implied routes included."""
        for route in self.snapshot.effective_routes():
            for rule in route.spec.rules:
                if any(self.provider(ref) is provider for ref in rule.backend_refs):
                    yield route, rule
