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
from starlette.types import Scope

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


def most_bytes(scope: Scope, user_of: Callable[[str], str | None]) -> int | None:
    """How many bytes a request may send: few, unless it brings the token of a user, or an address signed for it."""
    given = dict(scope["headers"]).get(b"authorization", b"").decode("latin-1")
    known = scope["path"].startswith("/lfs/") or user_of(given.removeprefix("Bearer ").strip()) is not None
    return None if known else MOST_ANONYMOUS
