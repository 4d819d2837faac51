"""The web application: its routes, and how refusals are answered.

Handlers run on one event loop and change state without awaiting in between, so every request sees and leaves
a whole state; only uploads and downloads of contents interleave.
"""

from functools import partial
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from leaderboard.serving.bounded import Bounded
from zoo.devhub import bodies
from zoo.devhub.access import Hub
from zoo.devhub.errors import HubError
from zoo.devhub.paths import KeepEncodedSlashes
from zoo.devhub.routes import commits, discussions, files, oauth, repos, spaces


def create_app(hub: Hub) -> FastAPI:
    """The application of a hub."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.state.hub = hub
    app.add_middleware(KeepEncodedSlashes)
    few = partial(bodies.most_bytes, user_of=hub.user_of)
    app.add_middleware(Bounded, most=few, hint="log in to send more")
    app.add_exception_handler(HubError, _refuse)
    app.add_exception_handler(RequestValidationError, bodies.in_words)
    app.add_exception_handler(HTTPException, bodies.in_words)
    app.add_exception_handler(ClientDisconnect, _gone)
    for module in (repos, spaces, commits, discussions, files, oauth):
        app.include_router(module.router)
    return app


async def _refuse(request: Request, error: Any) -> JSONResponse:
    return JSONResponse({"error": error.message}, error.status, error.headers)


async def _gone(request: Request, error: Any) -> Response:
    """The client left before its request was complete: nothing happened, and nobody reads this answer."""
    return Response(status_code=400)
