"""A Space in a process of its own."""

import contextlib
import socket
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx

from tests.commands import until

START_S = 300  # of a busy machine


def free_port() -> int:
    """A port that nobody has at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


@contextlib.contextmanager
def healthy(command: Sequence[str], port: int, cwd: Path, env: dict[str, str]) -> Iterator[str]:
    """Run a command until the block ends; yields its URL once /healthz answers."""
    url = f"http://127.0.0.1:{port}"
    with subprocess.Popen(command, cwd=cwd, env=env, stdout=subprocess.DEVNULL) as child:
        try:
            until(lambda: child.poll() is not None or _answers(url), START_S)
            assert child.poll() is None, f"{command} ended with {child.returncode}"
            yield url
        finally:
            child.terminate()


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz").status_code == 200
    except httpx.TransportError:
        return False
