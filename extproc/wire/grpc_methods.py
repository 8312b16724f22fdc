"""Services written for the gRPC library, on the transport of `wire.http2`: health, reflection, endpoint discovery."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any, NamedTuple, NoReturn

import grpc

from extproc.wire.http2.call import Call, StatusError
from extproc.wire.http2.driver import Handler

_INVALID_ARGUMENT = 3


class _Details(NamedTuple):
    """What the library's handlers are asked with."""

    method: str
    invocation_metadata: tuple[()] = ()


class GrpcMethods:
    """Takes services as a `grpc.aio.Server` does, by the functions that the library generates for that."""

    def __init__(self) -> None:
        self._handlers: list[Any] = []

    def add_generic_rpc_handlers(self, handlers: Iterable[Any]) -> None:
        self._handlers.extend(handlers)

    def add_registered_method_handlers(self, service: str, handlers: Any) -> None:
        """The same methods once more, by name, which nobody needs here."""

    def find(self, path: str) -> Handler | None:
        """The method at a path."""
        for handlers in self._handlers:
            method = handlers.service(_Details(path))
            if method is not None:
                return lambda call: call.run(_serve(method, call))
        return None


class _Context:
    """What the services here use of the library's context: the messages of a call, and its end."""

    def __init__(self, call: Call, method: Any) -> None:
        self._call = call
        self._decode = method.request_deserializer or bytes
        self._encode = method.response_serializer or bytes

    async def read(self) -> Any:
        data = await self._call.read()
        return grpc.aio.EOF if data is None else self._decode(data)

    async def write(self, message: Any) -> None:
        await self._call.write(self._encode(message))

    async def abort(self, code: grpc.StatusCode, details: str = "") -> NoReturn:
        raise StatusError(code.value[0], details)

    def __aiter__(self) -> _Context:
        return self

    async def __anext__(self) -> Any:
        message = await self.read()
        if message is grpc.aio.EOF:
            raise StopAsyncIteration
        return message


async def _serve(method: Any, call: Call) -> None:
    context = _Context(call, method)
    request: Any = context
    if not method.request_streaming:
        request = await context.read()
        if request is grpc.aio.EOF:
            raise StatusError(_INVALID_ARGUMENT, "a call without a request")
    serve = method.unary_unary or method.unary_stream or method.stream_unary or method.stream_stream
    answer = serve(request, context)
    if inspect.isasyncgen(answer):
        async for message in answer:
            await context.write(message)
    elif method.response_streaming:
        await answer
    else:
        await context.write(await answer)
