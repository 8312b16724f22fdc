"""API keys: where they come from, and a type that does not show them."""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal, NoReturn

import msgspec

HIDDEN = "***"

_REFERENCE = re.compile(r"\$\{([^}]+)\}")
_UNSENDABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_MAX_BYTES = 64 * 1024


class Secret:
    """A value that only `reveal` shows. It cannot be printed, formatted, pickled or encoded by accident."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The value itself, for the one place that sends it."""
        return self._value

    def __repr__(self) -> str:
        return f"Secret({HIDDEN})"

    def __str__(self) -> str:
        return HIDDEN

    def __format__(self, spec: str) -> str:
        return HIDDEN

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(*(each.reveal().encode(errors="surrogatepass") for each in (self, other)))

    def __hash__(self) -> int:
        return hash(self._value)

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: object) -> Secret:
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a secret cannot be pickled")

    def __getstate__(self) -> NoReturn:
        raise TypeError("a secret cannot be pickled")


class Reference(msgspec.Struct, frozen=True):
    """How a manifest names a key."""

    source: Literal["environment", "file", "literal"]
    name: str
    """Variable, file name, or nothing for a literal."""


def parse_reference(text: str) -> Reference:
    """`${NAME}` is the environment, `${file:PATH}` a file; everything else stands for itself."""
    if (match := _REFERENCE.fullmatch(text)) is None:
        return Reference("literal", "")
    name = match[1]
    return Reference("file", name.removeprefix("file:")) if name.startswith("file:") else Reference("environment", name)


class BadSecretError(ValueError):
    """There is no usable key where the reference points. The message never holds any of it."""


def read_file(path: Path) -> str:
    """The key in a file, without white space around it. Raises BadSecretError."""
    try:
        with path.open("rb") as stream:
            raw = stream.read(_MAX_BYTES + 1)
    except OSError as error:
        raise BadSecretError(f"file {path} cannot be read: {error.strerror}") from None
    except ValueError:
        raise BadSecretError(f"file name {str(path)!r} is not valid") from None
    if len(raw) > _MAX_BYTES:
        raise BadSecretError(f"file {path} is larger than {_MAX_BYTES} bytes")
    try:
        return _usable(raw.decode("utf-8-sig"), f"file {path}")
    except UnicodeDecodeError:
        raise BadSecretError(f"file {path} is not text") from None


def find(text: str, environ: Mapping[str, str], directory: Path) -> str:
    """The value behind a reference. Raises BadSecretError."""
    reference = parse_reference(text)
    if reference.source == "file":
        return read_file(directory / reference.name)
    if reference.source == "literal":
        return _usable(text, "the key")
    if reference.name not in environ:
        raise BadSecretError(f"environment variable `{reference.name}` is not set")
    return _usable(environ[reference.name], f"environment variable `{reference.name}`")


def _usable(text: str, where: str) -> str:
    text = text.strip()
    if not text:
        raise BadSecretError(f"{where} is empty")
    if _UNSENDABLE.search(text):
        raise BadSecretError(f"{where} holds a line break or another character that no header can carry")
    return text


class SecretStore:
    """Resolves references. Everything is read once and again by `refresh`; a lookup is one dictionary access."""

    def __init__(self, environ: Mapping[str, str], directory: Path) -> None:
        self._environ = environ
        self._directory = directory
        self._secrets: dict[str, Secret | None] = {}
        self._failures: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"SecretStore({len(self._secrets)} references, {len(self._failures)} failing)"

    def load(self, references: Iterable[str]) -> None:
        """Reads what is not known yet, so that no request has to wait for a file."""
        for reference in references:
            self.resolve(reference)

    def resolve(self, reference: str) -> Secret | None:
        """The key, or None if there is none."""
        try:
            return self._secrets[reference]
        except KeyError:
            self._read(reference)
            return self._secrets[reference]

    def refresh(self) -> bool:
        """Reads all files again; True if a key is a different one. A file that fails keeps its last good key."""
        before = dict(self._secrets)
        for reference in before:
            if parse_reference(reference).source == "file":
                self._read(reference)
        return before != self._secrets

    def failures(self) -> dict[str, str]:
        """What is wrong, by reference, as of the last reading."""
        return dict(self._failures)

    def files(self) -> set[Path]:
        """The files whose changes ask for `refresh`."""
        parsed = map(parse_reference, self._secrets)
        return {self._directory / reference.name for reference in parsed if reference.source == "file"}

    def _read(self, reference: str) -> None:
        try:
            secret = Secret(find(reference, self._environ, self._directory))
        except BadSecretError as error:
            # A literal is its own reference, so it must not become a key that reports print.
            shown = HIDDEN if parse_reference(reference).source == "literal" else reference
            self._failures[shown] = str(error)
            self._secrets.setdefault(reference, None)
        else:
            self._failures.pop(reference, None)
            self._secrets[reference] = secret
