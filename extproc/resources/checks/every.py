"""Cross-checks: what the shape of single documents cannot say."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from extproc.resources.checks.agents import check_agents
from extproc.resources.checks.clashes import check_clashes
from extproc.resources.checks.destinations import check_pools, check_providers
from extproc.resources.checks.gateway import check_gateway
from extproc.resources.checks.labels import check_labels
from extproc.resources.checks.routes import check_routes
from extproc.resources.checks.scope import Located, Scope
from extproc.resources.checks.security import check_security
from extproc.resources.checks.shared import check_shared
from extproc.resources.checks.traffic import check_traffic
from extproc.resources.checks.values import check_values
from extproc.resources.kinds.gateway import Gateway
from extproc.resources.problems import Problem
from extproc.resources.snapshot import Snapshot


def check(
    located: Sequence[Located], snapshot: Snapshot, environ: Mapping[str, str], *, complete: bool
) -> list[Problem]:
    """Errors and warnings about resources that each have the right shape.

    `complete` is False where other documents could not be read: then nothing is reported merely for being absent.
    """
    scope = Scope(located, snapshot, environ, complete)
    return [problem for each in CHECKS for problem in each(scope)]


def check_names(scope: Scope) -> Iterator[Problem]:
    """Names are unique within a kind, and there is one gateway."""
    first: dict[tuple[str, str], Located] = {}
    gateway: Located | None = None
    for each in scope.located:
        resource = each.resource
        key = (resource.kind, resource.metadata.name)
        if (other := first.setdefault(key, each)) is not each:
            yield each.error(("metadata", "name"), f"another {resource.kind} has this name", f"see {other.place}")
        elif isinstance(resource, Gateway):
            if gateway is not None:
                yield each.error(("kind",), "there can be only one Gateway", f"see {gateway.place}")
            gateway = gateway or each


CHECKS: list[Callable[[Scope], Iterator[Problem]]] = [
    check_names,
    check_values,
    check_routes,
    check_providers,
    check_pools,
    check_gateway,
    check_agents,
    check_shared,
    check_security,
    check_labels,
    check_traffic,
    check_clashes,
]
