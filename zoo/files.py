"""Files and folders of a run appear whole or not at all; a full disk is told in words."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from leaderboard.errors import RunFailed
from leaderboard.files import whole_file


def write_atomic(path: Path, text: str) -> None:
    """Write a small text so that a reader sees the old content or the new, also after a power cut."""
    with disk(path), whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A temporary folder to fill; it takes the place of `path` when the block ends well, and never before."""
    temporary, before = (path.with_name(f".{path.name}.{word}") for word in ("new", "old"))
    with disk(path):
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        try:
            yield temporary
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        shutil.rmtree(before, ignore_errors=True)
        if path.exists():
            path.replace(before)
        temporary.replace(path)
        shutil.rmtree(before, ignore_errors=True)


@contextlib.contextmanager
def disk(path: Path) -> Iterator[None]:
    """A full disk or a folder that cannot be written ends the run in words; what was complete stays."""
    try:
        yield
    except OSError as error:
        raise RunFailed(
            f"{path}: cannot be written: {error.strerror or error}. Make room or choose another --out; "
            "nothing that was complete is lost, and --resume goes on from it."
        ) from error
