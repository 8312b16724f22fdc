"""Asks a private model for its opinion over HTTP: pooled, limited in time and number, remembered."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import aiohttp

from detectors.judge import LONGEST_TEXT, Language, NonsenseError, Opinion, opinion, question

log = logging.getLogger(__name__)

ENTRIES = 10_000
"""Opinions that are remembered, by hash of the text."""
LONGEST_ANSWER = 64 * 1024
"""Bytes of an answer; a longer one is nonsense."""


class JudgeClient:
    """One policy's judge. Use it within one event loop, and `close` it."""

    def __init__(
        self,
        url: str,
        model: str,
        *,
        key: Callable[[], str | None],
        language: Language = "auto",
        timeout: float = 3.0,
        max_concurrent: int = 16,
        entries: int = ENTRIES,
    ) -> None:
        """`key` gives the API key at the moment of a question, None where none is sent."""
        self._url = url
        self._model = model
        self._key = key
        self._language = language
        self._timeout = timeout
        self._most = max_concurrent
        self._slots = asyncio.Semaphore(max_concurrent)
        self._entries = entries
        self._known: OrderedDict[bytes, Opinion] = OrderedDict()
        self._pending: dict[bytes, asyncio.Future[Opinion | None]] = {}
        self._session: aiohttp.ClientSession | None = None
        self._closed = False
        self.failing = False
        """Whether the last question failed."""

    def __repr__(self) -> str:
        return f"<JudgeClient {self._url} {self._model!r}, {len(self._known)} opinions>"

    async def ask(self, text: str) -> Opinion | None:
        """The opinion on a text, None where it cannot be had in time. The same text is asked about once at a time."""
        key = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        known = self._known.get(key)
        if known is not None:
            self._known.move_to_end(key)
            return known
        pending = self._pending.get(key)
        if pending is None:
            pending = self._pending[key] = asyncio.ensure_future(self._learn(key, text))
            pending.add_done_callback(lambda _: self._pending.pop(key, None))
        return await asyncio.shield(pending)

    async def ask_all(self, texts: list[str]) -> list[Opinion | None]:
        """The opinions on several texts, asked at the same time."""
        return await asyncio.gather(*map(self.ask, texts))

    async def close(self) -> None:
        """Gives its connections back. A request that still holds it may go on asking, on connections of its own."""
        self._closed = True
        for pending in tuple(self._pending.values()):
            pending.cancel()
        if self._session is not None:
            await self._session.close()

    @asynccontextmanager
    async def _connections(self) -> AsyncIterator[aiohttp.ClientSession]:
        if self._closed:
            async with self._new_session() as session:
                yield session
            return
        if self._session is None:
            self._session = self._new_session()
        yield self._session

    def _new_session(self) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(limit=self._most)
        return aiohttp.ClientSession(connector=connector, auto_decompress=True)

    async def _learn(self, key: bytes, text: str) -> Opinion | None:
        """Asks, and remembers before anybody hears of it: nobody may find the text neither known nor pending."""
        found = await self._question(text)
        if found is not None:
            self._known[key] = found
            if len(self._known) > self._entries:
                self._known.popitem(last=False)
        return found

    async def _question(self, text: str) -> Opinion | None:
        try:
            async with asyncio.timeout(self._timeout):
                async with self._slots:
                    found = await self._post(text)
        except (aiohttp.ClientError, NonsenseError, TimeoutError, OSError) as error:
            if not self.failing:
                log.warning("the judge at %s fails: %s (not logged again until it answers)", self._url, _said(error))
            self.failing = True
            return None
        if self.failing:
            log.info("the judge at %s answers again", self._url)
        self.failing = False
        return found

    async def _post(self, text: str) -> Opinion:
        headers = {"content-type": "application/json"}
        if key := self._key():
            headers["authorization"] = f"Bearer {key}"
        shown = text[:LONGEST_TEXT] + text[-LONGEST_TEXT:]
        fence = f"==={secrets.token_hex(8)}==="
        while fence in shown:  # the text cannot know it beforehand, but must not hold it either
            fence = f"==={secrets.token_hex(8)}==="
        body = question(text, model=self._model, language=self._language, fence=fence)
        async with (
            self._connections() as session,
            session.post(self._url, data=body, headers=headers, allow_redirects=False) as response,
        ):
            if response.status != 200:
                raise NonsenseError(f"it answers with status {response.status}")
            answer = await response.content.read(LONGEST_ANSWER + 1)
            while len(answer) <= LONGEST_ANSWER and (more := await response.content.read(LONGEST_ANSWER)):
                answer += more
        if len(answer) > LONGEST_ANSWER:
            raise NonsenseError(f"its answer is longer than {LONGEST_ANSWER} bytes")
        return opinion(answer)


def _said(error: BaseException) -> str:
    return str(error) or type(error).__name__
