"""What a request may carry: JSON of few levels, with whole letters and finite numbers; without a token, few bytes.

What Python's JSON reads and cannot write again (half a surrogate pair, NaN) is refused here, before it is kept: else it
would break every later answer that tells it.
"""

import json
import math
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import HTTPException
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST_DEPTH = 32
MOST_ANONYMOUS = 1_000_000  # bytes; who brings a token may upload


def parsed(data: bytes) -> Any:
    """A JSON value of a client. Raises ValueError in words on what is none, too deep, or could not be told again."""
    try:
        value = json.loads(data)
    except RecursionError:
        raise ValueError(f"it has more than {MOST_DEPTH} levels") from None
    _check(value)
    return value


def _check(value: Any, depth: int = 1) -> None:
    if depth > MOST_DEPTH:
        raise ValueError(f"it has more than {MOST_DEPTH} levels")
    if isinstance(value, dict | list):
        for one in (*value, *value.values()) if isinstance(value, dict) else value:
            _check(one, depth + 1)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} is no number of JSON")
    elif isinstance(value, str) and not value.isascii():
        value.encode()  # half a surrogate pair fails


class _Request(Request):
    async def json(self) -> Any:
        try:
            return parsed(await self.body())
        except ValueError as error:
            raise HTTPException(400, f"The body cannot be read: {error}.") from None


class Route(APIRoute):
    """A route whose JSON body is read as above."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            return await handle(_Request(request.scope, request.receive))

        return handled


async def in_words(request: Request, error: Any) -> JSONResponse:
    """What the framework refuses, in the form of the Hub; never with what came, which may be unspeakable."""
    if isinstance(error, RequestValidationError):
        wrong = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()[:5])
        return JSONResponse({"error": wrong.encode("utf-8", "replace").decode()}, 422)
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


class FewBytes:
    """Middleware: a request that brings no token of a user is answered 413 once it has sent MOST_ANONYMOUS bytes."""

    def __init__(self, app: ASGIApp, user_of: Callable[[str], str | None]):
        self.app, self.user_of = app, user_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith("/lfs/") or self._known(scope):  # /lfs/: signed
            await self.app(scope, receive, send)
            return
        taken, begun = 0, False

        async def counted() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > MOST_ANONYMOUS:
                raise HTTPException(413)  # whatever becomes of it, the answer is the one below
            return message

        async def told(message: Message) -> None:
            nonlocal begun
            if taken <= MOST_ANONYMOUS:
                begun = True
                await send(message)

        await self.app(scope, counted, told)
        if not begun:
            words = f"A request without a user's token may send {MOST_ANONYMOUS:,} bytes; log in to send more."
            await JSONResponse({"error": words}, 413, {"Connection": "close"})(scope, receive, send)

    def _known(self, scope: Scope) -> bool:
        given = dict(scope["headers"]).get(b"authorization", b"").decode("latin-1")
        return self.user_of(given.removeprefix("Bearer ").strip()) is not None
