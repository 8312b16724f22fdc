"""A simulated external provider behind TLS, `python -m bench.provider`: answers at once and shows what arrived.

It checks the key (`Authorization: Bearer`, or `x-api-key` as Anthropic's clients send it) against a set that can
change at run time, requires a `model`, and answers in the shape of the path (`dialects`); any other path echoes the
request as JSON. The header `x-sim`, or the default set by `/_control`, asks for quirks (`quirks`). Token counts follow
`bench.answers`.

`GET /_control`: requests by key and by model, refusals, and the last requests with SNI, host, path, headers and body.
`POST /_control`: `{"keys": [...]}` replaces the accepted keys, `{"sim": "crlf,gzip"}` the default quirks,
`{"clear": true}` empties the counters.
"""

from __future__ import annotations

import asyncio
import signal
import ssl
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import click
import msgspec
import uvloop
from aiohttp import web

from bench import answers, dialects
from bench.certs import Certificates, make_certificates
from bench.farside import Recorder
from bench.quirks import Quirks, frame_events, parse_quirks, send
from bench.reply import compose

MAX_BODY = 64 * 2**20
ORGANISATIONS = {"dashscope": "阿里云", "moonshot": "月之暗面", "openai": "OpenAI", "anthropic": "Anthropic"}


class Control(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `POST /_control` takes."""

    keys: list[str] | None = None
    sim: str | None = None
    clear: bool = False


class RefusedError(Exception):
    """A request that gets an OpenAI error object."""

    def __init__(self, status: int, message: str, kind: str, code: str) -> None:
        super().__init__(message)
        self.status = status
        self.body = answers.error_body(message, kind, code)


class ProviderServer:
    """`async with ProviderServer(...) as provider`: serving at `provider.address` until the end of the block.

    Plain HTTP without `certificates`. With `hosts`, a request for another host gets a 421. `sim` are the quirks of
    requests without the header. Raises ValueError for unknown quirks.
    """

    def __init__(
        self,
        *,
        keys: Iterable[str] = ("sk-simulated",),
        hosts: Iterable[str] = (),
        host: str = "127.0.0.1",
        port: int = 0,
        certificates: Certificates | None = None,
        sim: str = "",
    ) -> None:
        self.host = host
        self.port = port
        self.keys = frozenset(keys)
        self.hosts = frozenset(hosts)
        self.quirks = parse_quirks(sim)
        self._certificates = certificates
        self._names: WeakKeyDictionary[ssl.SSLObject, str] = WeakKeyDictionary()
        self._serial = 0
        self._clear()

    @property
    def address(self) -> str:
        """`host:port`."""
        return f"{self.host}:{self.port}"

    async def start(self) -> None:
        """Listen."""
        app = web.Application(client_max_size=MAX_BODY)
        app.router.add_get("/_control", self._show)
        app.router.add_post("/_control", self._change)
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.05)
        await self._runner.setup()
        site = web.TCPSite(
            self._runner, self.host, self.port, backlog=4096, ssl_context=self._tls(), reuse_address=True
        )
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Close everything; answers in progress are cut off."""
        await self._runner.cleanup()

    async def __aenter__(self) -> ProviderServer:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def _clear(self) -> None:
        self.recorder = Recorder()
        self.by_key: Counter[str] = Counter()
        self.by_model: Counter[str] = Counter()
        self.refused = 0

    def _tls(self) -> ssl.SSLContext | None:
        if self._certificates is None:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._certificates.cert, self._certificates.key)

        def remember(connection: ssl.SSLSocket | ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
            if isinstance(connection, ssl.SSLObject) and name is not None:
                self._names[connection] = name

        context.sni_callback = remember
        return context

    def _sni(self, request: web.Request) -> str | None:
        connection = request.get_extra_info("ssl_object")
        return None if connection is None else self._names.get(connection)

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        recorder = self.recorder
        recorder.enter()
        try:
            body = await request.read()
            recorder.record(request, body, host=request.host, sni=self._sni(request))
            header = request.headers.get("x-sim")
            try:
                quirks = self.quirks if header is None else parse_quirks(header)
            except ValueError as error:
                return web.json_response(answers.error_body(str(error), "invalid_request_error"), status=400)
            try:
                return await self._answer(request, body, quirks)
            except RefusedError as refused:
                self.refused += 1
                return web.json_response(refused.body, status=refused.status)
        finally:
            recorder.leave()

    async def _answer(self, request: web.Request, body: bytes, quirks: Quirks) -> web.StreamResponse:
        name = request.host.rpartition(":")[0] if ":" in request.host else request.host
        if self.hosts and name not in self.hosts:
            raise RefusedError(421, f"{name} is not served here", "invalid_request_error", "misdirected_request")
        self._authenticate(request)
        if quirks.delay:
            await asyncio.sleep(quirks.delay / 1000)
        if quirks.status:
            error = answers.error_body("simulated failure", "server_error", str(quirks.status))
            return await send(request, quirks, [msgspec.json.encode(error)], "application/json", quirks.status)
        path = request.path
        if path not in dialects.SHAPES and path != "/v1/embeddings":
            return await send(request, quirks, [_echo(request, body)], "application/json")
        value = self._decode(body)
        as_json, as_events = dialects.SHAPES.get(path, (None, None))
        try:
            if as_json is None or as_events is None:
                return await send(request, quirks, [dialects.embeddings_json(value)], "application/json")
            self._serial += 1
            prompt = dialects.prompt_of(path, value)
            reply = compose(value, prompt, organisation(request.host), quirks, self._serial)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RefusedError(400, f"invalid request: {error!r}", "invalid_request_error", "invalid_value") from error
        if value.get("stream") and not quirks.json_to_stream:
            events = frame_events(as_events(reply), quirks)
            return await send(request, quirks, events, "text/event-stream; charset=utf-8")
        return await send(request, quirks, [as_json(reply)], "application/json")

    def _authenticate(self, request: web.Request) -> None:
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            key = request.headers.get("x-api-key", "")
        if key not in self.keys:
            raise RefusedError(401, "Incorrect API key provided.", "invalid_request_error", "invalid_api_key")
        self.by_key[key] += 1

    def _decode(self, body: bytes) -> dict[str, Any]:
        try:
            value = msgspec.json.decode(body)
        except (msgspec.DecodeError, RecursionError) as error:
            raise RefusedError(400, f"not JSON: {error}", "invalid_request_error", "invalid_json") from error
        if not isinstance(value, dict) or not isinstance(value.get("model"), str) or not value["model"]:
            raise RefusedError(400, "you must provide a model parameter", "invalid_request_error", "missing_model")
        self.by_model[value["model"]] += 1
        return value

    async def _show(self, _: web.Request) -> web.Response:
        counts = {"by_key": self.by_key, "by_model": self.by_model, "refused": self.refused}
        return web.json_response({**counts, "keys": sorted(self.keys), **self.recorder.snapshot()})

    async def _change(self, request: web.Request) -> web.Response:
        try:
            control = msgspec.json.decode(await request.read(), type=Control)
            quirks = self.quirks if control.sim is None else parse_quirks(control.sim)
        except ValueError as error:
            return web.json_response(answers.error_body(str(error), "invalid_request_error"), status=400)
        self.quirks = quirks
        if control.keys is not None:
            self.keys = frozenset(control.keys)
        if control.clear:
            self._clear()
        return web.json_response({"keys": sorted(self.keys)})


def organisation(host: str) -> str:
    """Who the answer says it comes from."""
    return next((name for part, name in ORGANISATIONS.items() if part in host), host)


def _echo(request: web.Request, body: bytes) -> bytes:
    headers = [[str(name), value] for name, value in request.headers.items()]
    text = body.decode("utf-8", "backslashreplace")
    return msgspec.json.encode(
        {"object": "echo", "method": request.method, "path": request.raw_path, "headers": headers, "body": text}
    )


@click.command(context_settings={"show_default": True})
@click.option("--host", default="127.0.0.1")
@click.option("--port", default=0, help="0 picks a free port.")
@click.option("--api-key", "keys", multiple=True, default=["sk-simulated"], help="An accepted key; may be repeated.")
@click.option("--cert", type=click.Path(exists=True, path_type=Path), help="PEM certificate chain.")
@click.option("--key", type=click.Path(exists=True, path_type=Path), help="PEM key of the certificate.")
@click.option(
    "--make-certs", type=click.Path(path_type=Path), help="Write ca.pem, cert.pem, key.pem here and use them."
)
@click.option("--plain", is_flag=True, help="No TLS.")
@click.option("--hosts", default="", help="Comma list of the names that are served; all of them if empty.")
@click.option("--sim", default="", help="Quirks of every answer, such as crlf,gzip,events:20.")
def main(
    host: str,
    port: int,
    keys: tuple[str, ...],
    cert: Path | None,
    key: Path | None,
    make_certs: Path | None,
    plain: bool,
    hosts: str,
    sim: str,
) -> None:
    """Serve a simulated provider until SIGINT or SIGTERM; prints one line `provider listening on HOST:PORT`."""
    names = [name for name in hosts.split(",") if name]
    if [plain, make_certs is not None, cert is not None and key is not None].count(True) != 1:
        raise click.UsageError("give exactly one of --plain, --make-certs, or --cert with --key")
    certificates = None
    try:
        if make_certs is not None:
            certificates = make_certificates(make_certs, names)
        elif cert is not None and key is not None:
            certificates = Certificates(ca=cert, cert=cert, key=key)
        provider = ProviderServer(keys=keys, hosts=names, host=host, port=port, certificates=certificates, sim=sim)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    uvloop.run(serve(provider))


async def serve(provider: ProviderServer) -> None:
    """Run a provider until a signal to stop."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with provider:
        sys.stdout.write(f"provider listening on {provider.address}\n")
        sys.stdout.flush()
        await stop.wait()


if __name__ == "__main__":
    main()
