"""What the gateway has learned about the length of answers, kept in a file over restarts."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import tempfile
from pathlib import Path

from extproc.prediction.predictor import Corrupt, LengthPredictor

log = logging.getLogger("sluice.predictor")

INTERVAL = 300.0
"""Seconds between two writes."""


class PredictorFile:
    """The process's one predictor. `predictor` may be taught and asked at any time, on the event loop."""

    def __init__(self, interval: float = INTERVAL) -> None:
        self.predictor = LengthPredictor()
        self._interval = interval
        self._file: Path | None = None
        self._written = 0
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<PredictorFile {self.predictor!r} in {self._file}>"

    async def prepare(self, file: Path | None) -> LengthPredictor | None:
        """What `use` takes over from `file`: the first one is read, and one that cannot be read is a warning."""
        if file is None or self._file is not None or self.predictor.learned:
            return None
        return await asyncio.to_thread(_read, file)

    def use(self, file: Path | None, found: LengthPredictor | None = None) -> None:
        """From here on it is kept in `file`; `found` is what `prepare` read there."""
        if found is not None and not self.predictor.learned:
            self.predictor = found
            self._written = found.learned
        self._file = file
        if self._task is None and file is not None:
            self._task = asyncio.create_task(self._keep())

    async def stop(self) -> None:
        """Writes what has been learned since the last time."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await self.save()

    async def save(self) -> None:
        """Writes the file, if there is one and anything new for it. A failure is a warning."""
        if self._file is None or self.predictor.learned == self._written:
            return
        learned = self.predictor.learned
        try:
            await asyncio.to_thread(_write, self._file, self.predictor)
        except OSError as error:
            log.warning("what was learned about answers cannot be kept in %s: %s", self._file, error)
        else:
            self._written = learned

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(self._interval)
            await self.save()


def _read(file: Path) -> LengthPredictor:
    try:
        return LengthPredictor.load(file.read_bytes())
    except FileNotFoundError:
        return LengthPredictor()
    except (OSError, Corrupt) as error:
        log.warning("%s holds nothing that can be used, the predictor begins anew: %s", file, error)
        return LengthPredictor()


def _write(file: Path, predictor: LengthPredictor) -> None:
    """All of it or nothing. Raises OSError."""
    data = predictor.save()
    handle, name = tempfile.mkstemp(prefix=f"{file.name}.", dir=file.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        Path(name).replace(file)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise
