"""Files of visitors: where they stand, how long, and how many are read at once.

Each is judged in a child (leaderboard/child.py) and deleted after use; what nobody used goes after KEPT_S. At most
PLACES are read at a time, so that a storm of them leaves threads for everybody else: one more is asked to come again.
"""

import atexit
import base64
import binascii
import contextlib
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from leaderboard.errors import P2Error

KEPT_S = 900.0
SWEEP_S = 60.0
PLACES = 2
WAIT_S = 2.0
_places = threading.BoundedSemaphore(PLACES)


@cache
def folder() -> Path:
    """The folder of this process's uploads, which nobody else may read; it goes with the process."""
    made = Path(tempfile.mkdtemp(prefix="p2zoo-uploads-"))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    os.environ["GRADIO_TEMP_DIR"] = str(made)  # Gradio's own setting
    return made


@contextlib.contextmanager
def place() -> Iterator[None]:
    """Room to read one file. Raises P2Error where all are taken for WAIT_S seconds."""
    if not _places.acquire(timeout=WAIT_S):
        raise P2Error("Many files are being read at this moment; try again in a few seconds.")
    try:
        yield
    finally:
        _places.release()


@contextlib.contextmanager
def decoded(name: str, text: str, most: int, where: str) -> Iterator[Path]:
    """A file sent as base64, on disk while the block runs. Raises P2Error on more than `most` bytes, or no base64."""
    if len(text) > base64_length(most):
        raise P2Error(f"{where}: more than {most:,} bytes; a log has fewer. Evaluate less often.")
    try:
        content = base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error) as error:
        raise P2Error(f"{where}: {name} is not base64 ({error}).") from error
    with tempfile.TemporaryDirectory(prefix="p2zoo-") as work:
        path = Path(work) / "log"
        path.write_bytes(content)
        yield path


def base64_length(size: int) -> int:
    """Characters of so many bytes in base64."""
    return 4 * -(-size // 3)


def delete(path: str | None) -> None:
    """Delete an upload that was used; only what stands in the folder of uploads."""
    if path and folder() in Path(path).resolve().parents:
        with contextlib.suppress(OSError):
            Path(path).unlink()
            Path(path).parent.rmdir()  # an upload has a folder of its own


def sweep(older_s: float = KEPT_S) -> None:
    """Delete files that were left for so long."""
    for path in sorted(folder().rglob("*"), reverse=True):  # what is in a folder comes before it
        with contextlib.suppress(OSError):  # gone, or a folder that is not empty
            if time.time() - path.lstat().st_mtime >= older_s:
                path.rmdir() if path.is_dir() else path.unlink()


@cache
def keep_swept() -> None:
    """Sweep in the background from now on."""

    def work() -> None:
        while True:
            time.sleep(SWEEP_S)
            sweep()

    threading.Thread(target=work, name="sweep", daemon=True).start()
