"""What pages answer with: text, JSON, and OpenAI's error object."""

from __future__ import annotations

import msgspec
from aiohttp import web


def text(content: str, *, status: int = 200) -> web.Response:
    return web.Response(text=content, status=status, headers={"Cache-Control": "no-store"})


def json(value: object, *, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), status=status, content_type="application/json")


def error(status: int, code: str, message: str) -> web.Response:
    kind = "server_error" if status >= 500 else "invalid_request_error"
    found = {"message": message, "type": kind, "code": code, "param": None}
    return json({"error": found}, status=status)
