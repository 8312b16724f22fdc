"""Fields of a request that are written, wherever a body has them."""

from __future__ import annotations

import re
from functools import lru_cache

import msgspec

from extproc.payload.document import Document
from extproc.payload.errors import PayloadError

_WORD = re.compile(r"(?<=[a-z0-9])[A-Z]")
_encode = msgspec.json.encode
_number = msgspec.json.Decoder(float).decode


@lru_cache(maxsize=1024)
def spellings(name: str) -> tuple[str, ...]:
    """A name as it is written usually, and as Google's APIs also take it: `maxOutputTokens`, `max_output_tokens`.

    Asked of names that operations and configuration have, never of a client's.
    """
    other = _WORD.sub(lambda letter: "_" + letter[0].lower(), name)
    return (name,) if other == name else (name, other)


class Fields:
    """The fields of one body by name, where a dot reaches into an object. Null counts as absent.

    Raises PayloadError `wrong_type` where something else than an object is in the way.
    """

    def __init__(self, document: Document) -> None:
        self._document = document
        self._set: dict[str, bytes] = {}
        self._removed: list[str] = []
        self._inner: dict[str, tuple[Document, dict[str, bytes]]] = {}

    def get(self, name: str) -> bytes | None:
        """The value that counts, edits included."""
        found = self.places(name)
        return self._at(found[0]) if found else None

    def places(self, name: str) -> tuple[str, ...]:
        """Where the body has this field: it may be there in more than one spelling."""
        outer, _, inner = name.partition(".")
        if not inner:
            return tuple([each for each in spellings(outer) if self._at(each) is not None])
        return tuple(
            f"{container}.{each}"
            for container in spellings(outer)
            for each in spellings(inner)
            if self._at(f"{container}.{each}") is not None
        )

    def put(self, name: str, value: bytes) -> None:
        """Write a field where the body has it, else where it belongs."""
        if found := self.places(name):
            for each in found:
                self._write(each, value)
            return
        outer, _, inner = name.partition(".")
        container = next((each for each in spellings(outer) if not self._document.missing(each)), outer)
        self._write(f"{container}.{inner}" if inner else container, value)

    def write(self, place: str, value: bytes) -> None:
        """Write at a place that `places` gave."""
        self._write(place, value)

    def remove(self, name: str) -> None:
        self._removed.append(name)

    def edited(self) -> bytes | None:
        """The body with the edits, None where there are none."""
        edits = dict(self._set)
        for container, (document, inner) in self._inner.items():
            if inner:
                edits[container] = document.edit(inner)
        return self._document.edit(edits, self._removed) if edits or self._removed else None

    def _at(self, place: str) -> bytes | None:
        outer, _, inner = place.partition(".")
        if not inner:
            value = self._set.get(outer) or self._document.get(outer)
        elif self._document.missing(outer) and outer not in self._inner:
            return None
        else:
            document, edits = self._object(outer)
            value = edits.get(inner) or document.get(inner)
        return None if value is None or value == b"null" else value

    def _write(self, place: str, value: bytes) -> None:
        outer, _, inner = place.partition(".")
        if inner:
            self._object(outer)[1][inner] = value
        else:
            self._set[outer] = value

    def _object(self, name: str) -> tuple[Document, dict[str, bytes]]:
        found = self._inner.get(name)
        if found is None:
            raw = self._document.get(name)
            if raw is None or raw == b"null":
                raw = b"{}"
            if raw[:1] != b"{":
                raise PayloadError(f"'{name}' must be an object", "wrong_type", name)
            found = self._inner[name] = Document.parse(raw), {}
        return found


def number_at(fields: Fields, place: str) -> float:
    """The number at a place that `places` gave. Raises PayloadError `wrong_type`."""
    try:
        return _number(fields.get(place) or b"null")
    except msgspec.DecodeError:
        raise PayloadError(f"`{place}` must be a number.", "wrong_type", place) from None


def encoded(number: float) -> bytes:
    return _encode(int(number) if number.is_integer() else number)
