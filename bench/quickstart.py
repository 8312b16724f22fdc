"""`make run`: the whole gateway on one machine, with simulated providers and engines in place of the real ones.

Starts what the quickstart's manifests point at on this machine (two external providers behind TLS, three GPU engines)
and `sluice run` on the same manifests, sends a few requests through it, shows what became of each, and stays up until
Ctrl-C. Addresses come from the manifests and nowhere else. `python -m bench.quickstart DIR` takes a copy of them.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
from rich.console import Console

from bench.certs import Certificates
from bench.demonstration import CALLS, Outcome, demonstrate, table
from bench.engine.config import EngineConfig
from bench.engine.server import EngineServer
from bench.provider import ProviderServer
from bench.setup import KEYS, Setup, TakenError, certificates, claim_ports, read_setup
from extproc.envoyproxy import tether
from extproc.resources.problems import ConfigurationError

MANIFESTS = Path(__file__).parent.parent / "deploy" / "quickstart"
_WIDTH = 140
"""Columns where there is no terminal to ask."""


class Gateway:
    """`sluice run` as a child; its access log arrives line by line."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: asyncio.Queue[bytes] = asyncio.Queue()
        self.echo = False
        """Whether lines go on to standard output instead of the queue."""
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            if self.echo:
                sys.stdout.write(line.decode(errors="replace"))
                sys.stdout.flush()
            else:
                self.lines.put_nowait(line)

    async def stop(self) -> None:
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        await self.process.wait()
        await self._reader


async def start_far_side(stack: AsyncExitStack, setup: Setup, chain: Certificates) -> None:
    """The simulated providers and engines, where the manifests look for them."""
    for port, hosts in setup.providers.items():
        provider = ProviderServer(keys=setup.keys, hosts=hosts, port=port, certificates=chain)
        await stack.enter_async_context(provider)
    for port, models in setup.engines.items():
        await stack.enter_async_context(EngineServer(EngineConfig(port=port, models=models)))


async def start_gateway(stack: AsyncExitStack, setup: Setup, environ: Mapping[str, str]) -> Gateway:
    """`sluice run`, once it is ready. It ends with `stack`, and with this process, however that ends.

    Raises RuntimeError if it ends before it is ready; its messages are on standard error then.
    """
    sluice = [sys.executable, "-m", "extproc", "run", "-c", str(setup.directory)]
    sluice += ["--log-level", "warning", "--envoy-log-level", "error"]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", tether.__file__, str(os.getpid()), *sluice),
        stdout=asyncio.subprocess.PIPE,
        env=dict(environ),
        start_new_session=True,  # Ctrl-C reaches only this process, which then stops the child
    )
    gateway = Gateway(process)
    stack.push_async_callback(gateway.stop)
    async with aiohttp.ClientSession() as session:
        while process.returncode is None:
            try:
                async with session.get(f"{setup.admin}/readyz") as response:
                    if response.status == 200:
                        return gateway
            except aiohttp.ClientConnectionError:
                pass  # not listening yet
            await asyncio.sleep(0.05)
    raise RuntimeError("The gateway did not start; its messages are above.")


async def run(console: Console, manifests: Path) -> str:
    """Starts everything, shows it, and stays until the gateway ends or the task is cancelled. Gives what went wrong."""
    environ = KEYS | os.environ
    chain = certificates(manifests / "certs")
    async with AsyncExitStack() as stack:
        try:
            setup = read_setup(manifests, environ)
            claim_ports(setup)
            await start_far_side(stack, setup, chain)
            gateway = await start_gateway(stack, setup, environ)
        except (ConfigurationError, TakenError, OSError, RuntimeError) as error:
            return str(error)
        console.print(f"[bold]The gateway is up:[/bold] {setup.url}\n", highlight=False)
        report(console, setup, await demonstrate(setup.url, gateway.lines))
        gateway.echo = True
        await gateway.process.wait()
        return "The gateway ended by itself; its messages are above."


def report(console: Console, setup: Setup, outcomes: Sequence[Outcome]) -> None:
    """What became of each request, and what can be tried next."""
    console.print(table(outcomes))
    if not all(outcome.expected for outcome in outcomes):
        console.print(
            "\n[red]The marked requests did not go as on an unchanged quickstart.[/red] The gateway's messages above "
            "and docs/troubleshooting.md help."
        )
    console.print("\n[bold]The same by hand:[/bold]")
    for line in dict.fromkeys(call.curl(setup.url) for call in CALLS):
        console.print(f"  {line}", soft_wrap=True, highlight=False, markup=False)
    console.print(f"  curl {setup.url}/v1/models", highlight=False)
    console.print(
        f"\n[bold]Any OpenAI client:[/bold] base URL {setup.url}/v1, model qwen3-8b, any key\n"
        f"[bold]Look inside:[/bold] {setup.admin} (metrics, endpoints, configuration in force)\n"
        f"[bold]Change it:[/bold] edit {_near(setup.directory)}/*.yaml; a change is in force once it is saved\n"
        "Every request is logged below. Ctrl-C stops everything.\n",
        highlight=False,
        soft_wrap=True,
    )


def _near(directory: Path) -> Path:
    """As short as it can be said from here."""
    here = Path.cwd()
    return directory.relative_to(here) if directory.is_relative_to(here) else directory


async def main() -> int:
    console = Console(width=None if sys.stdout.isatty() else _WIDTH)
    manifests = Path(sys.argv[1]) if len(sys.argv) > 1 else MANIFESTS
    work = asyncio.create_task(run(console, manifests))
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, work.cancel)
    try:
        console.print(await work, style="red", markup=False, highlight=False, soft_wrap=True)
    except asyncio.CancelledError:
        console.print("\nStopped.")
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
