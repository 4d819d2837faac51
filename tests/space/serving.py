"""The whole Space on a free port of loopback, in a thread."""

import asyncio
import contextlib
import gc
import socket
import threading
import time
import warnings
from collections.abc import Iterator

import uvicorn

from space.app import build
from space.server.store import Store


@contextlib.contextmanager
def serving(store: Store, webhook_secret: str | None = None) -> Iterator[str]:
    """Yields the URL; the port is free before the app is built, so nothing waits for a fixed one."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        with warnings.catch_warnings():  # Gradio leaves event loops behind; they end here, not in somebody's test
            warnings.simplefilter("ignore", ResourceWarning)
            app = build(store, webhook_secret)
            asyncio.set_event_loop(None)  # the last of them
            gc.collect()
        config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=lambda: server.run(sockets=[listening]), daemon=True)
        thread.start()
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.02)
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(60)
