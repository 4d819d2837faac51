"""Checkpoints of a post-training: whole with their marker, sound by their sums, and the one before is kept.

A checkpoint is complete when its `complete.json` is there, which is written last: it holds what the next row of the log
needs, and a sum of every file. A disk may still lose or change bytes later: what does not fit its sums is not gone on
from. A sum is a CRC-32, which finds damage, not malice, and costs less than writing did.
"""

import json
import shutil
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from zoo.files import write_atomic

MARKER = "complete.json"
CHANGING = "trainer_state.json"  # an extension counts its steps anew
FRESH: Mapping[str, Any] = {
    "step": 0, "tokens": 0, "loss_sum": 0.0, "loss_steps": 0, "train_s": 0.0, "processes": None,
}  # fmt: skip
_AT_ONCE = 2**24  # bytes


def complete(checkpoint: Path, marker: Mapping[str, Any]) -> None:
    """Mark a checkpoint as complete, with the sums of its files."""
    write_atomic(checkpoint / MARKER, json.dumps({**marker, "sums": sums(checkpoint)}))


def sums(checkpoint: Path) -> dict[str, list[int]]:
    """Size in bytes and CRC-32 of each file, by its path in the checkpoint."""
    files = sorted(path for path in checkpoint.rglob("*") if path.is_file() and path.name not in (MARKER, CHANGING))
    return {path.relative_to(checkpoint).as_posix(): [path.stat().st_size, _crc(path)] for path in files}


def damage(checkpoint: Path, marker: Mapping[str, Any]) -> str | None:
    """Which file is not as it was written, in a few words; None where all are, or nothing is known of them."""
    try:
        json.loads((checkpoint / CHANGING).read_bytes())
    except (OSError, ValueError):
        return f"{CHANGING} cannot be read"
    for name, known in marker.get("sums", {}).items():
        path = checkpoint / name
        if not path.is_file():
            return f"{name} is gone"
        if path.stat().st_size != known[0] or _crc(path) != known[1]:
            return f"{name} is not as it was written"
    return None


def newest(folder: Path) -> tuple[Path | None, Mapping[str, Any]]:
    """The latest complete checkpoint and its marker."""
    return max(_complete(folder), key=lambda one: one[1]["step"], default=(None, FRESH))


def last_complete(
    folder: Path, say: Callable[[str], None] = lambda words: None
) -> tuple[Path | None, Mapping[str, Any]]:
    """The latest checkpoint to go on from, complete and sound, and its marker; what is neither is removed, and said."""
    known = _complete(folder)
    for checkpoint in set(folder.glob("checkpoint-*")) - {path for path, _ in known}:
        shutil.rmtree(checkpoint)
    for checkpoint, marker in sorted(known, key=lambda one: -one[1]["step"]):
        if (what := damage(checkpoint, marker)) is None:
            return checkpoint, marker
        say(f"the checkpoint at {marker['tokens']:,} tokens is damaged ({what}); going on from the one before")
        shutil.rmtree(checkpoint)
    return None, FRESH


def make_room(folder: Path) -> None:
    """Before the next one is written, of those that are there only the newest stays."""
    last, _ = newest(folder)
    for checkpoint in folder.glob("checkpoint-*"):
        if checkpoint != last:
            shutil.rmtree(checkpoint)


def _complete(folder: Path) -> list[tuple[Path, dict[str, Any]]]:
    markers = []
    for checkpoint in folder.glob("checkpoint-*"):
        try:
            markers.append((checkpoint, json.loads((checkpoint / MARKER).read_bytes())))
        except (OSError, ValueError):
            continue
    return markers


def _crc(path: Path) -> int:
    crc = 0
    with path.open("rb") as file:
        while part := file.read(_AT_ONCE):
            crc = zlib.crc32(part, crc)
    return crc
