"""Files judged in children: what a file does to the process that reads it becomes a finding about that file.

`check.py` says what is judged; here is who is to blame where a child dies. The file that was being read is tried again
alone, and only one that ends a child of its own is blamed.
"""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from leaderboard import child
from leaderboard.logs.findings import ERROR, Finding

Batch = tuple[pa.Table, list[list[Finding]]]  # rows of the files that pass alone, and the findings of each file
LEAST = 50  # files for which another child pays
KEPT = 200  # rows of a long log, besides those that stand out
_SPREAD = np.uint64(0x9E3779B97F4A7C15)  # times this, multiples of a batch lie evenly among 64-bit numbers


def judged_apart(paths: Sequence[Path], function: str, *arguments: Any) -> Iterator[Batch]:
    """Batches of files, in order, judged by `module:function` in as many children as have enough to do.

    The function takes the paths as texts, then `arguments`, and gives what `told` yields.
    """
    size = max(LEAST, -(-len(paths) // child.MOST))
    texts = [str(path.absolute()) for path in paths]  # the child works elsewhere
    parts = [texts[i : i + size] for i in range(0, len(texts), size)]
    if len(parts) == 1:
        yield from _part(parts[0], function, arguments)
        return
    with ThreadPoolExecutor(max(1, len(parts))) as pool:
        for batches in pool.map(lambda part: list(_part(part, function, arguments)), parts):
            yield from batches


def told(batches: Iterable[int | Batch]) -> Iterator[child.Answer]:
    """In a child: what goes to the other side, for the place of each file before it is read, and for each batch."""
    for batch in batches:
        if isinstance(batch, int):
            yield batch, []
            continue
        table, findings = batch
        yield [[asdict(f) for f in own] for own in findings], [packed(table)]


def few_rows(tokens: NDArray[np.int64], loss: NDArray[np.float64], file: NDArray[np.int64]) -> NDArray[np.bool_]:
    """The rows that stand for each log, (n,): all of a short one; of a long one the ends, where it climbs most, where
    its tokens lie closest, and rows chosen by their tokens, so that two logs of one grid keep the same."""
    keep: NDArray[np.bool_] = np.ones(len(file), dtype=bool)
    starts = np.flatnonzero(np.diff(file, prepend=-1))
    for a, b in zip(starts, np.append(starts[1:], len(file)), strict=True):
        if b - a <= KEPT:
            continue
        at, own = tokens[a:b], loss[a:b]
        top = int(np.argmax(own - np.minimum.accumulate(own)))
        gap = int(np.argmin(np.diff(at)))
        some = np.argpartition(at.astype(np.uint64) * _SPREAD, KEPT)[:KEPT]
        keep[a:b] = False
        keep[a + np.array([0, b - a - 1, top, np.argmin(own[: top + 1]), gap, gap + 1, *some])] = True
    return keep


def packed(table: pa.Table) -> bytes:
    """A table as bytes, for the way from a child."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    content: bytes = sink.getvalue()
    return content


def unpacked(content: bytes) -> pa.Table:
    """The table that `packed` made bytes of."""
    return pa.ipc.open_stream(content).read_all()


def _part(paths: list[str], function: str, arguments: Sequence[Any]) -> Iterator[Batch]:
    waiting = [paths]
    while waiting:
        group = waiting.pop(0)
        done = at = 0
        try:
            with child.Child() as one:
                for value, blobs in one.answers(function, group, *arguments):
                    if blobs:
                        yield unpacked(blobs[0]), [[Finding(**f) for f in own] for own in value]
                        done += len(value)
                    else:
                        at = value
        except child.Died as died:
            alone = len(group) == 1
            if alone:
                yield pa.table({}), [[deadly(died)]]
            else:
                waiting[:0] = [part for part in (group[done:at], group[at : at + 1], group[at + 1 :]) if part]


def deadly(died: child.Died) -> Finding:
    """What is said of a file that ended the child in which it was read."""
    allowed = "a whole parquet file, neither encrypted nor damaged"
    if died.reason == child.MEMORY:
        return Finding(
            "too_large", ERROR, "file", "more memory than there is to read it", allowed, "Shorten the texts."
        )
    if died.reason == child.TIME:
        return Finding("too_slow", ERROR, "file", "more time than there is to read it", allowed, "Evaluate less often.")
    got = f"it ends the program that reads it ({died})"
    return Finding("unreadable", ERROR, "file", got, allowed, "Write it again with `p2zoo run --resume`.")
