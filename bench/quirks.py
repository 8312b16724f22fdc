"""What a simulated provider can be asked to do oddly: a comma list such as `crlf,gzip,events:20,slow-stream:5`."""

from __future__ import annotations

import asyncio
import random
import zlib
from collections.abc import Iterator
from typing import Protocol

import brotli
import msgspec
import zstandard
from aiohttp import web

from bench.farside import reset_connection

ENCODINGS = ("gzip", "deflate", "br", "zstd")
REMOVABLE_HEADERS = {
    "server": "provider-sim/1.0",
    "x-request-cost": "0.0042",
    "openai-organization": "org-simulated",
    "openai-processing-ms": "17",
}


WRITINGS = (
    "<{name}_{number}>",
    "[{name}_{number}]",
    "{name}_{number}",
    "\\<{name}\\_{number}\\>",
    "%3C{name}_{number}%3E",
    "<{name}{number}>",
    "\uff1c{name}\uff3f{number}\uff1e",
    "\u3010{name}_{number}\u3011",
)
"""How models write a placeholder: as it came, in other brackets, bare, escaped for Markdown and for an address, without
a separator, and with full-width characters."""


class Quirks(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="kebab"):
    """One field per quirk, written with dashes; a number follows its name after a colon.

    The four encodings apply whether the client accepts them or not, JSON and streams alike, streams flushed after every
    event. `slow-stream` (between events) and `delay` (before the answer) are milliseconds. `events` is the number of
    content events, `big-line` the bytes of one more content event in the middle of a stream. `cached` and `reasoning`
    are tokens; reasoning tokens are generated, shown as `reasoning_content` and counted as completion. `usage-null`
    puts `"usage": null` into the other chunks of a stream that ends with usage, as OpenAI does. `split` writes 1 to 7
    bytes at a time. `server-header` adds headers that a gateway should remove. `status` answers with an error. `echo`
    answers with the last user's text, or calls a tool with it, in content events of so many characters; `rewrite` has
    it write what looks like `<NAME_1>` in another way, by its number in `WRITINGS`.
    """

    crlf: bool = False
    no_final_newline: bool = False
    no_usage: bool = False
    usage_null: bool = False
    json_to_stream: bool = False
    split: bool = False
    reset_mid: bool = False
    server_header: bool = False
    gzip: bool = False
    deflate: bool = False
    br: bool = False
    zstd: bool = False
    slow_stream: int = 0
    delay: int = 0
    status: int = 0
    big_line: int = 0
    events: int = 0
    cached: int = 0
    reasoning: int = 0
    echo: int = 0
    rewrite: int = 0

    @property
    def encoding(self) -> str:
        """The content encoding, empty for none."""
        return next((name for name in ENCODINGS if getattr(self, name)), "")


def parse_quirks(text: str) -> Quirks:
    """Raises ValueError for an unknown name, or for a number that is missing, negative or too much."""
    fields: dict[str, bool | int] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        name, colon, number = item.partition(":")
        if colon and not number.isdecimal():
            raise ValueError(f"{item!r} needs a number after the colon")
        fields[name] = int(number) if colon else True
    try:
        return msgspec.convert(fields, Quirks)
    except msgspec.ValidationError as error:
        raise ValueError(f"x-sim {text!r}: {error}") from error


class Encoder(Protocol):
    """An incremental content encoding."""

    def part(self, data: bytes) -> bytes:
        """Encode, flushed so that the reader can decode everything so far."""

    def end(self) -> bytes:
        """What closes the encoded stream."""


class Identity:
    """No encoding."""

    def part(self, data: bytes) -> bytes:
        return data

    def end(self) -> bytes:
        return b""


class Zlib:
    """gzip, or deflate with a zlib header as HTTP means it."""

    def __init__(self, wbits: int) -> None:
        self._encoder = zlib.compressobj(wbits=wbits)

    def part(self, data: bytes) -> bytes:
        return self._encoder.compress(data) + self._encoder.flush(zlib.Z_SYNC_FLUSH)

    def end(self) -> bytes:
        return self._encoder.flush()


class Brotli:
    """br."""

    def __init__(self) -> None:
        self._encoder = brotli.Compressor(quality=4)

    def part(self, data: bytes) -> bytes:
        return bytes(self._encoder.process(data) + self._encoder.flush())

    def end(self) -> bytes:
        return bytes(self._encoder.finish())


class Zstd:
    """zstd."""

    def __init__(self) -> None:
        self._encoder = zstandard.ZstdCompressor().compressobj()

    def part(self, data: bytes) -> bytes:
        return self._encoder.compress(data) + self._encoder.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)

    def end(self) -> bytes:
        return self._encoder.flush()


def encoder(name: str) -> Encoder:
    """A fresh encoder for a content encoding of `ENCODINGS`, or for none."""
    if name in ("gzip", "deflate"):
        return Zlib(31 if name == "gzip" else 15)
    if name == "br":
        return Brotli()
    return Zstd() if name == "zstd" else Identity()


def fragments(data: bytes, split: bool) -> Iterator[bytes]:
    """The writes that `data` becomes: one, or pieces of 1 to 7 bytes, the same for the same data."""
    if not split:
        yield data
        return
    sizes, start = random.Random(len(data)), 0
    while start < len(data):
        end = start + sizes.randint(1, 7)
        yield data[start:end]
        start = end


def frame_events(events: list[bytes], quirks: Quirks) -> list[bytes]:
    """Events (each ending with an empty line) with the line ends that the quirks ask for."""
    if quirks.crlf:
        events = [event.replace(b"\n", b"\r\n") for event in events]
    if quirks.no_final_newline and events:
        events = [*events[:-1], events[-1].rstrip(b"\r\n")]
    return events


async def send(
    request: web.Request, quirks: Quirks, parts: list[bytes], content_type: str, status: int = 200
) -> web.StreamResponse:
    """Write the parts (events, or one JSON body) in the manner that the quirks ask for."""
    headers = {"content-type": content_type, **(REMOVABLE_HEADERS if quirks.server_header else {})}
    if quirks.encoding:
        headers["content-encoding"] = quirks.encoding
    elif len(parts) == 1:
        headers["content-length"] = str(len(parts[0]))
    response = web.StreamResponse(status=status, headers=headers)
    await response.prepare(request)
    if quirks.reset_mid:
        parts = parts[: len(parts) // 2] or [parts[0][: len(parts[0]) // 2]]
    encode = encoder(quirks.encoding)
    for index, part in enumerate(parts):
        if index and quirks.slow_stream:
            await asyncio.sleep(quirks.slow_stream / 1000)
        for fragment in fragments(encode.part(part), quirks.split):
            await response.write(fragment)
    if quirks.reset_mid:
        reset_connection(request.transport)
        return response
    for fragment in fragments(encode.end(), quirks.split):
        await response.write(fragment)
    await response.write_eof()
    return response
