"""`p2zoo dataset webhook`: the Hub tells of a pull request, and a check of it runs.

The secret is compared in constant time and the Hub answered at once; checks run one after another, each in a process
of its own, so that no submission can stop the next. Docs: https://huggingface.co/docs/hub/webhooks
"""

import hmac
import json
import logging
import queue
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from leaderboard.errors import P2Error

if TYPE_CHECKING:
    from fastapi import FastAPI

logger = logging.getLogger(__name__)
MAX_BYTES = 1_000_000  # of a payload
CHECK_S = 1_800
_REF = re.compile(r"refs/pr/([1-9]\d{0,8})")


def pull_request_of(payload: Mapping[str, Any], dataset: str) -> int | None:
    """The pull request that this event is a reason to check: opened, published, reopened or pushed to; else None."""
    try:
        repo, scope = payload["repo"], payload["event"]["scope"]
        if (repo["type"], repo["name"]) != ("dataset", dataset) or payload["event"]["action"] == "delete":
            return None
        if scope == "discussion":
            about = payload["discussion"]
            return int(about["num"]) if about["isPullRequest"] and about["status"] == "open" else None
        if scope.startswith("repo.content"):
            refs = [_REF.fullmatch(ref["ref"]) for ref in payload.get("updatedRefs") or [] if ref.get("newSha")]
            return next((int(found[1]) for found in refs if found), None)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None  # not an event as the Hub sends them
    return None


class Checker:
    """Checks pull requests one after another; one that waits already is not queued twice."""

    def __init__(self, check: Callable[[int], object]):
        self._check = check
        self._waiting: queue.Queue[int | None] = queue.Queue()
        self._known: set[int] = set()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._work, name="checks", daemon=True)
        self._thread.start()

    def add(self, num: int) -> None:
        with self._lock:
            if num not in self._known:
                self._known.add(num)
                self._waiting.put(num)

    def close(self) -> None:
        """Check what waits, then stop."""
        self._waiting.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (num := self._waiting.get()) is not None:
            with self._lock:
                self._known.discard(num)  # what comes from here on may be new
            try:
                self._check(num)
            except (OSError, subprocess.SubprocessError):
                logger.exception("check of #%d", num)


def create_app(dataset: str, secret: str, checker: Checker) -> "FastAPI":
    """The application: POST /webhook. Refuses an empty secret, which anybody would know."""
    from fastapi import FastAPI, Request
    from fastapi.responses import JSONResponse

    if not secret:
        raise P2Error("webhook: the secret is empty; set P2ZOO_WEBHOOK_SECRET to the one given to the Hub.")
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    async def receive(request: Request) -> JSONResponse:
        given = request.headers.get("x-webhook-secret", "")
        if not hmac.compare_digest(given.encode(), secret.encode()):
            return JSONResponse({"error": "wrong or no X-Webhook-Secret"}, 403)
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > MAX_BYTES:
                return JSONResponse({"error": "payload too large"}, 413)
        try:
            payload = json.loads(body)
        except (ValueError, RecursionError):
            return JSONResponse({"error": "not JSON"}, 400)
        num = pull_request_of(payload, dataset) if isinstance(payload, dict) else None
        if num is not None:
            checker.add(num)
        return JSONResponse({"checking": num}, 202 if num is not None else 200)

    app.add_api_route("/webhook", receive, methods=["POST"])
    return app


def check_in_process(dataset: str, num: int, merge_if_clean: bool) -> int:
    """Run `p2zoo check --pr` as a child, on the same terminal; its exit code."""
    command = [sys.executable, "-m", "zoo", "check", dataset, "--pr", str(num), "--comment"]
    command += ["--merge-if-clean"] if merge_if_clean else []
    return subprocess.run(command, timeout=CHECK_S, check=False).returncode


def run(dataset: str, secret: str, host: str, port: int, merge_if_clean: bool) -> None:
    """Serve until interrupted."""
    from zoo.devhub import require_server

    require_server()
    import uvicorn

    checker = Checker(lambda num: check_in_process(dataset, num, merge_if_clean))
    print(f"POST http://{host}:{port}/webhook checks pull requests of {dataset}", flush=True)
    uvicorn.run(create_app(dataset, secret, checker), host=host, port=port, log_level="warning")
