"""`python -m bench.engine`: one or several simulated engines in this process."""

from __future__ import annotations

import asyncio
import signal
import sys

import click
import msgspec
import uvloop

from bench.engine.faults import Faults, parse_setting
from bench.engine.server import EngineConfig, EngineServer, exit_now
from extproc.simulate.engine import PROFILES, EngineProfile


@click.command(context_settings={"show_default": True})
@click.option("--host", default="127.0.0.1")
@click.option("--port", default=8001, help="0 picks a free port; several engines take consecutive ones.")
@click.option("--count", default=1, help="Engines in this process.")
@click.option("--model", "models", multiple=True, default=["qwen3-8b"], help="A served name; may be repeated.")
@click.option("--lora", "loras", multiple=True, help="Name of a LoRA adapter; may be repeated.")
@click.option("--dialect", type=click.Choice(["vllm", "sglang"]), default="vllm", help="Names of the metrics.")
@click.option("--profile", type=click.Choice(sorted(PROFILES)), default="8b-a100", help="Speed and limits.")
@click.option("--role", type=click.Choice(["both", "prefill", "decode"]), default="both")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="A field of the profile, max_num_seqs=8.")
@click.option("--fault", "faults", multiple=True, metavar="NAME=VALUE", help="As POST /_control: slow=2, status=503.")
@click.option("--time-scale", default=1.0, help="How many seconds of the engine pass in one real second.")
@click.option("--answer-tokens", default=64, help="Mean length of an answer without max_tokens.")
def main(
    host: str,
    port: int,
    count: int,
    models: tuple[str, ...],
    loras: tuple[str, ...],
    dialect: str,
    profile: str,
    role: str,
    settings: tuple[str, ...],
    faults: tuple[str, ...],
    time_scale: float,
    answer_tokens: int,
) -> None:
    """Serve simulated engines until SIGINT or SIGTERM; prints one line `engine listening on HOST:PORT` for each."""
    try:
        fields = {**msgspec.structs.asdict(PROFILES[profile]), "role": role, **dict(map(parse_setting, settings))}
        chosen = msgspec.convert(fields, EngineProfile)
        config = msgspec.convert(
            {
                "models": models,
                "loras": loras,
                "dialect": dialect,
                "host": host,
                "time_scale": time_scale,
                "answer_tokens": answer_tokens,
            },
            EngineConfig,
        )
        wrong = Faults().patched(dict(map(parse_setting, faults)))
    except (ValueError, msgspec.ValidationError) as error:
        raise click.UsageError(str(error)) from error
    configs = [
        msgspec.structs.replace(config, profile=chosen, faults=wrong, port=port + index if port else 0)
        for index in range(count)
    ]
    uvloop.run(serve(configs))


async def serve(configs: list[EngineConfig]) -> None:
    """Run engines until a signal to stop."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    servers = [EngineServer(config, on_crash=exit_now) for config in configs]
    try:
        for server in servers:
            await server.start()
            sys.stdout.write(f"engine listening on {server.address}\n")
            sys.stdout.flush()
        await stop.wait()
    finally:
        for server in servers:
            await server.stop()


if __name__ == "__main__":
    main()
