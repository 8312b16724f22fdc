"""One frame of an event stream, taken apart so that it can go out with other data."""

import re

import msgspec

from extproc.payload.guard.schema import ID

_LINE = re.compile(rb"([^\r\n]*)(\r\n|\n|\r|\Z)")
_BOM = b"\xef\xbb\xbf"
_FIELD = re.compile(
    rb"event:[ ]?[a-z](?:[a-z_.-]|[0-9]{1,3}(?![0-9])){0,63}|retry:[ ]?[0-9]{1,6}"
    rb"|id:[ ]?(?:[0-9]{0,6}|" + ID.pattern.replace(b'"', b"") + rb")"
)
_DATA = re.compile(rb"data(?::[ ]?|\Z)")


class Frame(msgspec.Struct, frozen=True):
    """A frame's lines. Only data goes out again, and event, id and retry where they are one word, a short id or number.

    The words of comments, which keep a connection alive, and lines of other fields are left out, as are a mark of the
    byte order and whatever else could carry text past the filters.
    """

    raw: bytes
    pieces: tuple[tuple[bytes, bool], ...]
    """Bytes between the data values, and whether a value follows each."""
    data: bytes | None
    """The data lines joined with LF; None without one."""

    @property
    def clean(self) -> bool:
        """Whether the frame goes out as it came."""
        return self.whole(self.data) == self.raw

    def whole(self, data: bytes | None) -> bytes:
        """The frame with other data of as many lines."""
        values = iter(() if data is None else data.split(b"\n"))
        return b"".join([piece + next(values) if follows else piece for piece, follows in self.pieces])


def frame_of(raw: bytes) -> Frame:
    """Takes a frame apart. The blank line may be missing."""
    end = len(raw) - 2
    if raw.startswith(b"data: ") and raw.find(b"\n") == end and raw[-1] == 10 and b"\r" not in raw:
        return Frame(raw, ((b"data: ", True), (b"\n\n", False)), raw[6:end])
    pieces: list[tuple[bytes, bool]] = []
    values: list[bytes] = []
    for line, ending in _LINE.findall(raw.removeprefix(_BOM)):
        found = _DATA.match(line)
        if found is not None:
            values.append(line[found.end() :])
            pieces += ((found[0], True), (ending, False))
        elif not line:
            pieces.append((ending, False))
        elif line[:1] == b":":
            pieces.append((b":" + ending, False))
        elif _FIELD.fullmatch(line):
            pieces.append((line + ending, False))
    return Frame(raw, tuple(pieces), b"\n".join(values) if values else None)
