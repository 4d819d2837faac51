"""The web application: its routes, and how refusals are answered.

Handlers run on one event loop and change state without awaiting in between, so every request sees and leaves
a whole state; only uploads and downloads of contents interleave.
"""

from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.requests import ClientDisconnect

from zoo.hub import routes_commits, routes_discussions, routes_files, routes_oauth, routes_repos, routes_spaces
from zoo.hub.access import Hub
from zoo.hub.errors import HubError
from zoo.hub.paths import KeepEncodedSlashes


def create_app(hub: Hub) -> FastAPI:
    """The application of a hub."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.state.hub = hub
    app.add_middleware(KeepEncodedSlashes)
    app.add_exception_handler(HubError, _refuse)
    app.add_exception_handler(ClientDisconnect, _gone)
    for module in (
        routes_repos, routes_spaces, routes_commits, routes_discussions, routes_files, routes_oauth,
    ):  # fmt: skip
        app.include_router(module.router)
    return app


async def _refuse(request: Request, error: Any) -> JSONResponse:
    return JSONResponse({"error": error.message}, error.status, error.headers)


async def _gone(request: Request, error: Any) -> Response:
    """The client left before its request was complete: nothing happened, and nobody reads this answer."""
    return Response(status_code=400)
