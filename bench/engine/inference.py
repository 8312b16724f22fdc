"""The inference endpoints of a simulated engine: from a request body to tokens of the core and back."""

from __future__ import annotations

import asyncio
import time

import aiohttp
import msgspec
from aiohttp import web

from bench import answers
from bench.engine import openai
from bench.engine.config import EngineConfig
from bench.engine.metrics import Observations
from bench.engine.pacer import Pacer, Sink
from bench.engine.stream import Answer, Reset, respond
from extproc.simulate.engine import Sequence, SimulatedRequest


class Inference:
    """Serves requests on one engine. Every handler takes the request, its body and the reset it will suffer."""

    def __init__(self, config: EngineConfig, pacer: Pacer, observations: Observations) -> None:
        self.config = config
        self.pacer = pacer
        self.observations = observations
        self._client: aiohttp.ClientSession | None = None
        self._embedded = 0

    async def close(self) -> None:
        """Close the connections to prefill engines."""
        if self._client is not None:
            await self._client.close()

    async def chat(self, request: web.Request, body: bytes, reset: Reset | None) -> web.StreamResponse:
        """`/v1/chat/completions`. Raises RefusedError."""
        value = openai.decode(body, self.config.names)
        job = openai.read_chat(value, int(time.time()), self.config.answer_tokens)
        return await self._generate(request, body, job, reset)

    async def completion(self, request: web.Request, body: bytes, reset: Reset | None) -> web.StreamResponse:
        """`/v1/completions`. Raises RefusedError."""
        value = openai.decode(body, self.config.names)
        job = openai.read_completion(value, int(time.time()), self.config.answer_tokens)
        return await self._generate(request, body, job, reset)

    async def _generate(
        self, request: web.Request, body: bytes, job: openai.Job, reset: Reset | None
    ) -> web.StreamResponse:
        prefetched = await self._prefetch(request, body)
        answer = Answer(request, job, reset)
        blocks = answers.block_hashes(job.prompt, self.config.profile.block_size, f"{job.model}/{job.salt}")
        ask = self._request(job.id, job.model, job.prompt_tokens, len(job.pieces), blocks, prefetched)
        if job.stream:
            # As with a real server, the headers of a stream leave before the first token exists.
            await answer.start()
        answer.sequence = sequence = self.pacer.submit(ask, answer.feed)
        try:
            await answer.done
        finally:
            self.pacer.cancel(job.id)
        self._observe(sequence)
        job.cached = sequence.cached
        return await respond(answer)

    async def embeddings(self, _: web.Request, body: bytes, __: Reset | None) -> web.StreamResponse:
        """`/v1/embeddings`; a reset it suffers before the headers only. Raises RefusedError."""
        value = openai.decode(body, self.config.names)
        texts, encoding = openai.read_inputs(value), value.get("encoding_format", "float")
        dimensions = value.get("dimensions", 64)
        if type(dimensions) is not int or not 1 <= dimensions <= 4096:
            raise openai.RefusedError(400, "dimensions must be between 1 and 4096", "dimensions")
        counts = [answers.count_tokens(text) for text in texts]
        futures: dict[str, asyncio.Future[None]] = {}
        try:
            for text, tokens in zip(texts, counts, strict=True):
                future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                self._embedded += 1
                name = f"embd-{self._embedded}"
                blocks = answers.block_hashes(text, self.config.profile.block_size, value["model"])
                futures[name] = future
                self.pacer.submit(self._request(name, value["model"], tokens, 1, blocks), _resolver(future))
            await asyncio.gather(*futures.values())
        finally:
            for name in futures:
                self.pacer.cancel(name)
        data = [
            {"object": "embedding", "index": index, "embedding": answers.embedding(text, dimensions, encoding)}
            for index, text in enumerate(texts)
        ]
        usage = {"prompt_tokens": sum(counts), "total_tokens": sum(counts)}
        return web.json_response({"object": "list", "data": data, "model": value["model"], "usage": usage})

    def _request(
        self, name: str, model: str, prompt: int, output: int, blocks: tuple[int, ...], prefetched: bool = False
    ) -> SimulatedRequest:
        """What the core is asked for; a RefusedError if it can never do it."""
        request = SimulatedRequest(
            id=name,
            prompt_tokens=prompt,
            output_tokens=output,
            blocks=blocks,
            prefetched=prefetched,
            lora=model if model in self.config.loras else "",
        )
        try:
            self.pacer.engine.check(request)
        except ValueError as error:
            raise openai.RefusedError(400, str(error)) from error
        return request

    async def _prefetch(self, request: web.Request, body: bytes) -> bool:
        """Have the prompt computed by the prefill engine that the request names; whether that worked."""
        prefiller = request.headers.get("x-prefiller-host-port")
        if self.config.profile.role != "decode" or not prefiller:
            return False
        value = {**msgspec.json.decode(body), "max_tokens": 1, "stream": False}
        for name in ("stream_options", "max_completion_tokens", "ignore_eos"):
            value.pop(name, None)
        self._client = self._client or aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        try:
            async with self._client.post(f"http://{prefiller}{request.path}", json=value) as response:
                return response.status == 200
        except (aiohttp.ClientError, ValueError):
            return False

    def _observe(self, sequence: Sequence) -> None:
        seen, request = self.observations, sequence.request
        first, end = sequence.first_token_at, sequence.finished_at
        if first is None or end is None or sequence.admitted_at is None:
            return
        seen.queued.observe(sequence.admitted_at - sequence.arrived)
        seen.first_token.observe(first - sequence.arrived)
        seen.whole.observe(end - sequence.arrived)
        seen.prompt.observe(request.prompt_tokens)
        seen.generated.observe(request.output_tokens)
        if request.output_tokens > 1:
            seen.per_token.observe((end - first) / (request.output_tokens - 1))


def _resolver(future: asyncio.Future[None]) -> Sink:
    def resolve(_: int, finished: bool) -> None:
        if finished and not future.done():
            future.set_result(None)

    return resolve
