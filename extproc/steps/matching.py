"""String conditions of a route match, compiled once."""

from __future__ import annotations

from collections.abc import Callable

import re2

StringTest = Callable[[str], bool]


def exact(wanted: str) -> StringTest:
    return wanted.__eq__


def prefix(wanted: str) -> StringTest:
    return lambda value: value.startswith(wanted)


def regex(pattern: str) -> StringTest:
    """Whole-value match, as in Envoy. Raises `re2.error` for a pattern that does not compile."""
    compiled = re2.compile(pattern)
    return lambda value: compiled.fullmatch(value) is not None
