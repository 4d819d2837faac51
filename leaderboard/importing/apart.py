"""Another program's log read in a child with limits: whatever a file does, it does to the child.

What comes back is names and numbers; `import_log` takes it from there.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from leaderboard import child
from leaderboard.child import Limits
from leaderboard.errors import P2Error
from leaderboard.importing.readers import log_file, read_runs
from leaderboard.importing.recorded import Recorded
from leaderboard.logs.findings import printable

LIMITS = Limits(memory=4_000_000_000, cpu_s=60.0, clock_s=300.0)  # the largest file takes a third of each
ABOUT = ("name", "format", "size", "facts", "notes")


def read_apart(path: Path, limits: Limits = LIMITS) -> list[Recorded]:
    """`read_runs` of a file or folder, in a child. Raises P2Error also where the file ends the child."""
    file = log_file(path)
    runs = []
    try:
        with child.Child(limits) as one:
            for value, blobs in one.answers("leaderboard.importing.apart:answer", str(file.absolute()), file.name):
                columns = dict(zip(value.pop("columns"), zip(blobs[::2], blobs[1::2], strict=True), strict=True))
                read = {name: (_numbers(at, int), _numbers(values, float)) for name, (at, values) in columns.items()}
                runs.append(Recorded(columns=read, **value))
    except child.Died as died:
        raise P2Error(f"{printable(file.name)}: cannot be read: {why_unread(died)}.") from None
    return runs


def answer(path: str, name: str) -> Iterator[child.Answer]:
    """In a child: each run of a file, its columns as bytes, row numbers and values by turns."""
    for run in read_runs(Path(path).read_bytes(), name):
        about = {key: getattr(run, key) for key in ABOUT} | {"columns": list(run.columns)}
        yield (
            about,
            [
                np.array(half, dtype=kind).tobytes()
                for column in run.columns.values()
                for half, kind in zip(column, (np.int64, np.float64), strict=True)
            ],
        )


def why_unread(died: child.Died) -> str:
    """What a file did to the child that read it, in words."""
    words = {child.MEMORY: "it takes more memory than there is for it", child.TIME: "it takes too long"}
    return words.get(died.reason, f"it ends the program that reads it ({died})")


def _numbers(content: bytes, kind: type) -> list[Any]:
    numbers: list[Any] = np.frombuffer(content, np.int64 if kind is int else np.float64).tolist()
    return numbers
