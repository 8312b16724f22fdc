"""Checks of labels: those that the gateway declares, and whether anything produces those that policies use."""

from __future__ import annotations

import re
from collections.abc import Iterator

from extproc.resources.checks.scope import Located, Scope
from extproc.resources.checks.values import bad_header
from extproc.resources.kinds.gateway import Gateway
from extproc.resources.kinds.labels import Label
from extproc.resources.problems import Problem, nearest
from extproc.resources.shape import Path
from extproc.scheduling.cel import BadExpression, compile_expression, labels_read
from extproc.steps.labels import CLAIM, FIXED, HEADER, PREDICTED, SOURCE, TENANT

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,62}")
_PREFIXES = (HEADER, CLAIM, SOURCE)


class KnownLabels:
    """What labels there are in a configuration."""

    def __init__(self, scope: Scope) -> None:
        spec = scope.snapshot.gateway.spec
        self._complete = scope.complete
        self._tokens = bool(spec.jwt)
        self._of_sources = {label for source in spec.sources for label in source.labels}
        self._names = {*FIXED, TENANT, PREDICTED, *spec.labels}

    def check(self, at: Located, path: Path, name: str) -> Iterator[Problem]:
        """What is wrong with the use of a label; an empty name uses none."""
        if not name or name in self._names:
            return
        if name.startswith(HEADER):
            if said := bad_header(name.removeprefix(HEADER)):
                yield at.error(path, said, f"write `{HEADER}NAME`")
        elif not self._complete:
            return
        elif name.startswith(CLAIM):
            if not self._tokens:
                yield at.error(path, "no token is verified, so there are no claims", "add `jwt` to the Gateway")
        elif name.startswith(SOURCE):
            label = name.removeprefix(SOURCE)
            if label not in self._of_sources:
                yield at.error(path, "no source of the Gateway has this label", nearest(label, self._of_sources))
        else:
            hint = nearest(name, {*self._names, f"{HEADER}NAME", f"{CLAIM}NAME", f"{SOURCE}NAME"})
            yield at.error(path, f"nothing gives a label `{name}`", hint)


def check_labels(scope: Scope) -> Iterator[Problem]:
    """All checks of the gateway's labels."""
    known = KnownLabels(scope)
    for at, gateway in scope.of(Gateway):
        above: set[str] = set()
        for name, label in gateway.spec.labels.items():
            path: Path = ("spec", "labels", name)
            if not _NAME.fullmatch(name):
                hint = "use up to 63 letters, digits, `_`, `.` and `-`, beginning with a letter or `_`"
                yield at.error(path, "not a valid name of a label", hint)
            elif name in FIXED or name == PREDICTED or name.startswith(_PREFIXES):
                yield at.error(path, "every request has a label of this name already")
            yield from _label(at, path, label, tokens=bool(gateway.spec.jwt))
            if label.cel is not None:
                declared_below = gateway.spec.labels.keys() - above - {TENANT}
                yield from _expression(at, (*path, "cel"), label.cel, known, declared_below)
            above.add(name)


def _label(at: Located, path: Path, label: Label, *, tokens: bool) -> Iterator[Problem]:
    given = [kind for kind in ("header", "claim", "cel") if getattr(label, kind) is not None]
    if len(given) > 1 or (not given and label.value is None):
        found = f"found {' and '.join(f'`{kind}`' for kind in given)}" if given else "found none"
        yield at.error(path, "give exactly one of `header`, `claim` and `cel`, or `value` alone", found)
    if label.header is not None and (said := bad_header(label.header)):
        yield at.error((*path, "header"), said)
    if label.claim is not None and not tokens:
        yield at.error((*path, "claim"), "no token is verified, so there are no claims", "add `jwt` to the Gateway")


def _expression(at: Located, path: Path, text: str, known: KnownLabels, below: set[str]) -> Iterator[Problem]:
    try:
        compile_expression(text)
    except BadExpression as error:
        yield at.error(path, " ".join(str(error).split()))
        return
    for name in labels_read(text) or ():
        if name in below:
            yield at.error(path, f"reads `{name}`, which is not declared above it")
        else:
            yield from known.check(at, path, name)
