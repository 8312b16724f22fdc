"""`sluice policies` and `sluice explain`: flow control on a terminal."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import click
import msgspec

from extproc.commands.options import ADMIN, CONFIG
from extproc.live.flow import FlowError
from extproc.live.inspect import explain_offline
from extproc.resources.load import load
from extproc.resources.problems import ConfigurationError
from extproc.resources.secrets import SecretStore
from extproc.scheduling.state.claims import Level
from extproc.scheduling.status import Explanation, FlowState, PolicyState
from extproc.steps.explain import Explained, WrittenRequest

OK, REFUSED, FAULT = 0, 1, 2
_TIMEOUT = 10.0
_REQUEST_LINE = re.compile(r"([A-Za-z]+) (\S+)(?: HTTP/[0-9.]+)?")
_Kind = TypeVar("_Kind")


class QuestionError(ValueError):
    """The question cannot be asked, or not be answered; the message says why."""


@click.command()
@click.option("--admin", default=ADMIN, show_default=True, metavar="URL", help="The gateway's admin address.")
def policies(admin: str) -> None:
    """What the traffic policies of a running gateway are doing: tokens left, who waits, multipliers, ramps."""
    sys.exit(run_policies(admin))


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path))
@CONFIG
@click.option(
    "--admin", metavar="URL", help="Ask the gateway that runs there. Default: as if it were the first request."
)
@click.option("--host", default="", help="Where the request goes, if the file does not say it.")
@click.option("--header", "headers", multiple=True, metavar="NAME=VALUE", help="A header more; may be repeated.")
def explain(file: Path, directory: Path, admin: str | None, host: str, headers: tuple[str, ...]) -> None:
    """Why a request would pass, wait or be refused, policy by policy. The request is not sent.

    FILE holds HTTP text, a JSON object with host, path, headers and body, or the JSON body of a chat alone. Exit
    status: 0 if it would pass or wait, 1 if it would be refused, 2 on a fault.

    \b
    Example:
      sluice explain request.json -c deploy/quickstart --header user-id=alice
    """
    pairs = [header.partition("=") for header in headers]
    if any(not name or not separator for name, separator, _ in pairs):
        raise click.UsageError("a header is NAME=VALUE")
    more = {name.lower(): value for name, _, value in pairs}
    sys.exit(run_explain(file, directory, admin, os.environ, host, more))


def run_policies(admin: str) -> int:
    """Prints the live state of every policy. Gives the exit status."""
    try:
        states = _ask(f"{admin.rstrip('/')}/policies", None, list[PolicyState])
    except QuestionError as error:
        return _report(error)
    sys.stdout.writelines(f"{line}\n" for line in policies_table(states))
    return OK


def run_explain(
    file: Path, directory: Path, admin: str | None, environ: Mapping[str, str], host: str, headers: Mapping[str, str]
) -> int:
    """Prints what becomes of a request. Gives the exit status: 0 it would pass or wait, 1 it would be refused, 2 a
    fault."""
    try:
        data = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
        asked = read_request(data)
        asked = msgspec.structs.replace(asked, host=host or asked.host, headers={**asked.headers, **headers})
        if admin is not None:
            found = _ask(f"{admin.rstrip('/')}/explain", msgspec.json.encode(asked), Explained)
        else:
            snapshot = load(directory, environ=environ)
            found = asyncio.run(explain_offline(snapshot, SecretStore(environ, snapshot.directory), asked))
    except (QuestionError, ConfigurationError, FlowError, OSError) as error:
        return _report(error)
    sys.stdout.writelines(f"{line}\n" for line in explanation(found))
    return REFUSED if found.refused or any(map(_refuses, found.policies)) else OK


def read_request(data: bytes) -> WrittenRequest:
    """A request as HTTP text, as a JSON object with `host`, `path`, `headers` and `body`, or as a chat's body alone.

    Raises QuestionError.
    """
    data = data.removeprefix(b"\xef\xbb\xbf").lstrip()
    if data[:1] == b"{":
        return _from_json(data)
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise QuestionError("the request is neither HTTP text nor JSON") from None
    head, _, body = text.replace("\r\n", "\n").partition("\n\n")
    first, *lines = head.split("\n")
    line = _REQUEST_LINE.fullmatch(first.strip())
    if line is None:
        raise QuestionError("the request begins neither with `{` nor with a line such as `POST /v1/chat/completions`")
    pairs = [each.partition(":") for each in lines if each.strip()]
    if any(not name.strip() or not separator for name, separator, _ in pairs):
        raise QuestionError("a header is not `NAME: VALUE`")
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    path, host = line[2], headers.pop("host", "")
    if path.startswith(("http://", "https://")):
        host, path = _split(path)
    return WrittenRequest(method=line[1].upper(), path=path, host=host, headers=headers, body=_raw(body.strip()))


def _split(url: str) -> tuple[str, str]:
    try:
        parts = urlsplit(url)
    except ValueError:
        raise QuestionError(f"{url!r} is not a URL") from None
    return parts.netloc, (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def _from_json(data: bytes) -> WrittenRequest:
    try:
        fields = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
        if fields.keys() <= set(WrittenRequest.__struct_fields__) and fields:
            return msgspec.json.decode(data, type=WrittenRequest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise QuestionError(f"the request cannot be read: {error}") from None
    return WrittenRequest(body=msgspec.Raw(data))


def _raw(body: str) -> msgspec.Raw:
    """JSON as it is; any other text as a string."""
    try:
        msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return msgspec.Raw(msgspec.json.encode(body) if body else b"")
    return msgspec.Raw(body.encode())


def policies_table(states: Sequence[PolicyState]) -> Iterator[str]:
    """A line for each policy, and below it one for each key and each flow that waits."""
    if not states:
        yield "no traffic policies"
    width = max((len(each.name) for each in states), default=0)
    for each in states:
        dry = "dry-run; " if each.dry_run else ""
        yield f"{each.name:<{width}}  {dry}{'; '.join(_said(each)) or 'no request yet'}"
        yield from map(_level, each.levels)
        yield from map(_flow, each.flows)


def _said(state: PolicyState) -> Iterator[str]:
    if state.percentage is not None:
        way = {1: "rises", 0: "holds", -1: "falls"}[state.direction or 0]
        yield f"{state.percentage:.1f} % are let through, step {(state.step or 0) + 1}, {way} ({state.command})"
    if state.multiplier is not None:
        signal = f", signal {state.signal:.3g} of {state.setpoint:.3g}" if state.signal is not None else ""
        yield f"multiplier {state.multiplier:.3g}{', overloaded' if state.overloaded else ''}{signal}"
    if state.entries is not None:
        yield f"{state.entries} answers, {state.bytes} bytes, {state.joined} joined"
    if state.waiting is not None:
        yield f"{state.waiting} waiting"
    if state.counts:
        yield ", ".join(f"{name} {count}" for name, count in state.counts.items())


def _level(level: Level) -> str:
    return f"    {level.key or '(all)'}: {level.left:.6g} of {level.limit:g} left"


def _flow(flow: FlowState) -> str:
    who = f"{flow.workload} {flow.fairness}".strip()
    return f"    {who}: {flow.waiting} waiting with priority {flow.priority:g}, costing {flow.cost:g}"


def explanation(found: Explained) -> Iterator[str]:
    """What is known of the request, what each policy says, and what follows."""
    facts = {"route": found.route, "target": found.target, "model": found.model}
    for name, value in facts.items():
        if value:
            yield f"{name:<8}{value}"
    if found.refused:
        yield f"It would be refused before any policy is asked: {found.refused}"
        return
    yield f"tokens  {found.prompt_tokens} in the prompt, {found.predicted_tokens} reserved for the answer"
    for index, (name, value) in enumerate(sorted(found.labels.items())):
        yield f"{'labels' if index == 0 else '':<8}{name} = {value}"
    yield ""
    width = max((len(each.policy) for each in found.policies), default=0)
    for each in found.policies:
        dry = " (dry-run)" if each.dry_run else ""
        yield f"{each.policy:<{width}}  {each.says + dry:<12}  {'; '.join(_why(each))}".rstrip()
    yield _conclusion(found.policies)


def _why(each: Explanation) -> Iterator[str]:
    if each.detail:
        yield each.detail
    if each.seconds is not None and each.says in ("wait", "refuse"):
        yield f"about {each.seconds:.1f} s"
    if each.position is not None:
        yield f"place {each.position} in the queue"
    if each.workload:
        yield f"workload {each.workload}"
    if each.priority is not None:
        yield f"priority {each.priority:g}"
    if each.cost is not None:
        yield f"costs {each.cost:g}"


def _conclusion(policies: Sequence[Explanation]) -> str:
    asked = [each for each in policies if not each.dry_run and each.says != "not matched"]
    for each in asked:
        if each.says == "refuse":
            return f"It would be refused by {each.policy}."
        if each.says == "hit":
            return "It would be answered from the cache."
    waits = [each for each in asked if each.says == "wait"]
    if waits:
        known = [each.seconds for each in waits if each.seconds is not None]
        about = f", for about {max(known):.1f} s" if known else ""
        return f"It would wait at {' and '.join(each.policy for each in waits)}{about}."
    return "It would pass at once."


def _refuses(each: Explanation) -> bool:
    return each.says == "refuse" and not each.dry_run


def _ask(url: str, body: bytes | None, kind: type[_Kind]) -> _Kind:
    """Raises QuestionError."""
    try:
        request = urllib.request.Request(url, data=body, headers={"content-type": "application/json"})  # noqa: S310
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as response:  # noqa: S310 -- what the user has named
            return msgspec.json.decode(response.read(), type=kind)
    except urllib.error.HTTPError as error:
        with error:
            raise QuestionError(f"{url} answers {error.code}: {error.read(300).decode('utf-8', 'replace')}") from None
    except (OSError, ValueError, msgspec.DecodeError) as error:
        raise QuestionError(f"{url}: {error}") from None


def _report(error: Exception) -> int:
    sys.stderr.write(f"sluice: {error}\n")
    return FAULT
