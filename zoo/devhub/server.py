"""Running a hub: in the foreground for the command line, or in a thread for tests and the demo.

For development and tests only: no TLS, no quotas, one process; on loopback unless told otherwise.
"""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from leaderboard.errors import P2Error, RunFailed
from zoo.devhub.access import Hub, check_users
from zoo.devhub.app import create_app
from zoo.devhub.storage.store import Store
from zoo.devhub.webhook import Sender, Webhook

_START_S = 10
_KEEP_ALIVE_S = 120  # longer than clients pause between two requests on one connection


@dataclass(frozen=True)
class _Prepared:
    """A server with its listening socket, not yet serving."""

    server: uvicorn.Server
    listening: socket.socket
    url: str

    def run(self) -> None:
        self.server.run(sockets=[self.listening])


def run(
    folder: str | os.PathLike[str],
    users: Mapping[str, str],
    webhook: Webhook | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 8123,
    greet: Callable[[str], None] = print,
) -> None:
    """Serve until interrupted; `greet` is called with the URL once the port is ours."""
    with _prepared(folder, users, webhook, host, port) as prepared:
        greet(prepared.url)
        prepared.run()


@contextlib.contextmanager
def in_thread(
    folder: str | os.PathLike[str], users: Mapping[str, str], webhook: Webhook | None = None
) -> Iterator[str]:
    """A hub on a free port of loopback while the block runs; yields its URL."""
    with _prepared(folder, users, webhook, "127.0.0.1", 0) as prepared:
        thread = threading.Thread(target=prepared.run, name="hub", daemon=True)
        thread.start()
        try:
            _wait_until_started(prepared.server, thread)
            yield prepared.url
        finally:
            prepared.server.should_exit = True
            thread.join()


def _wait_until_started(server: uvicorn.Server, thread: threading.Thread) -> None:
    deadline = time.monotonic() + _START_S
    while not server.started:
        if not thread.is_alive() or time.monotonic() > deadline:
            raise RunFailed(f"hub: the server did not start within {_START_S} s.")
        time.sleep(0.005)


@contextlib.contextmanager
def _prepared(
    folder: str | os.PathLike[str], users: Mapping[str, str], webhook: Webhook | None, host: str, port: int
) -> Iterator[_Prepared]:
    check_users(users)
    with contextlib.ExitStack() as closing:
        listening = closing.enter_context(_listen(host, port))
        store = closing.enter_context(contextlib.closing(Store(Path(folder))))
        sender = closing.enter_context(contextlib.closing(Sender(webhook))) if webhook else None
        config = uvicorn.Config(
            create_app(Hub(store, dict(users), sender)),
            log_level="warning",
            access_log=False,
            lifespan="off",
            ws="none",
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=2,
        )
        yield _Prepared(uvicorn.Server(config), listening, f"http://{host}:{listening.getsockname()[1]}")


def _listen(host: str, port: int) -> socket.socket:
    try:
        listening = socket.create_server((host, port), backlog=512)
    except OSError as error:
        raise P2Error(f"hub: cannot listen on {host}:{port} ({error}); choose another with --port.") from error
    # Inherited by each connection. Without it an answer's body waits 40 ms for the client to acknowledge its head.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening
