"""Labels computed by an expression in the Common Expression Language, such as
`labels["tenant"] == "acme" ? "gold" : labels["tier"]`.

Bounded: the text is short, loops (`map`, `filter`, `all`, `exists`, `exists_one`) are not nested and only go over what
is written in the expression or over the labels, and results are remembered. The interpreter takes some 300 us for a new
combination of values of the labels that an expression reads; a known one costs a look-up.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Protocol

from extproc.scheduling.labels import Labels, clip

MAX_TEXT = 1024
_MAX_NODES = 4000
_REMEMBERED = 1024
_LOOPS = frozenset({"map", "filter", "all", "exists", "exists_one", "reduce", "min"})
_VARIABLE = "labels"
_MENTIONED = re.compile(r"\blabels\b")
_READ = re.compile(
    r"""\blabels(?:\.(\w+)\b(?!\s*\()|\[\s*(?:"([^"\\]*)"|'([^'\\]*)')\s*\])"""
    r"""|["']([^"'\\]*)["']\s+in\s+labels\b(?!\s*[.\[])"""
)


class BadExpression(ValueError):
    """An expression that cannot be compiled; the message says why."""


class Expression(Protocol):
    """A compiled expression."""

    def evaluate(self, labels: Labels) -> str | None:
        """The value as text; None where it fails, as on a label that is absent, or is neither text, number nor bool."""
        ...


def compile_expression(text: str) -> Expression:
    """Raises BadExpression. The only variable is `labels`, a map of text to text."""
    import celpy  # heavy, and needed only where a configuration has expressions
    from celpy import celtypes
    from celpy.celparser import CELParseError
    from celpy.evaluation import CELEvalError

    if len(text) > MAX_TEXT:
        raise BadExpression(f"the expression is longer than {MAX_TEXT} characters")
    environment = celpy.Environment()
    try:
        tree = environment.compile(text)
        _check(tree)
        program = environment.program(tree)
    except CELParseError as error:
        raise BadExpression(f"no CEL expression: {str(error).strip()}") from None
    return _Compiled(program, celtypes, CELEvalError, labels_read(text))


def labels_read(text: str) -> tuple[str, ...] | None:
    """The labels that an expression reads; None where that cannot be told from its text."""
    found = [next(filter(None, match.groups()), "") for match in _READ.finditer(text)]
    return tuple(dict.fromkeys(found)) if len(found) == len(_MENTIONED.findall(text)) else None


class _Compiled:
    """Remembers the results for the values seen last of the labels that it reads."""

    def __init__(self, program: Any, types: Any, failed: type[Exception], reads: tuple[str, ...] | None) -> None:
        self._reads = reads
        self._program = program
        self._types = types
        self._failed = failed
        self._known: OrderedDict[object, str | None] = OrderedDict()

    def evaluate(self, labels: Labels) -> str | None:
        reads, known = self._reads, self._known
        key = frozenset(labels.items()) if reads is None else tuple([labels.get(name) for name in reads])
        if key in known:
            known.move_to_end(key)
            return known[key]
        value = known[key] = self._run(labels)
        if len(known) > _REMEMBERED:
            known.popitem(last=False)
        return value

    def _run(self, labels: Labels) -> str | None:
        types = self._types
        text = types.StringType
        given = types.MapType({text(name): text(value) for name, value in labels.items()})
        try:
            value = self._program.evaluate({_VARIABLE: given})
        except (self._failed, ArithmeticError, TypeError, ValueError, KeyError, RecursionError):
            return None
        if isinstance(value, types.BoolType):
            return "true" if value else "false"
        if isinstance(value, str):
            return clip(str(value))
        if isinstance(value, int | float):
            return clip(f"{value:g}" if isinstance(value, float) else str(int(value)))
        return None


def compute(labels: dict[str, str], rules: Mapping[str, Expression]) -> None:
    """Adds the computed labels, in the order of the rules, so that later ones can read earlier ones. One that fails is
    left out, and removes what had its name: a client's header never stands in for it."""
    for name, expression in rules.items():
        value = expression.evaluate(labels)
        if value is None:
            labels.pop(name, None)
        else:
            labels[name] = value


def _check(tree: Any) -> None:
    """Bounds the work of one evaluation. Raises BadExpression."""
    nodes = 0
    stack = [(tree, False)]
    while stack:
        node, looping = stack.pop()
        nodes += 1
        name = str(node.children[1]) if getattr(node, "data", "") == "member_dot_arg" else ""
        if name in _LOOPS and looping:
            raise BadExpression("loops must not be nested")
        if getattr(node, "data", "") == "ident" and str(node.children[0]) != _VARIABLE and not looping:
            raise BadExpression(f"unknown name {str(node.children[0])!r}: the only variable is {_VARIABLE!r}")
        stack += [(child, looping or name in _LOOPS) for child in getattr(node, "children", ())]
    if nodes > _MAX_NODES:
        raise BadExpression("the expression is too big")
