"""How much memory `p2zoo check` takes: `python -m tests.bench.bench_check [FILES]`, 500 files of each kind by default.

A row a kind: seconds, and at its peak the sum of what the processes hold of their own and share (PSS), in MB.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tests.hostile import dictionary_bomb, long_log

KINDS: dict[str, Callable[[Path, int], Path]] = {"long": long_log, "bomb": dictionary_bomb}
EVERY_S = 0.1


def peak(command: list[str]) -> tuple[int, float]:
    """Run a command; the most bytes that it and its children held at one moment of ten a second, and seconds."""
    start, most = time.monotonic(), 0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            most = max(most, sum(_bytes(pid) for pid in _tree(process.pid)))
            time.sleep(EVERY_S)
    return most, time.monotonic() - start


def _tree(pid: int) -> list[int]:
    children: list[int] = []
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            children += map(int, (task / "children").read_text().split())
    return [pid, *(below for child in children for below in _tree(child))]


def _bytes(pid: int) -> int:
    """What a process holds, a page that several share in parts."""
    with suppress(OSError, StopIteration):
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        return 1024 * int(next(line.split()[1] for line in lines if line.startswith("Pss:")))
    return 0


def check(kind: str, files: int, folder: Path) -> tuple[int, float]:
    """Peak bytes and seconds of a check of so many files of a kind."""
    for i in range(files):
        KINDS[kind](folder / f"{i:03d}.parquet", i)
    return peak([sys.executable, "-m", "zoo", "check", str(folder)])


def main(files: int) -> None:
    """Print a row for each kind."""
    for kind in KINDS:
        with tempfile.TemporaryDirectory() as folder:
            most, seconds = check(kind, files, Path(folder))
        print(f"{kind:>6} x {files}: {most / 1e6:,.0f} MB, {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 500)
