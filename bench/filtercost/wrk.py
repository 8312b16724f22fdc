"""The load generator: wrk, and for few big requests a counted one."""

from __future__ import annotations

import http.client
import os
import shutil
import statistics
import subprocess
import time
from pathlib import Path

import msgspec

SCRIPT = """\
function init(args)
  local file = assert(io.open(args[1], "rb"))
  wrk.method, wrk.body = "POST", file:read("*a")
  wrk.headers["Host"], wrk.headers["Content-Type"] = args[2], "application/json"
  file:close()
end
function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    'result {"requests":%d,"seconds":%.6f,"p50":%.9f,"p99":%.9f,"failed":%d}\\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e6, latency:percentile(99) / 1e6,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
"""


class LoadResult(msgspec.Struct, frozen=True):
    """What the client side saw."""

    requests: int
    seconds: float
    p50: float
    """Seconds."""
    p99: float
    """Seconds."""
    failed: int = 0
    """Requests without an answer, or with another status than 2xx or 3xx."""


class LoadError(RuntimeError):
    """The load did not run as it should, so there is nothing to measure."""


def require_wrk() -> None:
    """Installs wrk where that is possible without asking. Raises LoadError that says what to do."""
    if shutil.which("wrk"):
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise LoadError("wrk is needed: install the package `wrk` (Debian: `sudo apt-get install -y wrk`)")
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "install", "-y", "-qq", "wrk"]
    if subprocess.run(install, env=environ, capture_output=True, check=False).returncode == 0:
        return
    subprocess.run(["apt-get", "update", "-qq"], env=environ, capture_output=True, check=False)
    done = subprocess.run(install, env=environ, capture_output=True, check=False, text=True)
    if done.returncode != 0:
        raise LoadError(f"wrk is needed, and `apt-get install wrk` failed: {done.stderr.strip()}")


def parse(output: str) -> LoadResult:
    """The result that `SCRIPT` prints. Raises LoadError where there is none, or where requests failed."""
    for line in output.splitlines():
        label, _, text = line.partition(" ")
        if label == "result":
            try:
                result = msgspec.json.decode(text, type=LoadResult)
            except msgspec.DecodeError as error:
                raise LoadError(f"wrk printed {line!r}: {error}") from None
            return checked(result)
    raise LoadError(f"wrk printed no result:\n{output}")


def checked(result: LoadResult) -> LoadResult:
    """The result, if every request was answered. Raises LoadError otherwise."""
    if result.failed or not result.requests:
        raise LoadError(f"{result.failed} of {result.requests} requests failed")
    return result


def run_wrk(port: int, *, host: str, body: Path, script: Path, connections: int, seconds: float) -> LoadResult:
    """POSTs a file over and over. `script` holds `SCRIPT`. Raises LoadError.

    wrk knows whole seconds only, so it is ended by the signal that Ctrl-C sends, upon which it reports as usual.
    """
    command = ["wrk", "-t1", f"-c{connections}", "-d600s", "--timeout", "60s", "-s", str(script)]
    command += [f"http://127.0.0.1:{port}/v1/chat/completions", "--", str(body), host]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(2)
        output, _ = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    return parse(output)


def run_counted(port: int, *, host: str, body: bytes, count: int) -> LoadResult:
    """Exactly `count` POSTs, one after the other on one connection. Raises LoadError."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {"Host": host, "Content-Type": "application/json"}
    times: list[float] = []
    failed = 0
    try:
        for _ in range(count):
            began = time.perf_counter()
            connection.request("POST", "/v1/chat/completions", body, headers)
            response = connection.getresponse()
            response.read()
            times.append(time.perf_counter() - began)
            failed += response.status != http.HTTPStatus.OK
    except (OSError, http.client.HTTPException) as error:
        raise LoadError(f"a request of {len(body)} bytes failed: {error!r}") from error
    finally:
        connection.close()
    return checked(LoadResult(count, sum(times), statistics.median(times), max(times), failed))
