from __future__ import annotations

import asyncio
import signal
import sys

import aiohttp
import pytest
from click.testing import CliRunner

from bench.engine.__main__ import main


async def test_the_command_serves_several_engines_until_told_to_stop_or_crash() -> None:
    command = ["-m", "bench.engine", "--port", "0", "--count", "2", "--time-scale", "50"]
    options = ["--model", "m", "--set", "max_num_seqs=8", "--fault", "reset=mid-stream"]
    process = await asyncio.create_subprocess_exec(sys.executable, *command, *options, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    addresses = []
    for _ in range(2):
        line = (await process.stdout.readline()).decode()
        assert line.startswith("engine listening on 127.0.0.1:")
        addresses.append(line.split()[-1])
    assert len(set(addresses)) == 2
    async with aiohttp.ClientSession(f"http://{addresses[0]}") as http:
        body = {"model": "m", "messages": [{"role": "user", "content": "x"}], "stream": True}
        async with http.post("/v1/chat/completions", json=body) as response:
            with pytest.raises((aiohttp.ClientPayloadError, aiohttp.ClientOSError)):
                await response.read()
        with pytest.raises(aiohttp.ClientError):
            await http.post("/_control", json={"crash": True})
    assert await process.wait() == 1


async def test_sigterm_ends_the_command() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.engine", "--port", "0", stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    await process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    assert await process.wait() == 0


@pytest.mark.parametrize(
    ("options", "says"),
    [(["--set", "speed=9"], "speed"), (["--fault", "slow=0"], "slow"), (["--set", "nothing"], "NAME=VALUE")],
)
def test_wrong_settings_are_explained(options: list[str], says: str) -> None:
    result = CliRunner().invoke(main, options)
    assert result.exit_code == 2
    assert says in result.output
