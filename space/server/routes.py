"""Plain addresses beside the pages: /healthz, /webhook, /download/NAME and /download/log/CONTRIBUTOR/NAME."""

import json
import logging
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import gradio as gr
import pandas as pd
import pyarrow as pa
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from gradio.route_utils import FnIndexInferError
from mcp.types import TextContent
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from leaderboard import child
from leaderboard.errors import P2Error
from leaderboard.logs.contract import schema, write_log
from leaderboard.planning.wanted import offers, offers_words
from leaderboard.ranking.cells import asd_interval
from leaderboard.serving import as_json
from leaderboard.serving.board import Board
from leaderboard.serving.runs import filter_runs
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

    def download(name: str, request: Request) -> Response:
        """A table as a file; of the runs those that the query's filters leave."""
        return _file(name, _downloaded(store, name, dict(request.query_params)))

    def log(contributor: str, name: str) -> Response:
        """The log of a run as a file."""
        run_id, _, kind = name.rpartition(".")
        rows = store.board.run(f"{contributor}/{run_id}")
        known = kind in ("parquet", "csv") and len(rows)
        return _file(name, _log(rows, kind) if known else None)

    async def refuse(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"error": str(error)}, 422)

    app.add_exception_handler(P2Error, refuse)
    app.add_api_route("/healthz", healthz, methods=["GET"])
    app.add_api_route("/webhook", webhook, methods=["POST"])
    app.add_api_route("/download/{name}", download, methods=["GET"])
    app.add_api_route("/download/log/{contributor}/{name}", log, methods=["GET"])


MEDIA = {"json": "application/json", "csv": "text/csv; charset=utf-8", "parquet": "application/vnd.apache.parquet"}


def _file(name: str, content: str | bytes | None) -> Response:
    """A file to be saved; None is one that is not known."""
    if content is None:
        known = ", ".join(f"{one}.{kind}" for one in TABLES for kind in ("csv", "json"))
        sentence = (
            f"download: unknown file {name!r}. Known: {known}, wanted.json, log/CONTRIBUTOR/RUN_ID.parquet or .csv."
        )
        return JSONResponse({"error": sentence}, 404)
    saved = quote(name, safe="")
    headers = {"Content-Disposition": f'attachment; filename="{saved}"', "Cache-Control": "no-cache"}
    return Response(content, media_type=MEDIA[name.rpartition(".")[2]], headers=headers)


def _downloaded(store: Store, name: str, filters: dict[str, str]) -> str | None:
    """A table as the text of a file, None where none has that name."""
    table, _, kind = name.rpartition(".")
    if name == "ranking.json":
        return json.dumps(functions(store)["rank"](), allow_nan=False)
    if name == "wanted.json":
        runs = {"said": offers_words(store.board.wanted), "runs": offers(store.board.wanted)}
        return json.dumps(as_json.plain(runs), allow_nan=False)
    if table not in TABLES or kind not in ("csv", "json"):
        return None
    rows = TABLES[table](store.board)
    if table == "runs" and filters:
        rows = _filtered(rows, filters)
    if kind == "json":
        return str(rows.to_json(orient="records", date_format="iso", double_precision=15))
    return str(_harmless(rows).to_csv(index=False))


def _filtered(runs: pd.DataFrame, filters: dict[str, str]) -> pd.DataFrame:
    """The runs that filters leave; P2Error where one is not understood."""
    rates = {name: filters[name] for name in ("rate_from", "rate_to") if name in filters}
    try:
        bounds = {name: float(said) for name, said in rates.items()}
    except ValueError:
        raise P2Error(f"download: {rates} is no number; a rate is a share between 0 and 1.") from None
    names = {name: said for name, said in filters.items() if name not in rates and name != "search"}
    search = filters.get("search", "")
    return filter_runs(
        runs, search=search, rate_from=bounds.get("rate_from"), rate_to=bounds.get("rate_to"), **names
    ).rows  # fmt: skip


def _log(rows: pd.DataFrame, kind: str) -> str | bytes:
    """A run's rows as its log: the contract's columns."""
    table = pa.Table.from_pandas(rows, schema=schema(rows["provenance"].iloc[0]), preserve_index=False)
    if kind == "csv":
        return str(_harmless(table.to_pandas()).to_csv(index=False))
    with tempfile.TemporaryDirectory(prefix="p2zoo-") as work:
        return write_log(Path(work) / "log.parquet", table).read_bytes()


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
