"""Which requests a policy is for: conditions on labels, compiled once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Literal

import msgspec
import re2
import xxhash

Labels = Mapping[str, str]
Match = Callable[[Labels], bool]
Operator = Literal["equals", "prefix", "regex", "in", "notIn", "exists", "doesNotExist"]

MAX_VALUE = 256
"""Bytes of one label value; a longer one is cut and told apart by a hash of the whole."""
_KEPT = 200


class Condition(msgspec.Struct, frozen=True):
    """One condition on one label. A label that is absent meets `notIn` and `doesNotExist` only, as in Kubernetes."""

    key: str
    operator: Operator
    values: tuple[str, ...] = ()
    """One for `equals`, `prefix` and `regex` (whole value, re2), any number for `in` and `notIn`, none for the rest."""


class AnyOf(msgspec.Struct, frozen=True):
    """Holds where all conditions of at least one alternative do."""

    alternatives: tuple[tuple[Condition, ...], ...]


class BadCondition(ValueError):
    """A condition that cannot be compiled; the message says why."""


def clip(value: str) -> str:
    """A label value of bounded length; different values stay different."""
    if len(value) <= MAX_VALUE // 4:
        return value
    data = value.encode("utf-8", "surrogatepass")
    if len(data) <= MAX_VALUE:
        return value
    return f"{data[:_KEPT].decode('utf-8', 'ignore')}#{xxhash.xxh3_128_hexdigest(data)}"


def everything(_labels: Labels) -> bool:
    """The match of a policy without conditions."""
    return True


def compile_match(conditions: Iterable[Condition | AnyOf]) -> Match:
    """All conditions together. Raises BadCondition."""
    tests = tuple(_any(each) if isinstance(each, AnyOf) else _compile(each) for each in conditions)
    if not tests:
        return everything
    if len(tests) == 1:
        return tests[0]
    return lambda labels: all(test(labels) for test in tests)


def _any(choice: AnyOf) -> Match:
    matches = tuple(compile_match(conditions) for conditions in choice.alternatives)
    return lambda labels: any(match(labels) for match in matches)


def _compile(condition: Condition) -> Match:
    key, operator, values = condition.key, condition.operator, condition.values
    if operator == "exists" or operator == "doesNotExist":
        if values:
            raise BadCondition(f"label {key!r}: {operator} takes no values")
        return (lambda labels: key in labels) if operator == "exists" else (lambda labels: key not in labels)
    if operator == "in" or operator == "notIn":
        if not values:
            raise BadCondition(f"label {key!r}: {operator} needs at least one value")
        among = frozenset(values)
        if operator == "in":
            return lambda labels: labels.get(key) in among
        return lambda labels: labels.get(key) not in among
    if len(values) != 1:
        raise BadCondition(f"label {key!r}: {operator} takes exactly one value")
    wanted = values[0]
    if operator == "equals":
        return lambda labels: labels.get(key) == wanted
    if operator == "prefix":
        return lambda labels: labels.get(key, "").startswith(wanted) and key in labels
    return _regex(key, wanted)


def _regex(key: str, pattern: str) -> Match:
    options = re2.Options()
    options.log_errors = False
    try:
        fullmatch = re2.compile(pattern, options).fullmatch
    except re2.error as error:
        raise BadCondition(f"label {key!r}: {pattern!r} is no regular expression: {error}") from None
    return lambda labels: key in labels and fullmatch(labels[key]) is not None
