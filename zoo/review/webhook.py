"""`p2zoo dataset webhook`: the Hub tells of a pull request, and a check of it runs.

Checks run one after another, each in a process of its own, so that no submission can stop the next. How the Hub is
answered is `leaderboard/serving/webhook.py`, for the Space as well; `recipes/check_pr_job.py` needs no server.
"""

import logging
import queue
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from leaderboard.errors import P2Error
from leaderboard.serving.webhook import answer, is_about

if TYPE_CHECKING:
    from starlette.applications import Starlette

logger = logging.getLogger(__name__)
CHECK_S = 1_800
_REF = re.compile(r"refs/pr/([1-9]\d{0,8})")


def pull_request_of(payload: Any, dataset: str) -> int | None:
    """The pull request that this event is a reason to check: opened, published, reopened or pushed to; else None."""
    try:
        scope = payload["event"]["scope"] if is_about(payload, dataset) else ""
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


def create_app(dataset: str, secret: str, checker: Checker) -> "Starlette":
    """The application: POST /webhook. Refuses an empty secret, which anybody would know."""
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    if not secret:
        raise P2Error("webhook: the secret is empty; set P2ZOO_WEBHOOK_SECRET to the one given to the Hub.")

    def check(event: Any) -> dict[str, Any]:
        num = pull_request_of(event, dataset)
        if num is not None:
            checker.add(num)
        return {"checking": num}

    async def receive(request: Request) -> JSONResponse:
        return JSONResponse(*await answer(request.headers, request.stream(), secret, check))

    return Starlette(routes=[Route("/webhook", receive, methods=["POST"])])


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
