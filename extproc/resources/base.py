"""What every resource kind is built from: the strict struct, metadata, durations and sizes."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from extproc.spec import Duration, Spec

API_VERSIONS = ("sluice.dev/v1alpha1", "istio.alibabacloud.com/v1beta1")

_SIZE = re.compile(r"(\d+)(Ki|Mi|Gi|k|M|G)?B?")
_SIZE_UNITS = {None: 1, "k": 10**3, "M": 10**6, "G": 10**9, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}


class Size(int):
    """Bytes, written as a number or with a unit: `512KiB`, `32MiB`, `1GB`."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: object) -> Size:
        """Raises ValueError for anything that is not a size."""
        if isinstance(text, int) and not isinstance(text, bool) and text >= 0:
            return cls(text)
        if isinstance(text, str) and (match := _SIZE.fullmatch(text)):
            return cls(int(match[1]) * _SIZE_UNITS[match[2]])
        raise ValueError(f"{text!r} is not a size: write bytes or a number with a unit, such as 512KiB or 32MiB")


def decode_hook(kind: type, value: object) -> Any:
    """`msgspec` hook that reads the project's own scalar types."""
    if kind is Duration:
        return Duration.parse(value)
    if kind is Size:
        return Size.parse(value)
    raise NotImplementedError(f"no reader for {kind!r}")


class Metadata(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Kubernetes object metadata. Fields that Sluice does not use are accepted and ignored, as Kubernetes adds many."""

    name: str
    namespace: str = "default"
    labels: dict[str, str] = {}


class StringMatch(Spec, frozen=True, kw_only=True):
    """How a string must look: exactly one of the three."""

    exact: str | None = None
    prefix: str | None = None
    regex: str | None = None
    """RE2 syntax; must match the whole value, as in Envoy."""


class HeaderEdits(Spec, frozen=True, kw_only=True):
    """Header changes. Names are case-insensitive."""

    set: dict[str, str] = {}
    """Added, or replaced where present."""
    remove: list[str] = []
    """Names to remove; a trailing `*` removes every name with that prefix."""


__all__ = ["API_VERSIONS", "Duration", "HeaderEdits", "Metadata", "Size", "Spec", "StringMatch", "decode_hook"]
