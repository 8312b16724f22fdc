"""What describes a setting wherever it is used: the strict struct, and a duration with its unit."""

from __future__ import annotations

import re

import msgspec

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_DURATION_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


class Spec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """Base of every resource part: immutable, camelCase on the outside, an unknown field is an error."""


class Duration(float):
    """Seconds, written as `250ms`, `10s`, `5m`, `1h`, or several of them joined (`1m30s`)."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: object) -> Duration:
        """Raises ValueError for anything that is not a duration with a unit."""
        if isinstance(text, str) and (parts := _DURATION.findall(text)) and _DURATION.sub("", text) == "":
            return cls(sum(float(number) * _DURATION_UNITS[unit] for number, unit in parts))
        raise ValueError(f"{text!r} is not a duration: write a number with a unit, such as 250ms, 10s or 5m")
