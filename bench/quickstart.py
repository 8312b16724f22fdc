"""`make run`: the whole gateway on one machine, with simulated providers and engines in place of the real ones.

Starts two simulated external providers behind TLS, three simulated GPU engines and `sluice run` on the quickstart's
manifests, sends a few requests through it, shows what became of each, and stays up until Ctrl-C.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import openai
from rich.console import Console
from rich.table import Table

from bench.certs import make_certificates
from bench.engine.config import EngineConfig
from bench.engine.server import EngineServer
from bench.provider import ProviderServer

MANIFESTS = Path(__file__).parent.parent / "deploy" / "quickstart"
GATEWAY = "http://127.0.0.1:10000"
HOSTS = ("dashscope.aliyuncs.com", "api.moonshot.cn")
PROVIDER_PORT = 18443
ENGINE_PORTS = (18001, 18002, 18003)
KEYS = {"dashscope的API_KEY": "sk-simulated-dashscope", "Moonshot的API_KEY": "sk-simulated-moonshot"}
"""Environment variables under the names that the printed manifests use."""
CHAT = {"messages": [{"role": "user", "content": "请介绍你自己"}]}


@dataclass(frozen=True)
class Call:
    """One demonstration request: a bare POST as curl sends it, or a chat of the official client."""

    title: str
    host: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    model: str = ""
    stream: bool = False

    def curl(self) -> str:
        headers = "".join(
            f" -H '{name}: {value}'" for name, value in ({"Host": self.host} | dict(self.headers)).items()
        )
        if not self.model:
            return f"curl{headers} {GATEWAY} -d '{json.dumps(CHAT, ensure_ascii=False)}'"
        body = {"model": self.model, **CHAT, **({"stream": True} if self.stream else {})}
        command = "curl -N" if self.stream else "curl"
        return f"{command} {GATEWAY}/v1/chat/completions -d '{json.dumps(body, ensure_ascii=False)}'"


CALLS = (
    Call("default model of a provider", "dashscope.aliyuncs.com"),
    Call("subscriber gets the larger one", "dashscope.aliyuncs.com", {"user-type": "subscriber"}),
    Call("50/50 between two providers", "demo-llm-server"),
    Call("50/50 between two providers", "demo-llm-server"),
    Call("least-loaded GPU engine", model="qwen3-8b"),
    Call("least-loaded GPU engine, streamed", model="qwen3-8b", stream=True),
    Call("a model that nobody serves", model="gpt-unknown"),
)


class Gateway:
    """`sluice run` as a child; its access log arrives line by line."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.echo = False
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            if self.echo or not line.startswith(b"{"):
                sys.stdout.write(line.decode(errors="replace"))
                sys.stdout.flush()
            else:
                self.lines.put_nowait(json.loads(line))

    async def stop(self) -> None:
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        await self.process.wait()
        await self._reader


async def start_far_side(stack: AsyncExitStack) -> None:
    """Providers and engines, each on its usual port."""
    certificates = make_certificates(MANIFESTS / "certs", HOSTS)
    provider = ProviderServer(keys=tuple(KEYS.values()), hosts=HOSTS, port=PROVIDER_PORT, certificates=certificates)
    await stack.enter_async_context(provider)
    for port in ENGINE_PORTS:
        await stack.enter_async_context(EngineServer(EngineConfig(port=port)))


async def start_gateway() -> Gateway:
    command = [sys.executable, "-m", "extproc", "run", "-c", str(MANIFESTS), "--log-level", "warning"]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, env={**os.environ, **KEYS}, start_new_session=True
    )
    gateway = Gateway(process)
    async with aiohttp.ClientSession() as session:
        while process.returncode is None:
            try:
                async with session.get("http://127.0.0.1:10001/readyz") as response:
                    if response.status == 200:
                        return gateway
            except aiohttp.ClientConnectionError:
                pass  # not listening yet
            await asyncio.sleep(0.05)
    raise SystemExit("The gateway did not start; its messages are above.")


async def send(call: Call) -> tuple[int, float]:
    """Status and seconds to the end of the answer."""
    begun = time.perf_counter()
    if call.model:
        client = openai.AsyncOpenAI(base_url=f"{GATEWAY}/v1", api_key="any", max_retries=0)
        async with client:
            try:
                answer: Any = await client.chat.completions.create(model=call.model, stream=call.stream, **CHAT)  # type: ignore[call-overload]
                if call.stream:
                    async for _ in answer:
                        pass
                status = 200
            except openai.APIStatusError as error:
                status = error.status_code
        return status, time.perf_counter() - begun
    headers = {"Host": call.host, "Content-Type": "application/x-www-form-urlencoded", **call.headers}
    async with (
        aiohttp.ClientSession() as session,
        session.post(GATEWAY, data=json.dumps(CHAT), headers=headers) as response,
    ):
        await response.read()
        return response.status, time.perf_counter() - begun


async def demonstrate(gateway: Gateway, console: Console) -> bool:
    """Sends every call and prints the table; gives whether all went as they should."""
    table = Table("request", "status", "to", "model", "endpoint", "tokens in/out", "ms", box=None, header_style="bold")
    good = True
    for call in CALLS:
        status, seconds = await send(call)
        line = await asyncio.wait_for(gateway.lines.get(), 15)
        tokens = f"{line.get('prompt_tokens') or '-'}/{line.get('completion_tokens') or '-'}"
        shown = [str(line.get(name) or "-") for name in ("target", "model", "endpoint")]
        if shown[0] == "-":
            shown[0] = f"refused: {line.get('reason')}"
        table.add_row(call.title, str(status), *shown, tokens, f"{seconds * 1000:.0f}")
        good = good and status == (404 if "unknown" in call.model else 200)
    console.print(table)
    return good


async def main() -> int:
    console = Console(width=None if sys.stdout.isatty() else 140)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        try:
            await start_far_side(stack)
        except OSError as error:
            console.print(f"A port of the quickstart is taken: {error}")
            return 1
        gateway = await start_gateway()
        stack.push_async_callback(gateway.stop)
        console.print(f"[bold]The gateway is up:[/bold] {GATEWAY}\n")
        if not await demonstrate(gateway, console):
            console.print("\nSomething did not go as it should: the gateway's messages are above.")
            return 1
        console.print("\n[bold]The same by hand:[/bold]")
        for line in dict.fromkeys(call.curl() for call in CALLS):
            console.print(f"  {line}", soft_wrap=True, highlight=False, markup=False)
        console.print(f"  curl {GATEWAY}/v1/models", highlight=False)
        console.print(
            "\n[bold]Look inside:[/bold] http://127.0.0.1:10001 (metrics, endpoints, configuration)\n"
            "[bold]Change it:[/bold] edit deploy/quickstart/*.yaml; changes take effect at once\n"
            "Each request is logged below. Ctrl-C stops everything.\n",
            highlight=False,
        )
        gateway.echo = True
        ended = asyncio.create_task(gateway.process.wait())
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait({ended, stopped}, return_when=asyncio.FIRST_COMPLETED)
        for task in (ended, stopped):
            task.cancel()
        if not stop.is_set():
            console.print("The gateway ended by itself; its messages are above.")
            return 1
        console.print("Stopping ...")
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
