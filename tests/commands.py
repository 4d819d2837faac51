"""The `p2zoo` command as tests use it: each time in a fresh process, with a limit."""

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from zoo import fresh

LIMIT_S = 200.0  # of one command on a busy machine; below the limit of a test


def p2zoo(
    *words: object, cwd: Path | None = None, timeout: float = LIMIT_S, **environment: str
) -> subprocess.CompletedProcess[str]:
    """`p2zoo WORDS` with `environment` added to this one; it says what a terminal would show, and its code."""
    return fresh.run("zoo.cli:main", [*map(str, words)], env=os.environ | environment, cwd=cwd, timeout=timeout)


def until(true: Callable[[], object], seconds: float = LIMIT_S) -> None:
    """Wait until `true()`, at most so long."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)
