"""Plain addresses beside the pages: /healthz, /webhook and /download/NAME."""

import json
import logging
from collections.abc import Callable
from typing import Any

import gradio as gr
import pandas as pd
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from gradio.route_utils import FnIndexInferError
from mcp.types import TextContent
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from leaderboard import child
from leaderboard.errors import P2Error
from leaderboard.ranking.cells import asd_interval
from leaderboard.serving import as_json
from leaderboard.serving.board import Board
from leaderboard.serving.webhook import answer, is_about
from space.server.api import functions
from space.server.store import Store

logger = logging.getLogger(__name__)
FORMULA = tuple("=+-@\t\r")  # how a spreadsheet's formula starts
CALLS = "/gradio_api/"  # what programs call


def add(app: FastAPI, store: Store, webhook_secret: str | None = None) -> None:
    """Add the addresses. Without a secret /webhook refuses everybody."""

    def healthz() -> dict[str, Any]:
        """Which state is served, why it is not newer, and how often a file ended the child that read it."""
        logs = store.board.logs
        known = as_json.data(logs)
        kept = {name: known[name] for name in ("source", "revision", "date", "runs", "note")}
        left = {"quarantined": len(logs.quarantined), "problem": store.problem}
        return {"status": "ok", **kept, **left, "reading": child.health()}

    async def webhook(request: Request) -> JSONResponse:
        """The Hub tells of a change: 202 where it is one of our data, refreshed soon after."""

        def refresh(event: Any) -> dict[str, Any]:
            ours = is_about(event, store.source)
            if ours:
                store.ask()
            return {"refreshing": ours}

        return JSONResponse(*await answer(request.headers, request.stream(), webhook_secret, refresh))

    def download(name: str) -> Response:
        """A table as a file."""
        table, _, kind = name.rpartition(".")
        if name == "ranking.json":
            content, media = json.dumps(functions(store)["rank"](), allow_nan=False), "application/json"
        elif table in TABLES and kind == "csv":
            content, media = _harmless(TABLES[table](store.board)).to_csv(index=False), "text/csv; charset=utf-8"
        else:
            known = ", ".join(["ranking.json", *(f"{one}.csv" for one in TABLES)])
            return JSONResponse({"error": f"download: unknown file {name!r}. Known: {known}."}, 404)
        headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-cache"}
        return Response(content, media_type=media, headers=headers)

    async def refuse(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"error": str(error)}, 422)

    app.add_exception_handler(P2Error, refuse)
    app.add_api_route("/healthz", healthz, methods=["GET"])
    app.add_api_route("/webhook", webhook, methods=["POST"])
    app.add_api_route("/download/{name}", download, methods=["GET"])


def mcp_answers_in_json(demo: gr.Blocks) -> None:
    """Let tools answer with JSON text; Gradio's MCP server would write Python's form of it."""
    server = demo.mcp_server_obj
    if server is not None:
        server.postprocess_output_data = lambda data, _: [
            TextContent(type="text", text=json.dumps(one, ensure_ascii=False, allow_nan=False)) for one in data
        ]


def _harmless(table: pd.DataFrame) -> pd.DataFrame:
    """The table with an apostrophe before text that a spreadsheet would take for a formula (OWASP, CSV injection)."""
    texts = table.select_dtypes(["object", "string", "category"]).astype(object)
    return table.assign(**{str(n): column.map(_plain) for n, column in texts.items()})


def _plain(value: Any) -> Any:
    return f"'{value}" if str(value)[:1] in FORMULA else value


def _cells(board: Board) -> pd.DataFrame:
    cells = board.ranking[1]
    ends = [asd_interval(draws) or [float("nan")] * 2 for draws in cells["asd_draws"]]
    low, high = zip(*ends, strict=True) if ends else ((), ())
    return cells.drop(columns=["asd_draws", "cell"]).assign(asd_low=low, asd_high=high)


TABLES: dict[str, Callable[[Board], pd.DataFrame]] = {
    "ranking": lambda board: board.ranking[0],
    "cells": _cells,
    "runs": lambda board: board.runs,
    "models": lambda board: board.models,
    "ablation": lambda board: board.ablation,
}


def refuse_calls_in_words(app: FastAPI) -> None:
    """Answer what Gradio cannot read (no such function, an argument too few or too many) with a sentence, not 500."""

    async def refuse(request: Request, error: Exception) -> JSONResponse:
        if CALLS not in request.url.path:
            raise error
        unknown = isinstance(error, KeyError | FnIndexInferError)
        if not unknown:
            logger.warning("%s was refused", request.url.path, exc_info=error)
        words = f"there is no function at {request.url.path}" if unknown else str(error) or "it could not be read"
        return JSONResponse({"error": words}, 404 if unknown else 422)

    for mount in app.routes:
        if isinstance(inner := getattr(mount, "app", None), FastAPI):
            for kind in (FnIndexInferError, KeyError, TypeError, ValueError, RecursionError):
                inner.add_exception_handler(kind, refuse)


class RefusedIs4xx:
    """ASGI middleware: Gradio and its MCP server answer a call that is refused in words with 500; it becomes 422."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Change the status of an answer in JSON that says why."""

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == 500:
                kind = dict(message["headers"]).get(b"content-type", b"")
                message = {**message, "status": 422} if kind.startswith(b"application/json") else message
            await send(message)

        calls = scope["type"] == "http" and scope["path"].startswith(CALLS)
        await self.app(scope, receive, told if calls else send)
