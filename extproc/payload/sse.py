"""Server-sent events as bytes: whole frames out of chunks that end anywhere.

Line endings and the blank line that ends a frame follow the HTML standard, section 9.2.5: CRLF, LF or CR, mixed freely.
"""

import re

MAX_FRAME = 1 << 20
"""Default limit in bytes for one frame, which is also the most that is ever held back."""

# A frame ends at two line endings in a row. CR LF is one ending, so the pairs are written out.
_BORDER = re.compile(rb"\n(?:\n|\r\n?)|\r\r\n?")
_ENDINGS = re.compile(rb"[\r\n]*\Z")
_LINE = re.compile(rb"\r\n|\n|\r")
_BOM = b"\xef\xbb\xbf"


class Fragment(bytes):
    """Bytes of a frame over the limit: to be passed on as they are, never parsed."""

    __slots__ = ()


def split_frames(data: bytes) -> tuple[list[bytes], bytes]:
    """Complete frames (each with its blank line) and the unfinished rest.

    A blank line whose CR is the last byte is unfinished too: an LF may follow and would belong to it.
    """
    if b"\r" not in data:
        pieces = data.split(b"\n\n")
        rest = pieces.pop()
        return [piece + b"\n\n" for piece in pieces], rest
    frames = []
    at = 0
    for border in _BORDER.finditer(data):
        end = border.end()
        if end == len(data) and data[-1] == 13:
            break
        frames.append(data[at:end])
        at = end
    return frames, data[at:]


class SSESplitter:
    """Takes chunks as they come and returns complete frames, which do not depend on where the chunks were cut.

    A frame longer than `limit`, whether it arrives at once or in a thousand chunks, comes out as `Fragment` pieces as
    soon as it is seen to be too long; after its blank line ordinary frames follow again. What is returned, joined, is
    what was fed. Work is linear in the bytes fed.
    """

    __slots__ = ("_oversized", "_rest", "limit")

    def __init__(self, limit: int = MAX_FRAME) -> None:
        self.limit = limit
        self._rest = bytearray()
        self._oversized = False

    def __repr__(self) -> str:
        return f"SSESplitter(held={len(self._rest)}, oversized={self._oversized})"

    @property
    def idle(self) -> bool:
        """Whether the stream is at a frame border and nothing is held back."""
        return not self._rest and not self._oversized

    def feed(self, chunk: bytes) -> list[bytes]:
        """The frames that this chunk completes, oldest first; often the chunk itself."""
        rest = self._rest
        if rest:
            if not _BORDER.search(bytes(rest[-3:]) + chunk):
                rest += chunk
                return self._overflow([]) if len(rest) > self.limit or self._oversized else []
            chunk = bytes(rest) + chunk
            rest.clear()
        elif (
            chunk.endswith(b"\n\n")
            and chunk.find(b"\n\n") == len(chunk) - 2
            and b"\r" not in chunk
            and len(chunk) <= self.limit
            and not self._oversized
        ):
            return [chunk]
        frames, tail = split_frames(chunk)
        rest += tail
        if len(chunk) > self.limit or self._oversized:
            return self._overflow(frames)
        return frames

    def flush(self) -> bytes:
        """The unterminated rest when the stream has ended, b"" if none; a Fragment if its frame is over the limit."""
        rest = Fragment(self._rest) if self._oversized else bytes(self._rest)
        self._rest.clear()
        self._oversized = False
        return rest

    def _overflow(self, frames: list[bytes]) -> list[bytes]:
        """Mark what is over the limit, and let go of the rest where it is too."""
        out = [frame if len(frame) <= self.limit else Fragment(frame) for frame in frames]
        if out and self._oversized:
            out[0] = Fragment(out[0])
            self._oversized = False
        rest = self._rest
        if self._oversized or len(rest) > self.limit:
            self._oversized = True
            # Line endings at the end may be the first half of the blank line, so they wait for what follows.
            keep = _ENDINGS.search(rest, max(0, len(rest) - 3))
            cut = keep.start() if keep else len(rest)
            if cut:
                out.append(Fragment(rest[:cut]))
                del rest[:cut]
        return out


def event_data(frame: bytes) -> bytes | None:
    """The frame's data lines joined with LF, None if it has none or is a Fragment. The blank line may be missing."""
    if type(frame) is Fragment:
        return None
    end = len(frame) - 2
    if frame.startswith(b"data:") and frame.find(b"\n") == end and frame[-1] == 10 and b"\r" not in frame:
        return frame[6:end] if frame[5] == 32 else frame[5:end]
    lines = [frame[start:end] for start, end in data_spans(frame)]
    return b"\n".join(lines) if lines else None


def data_spans(frame: bytes) -> list[tuple[int, int]]:
    """Offsets of the value of each data line, without the one space that may follow the colon."""
    spans = []
    start = len(_BOM) if frame.startswith(_BOM) else 0
    while start < len(frame):
        ending = _LINE.search(frame, start)
        end, following = ending.span() if ending else (len(frame), len(frame))
        if frame.startswith(b"data:", start):
            value = start + 5
            spans.append((value + 1 if value < end and frame[value] == 32 else value, end))
        elif frame[start:end] == b"data":
            spans.append((end, end))
        start = following
    return spans
