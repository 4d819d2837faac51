"""Judged logs kept as one parquet file: what thousands of files said, read again in a second.

A kept file is named by what it was made from (a commit, or the bytes of the files) and by the code that judged it, so
it is never stale. All stand below P2ZOO_CACHE, by default `p2zoo` in the Hugging Face home.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import cache
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from leaderboard.files import whole_file
from leaderboard.logs.check import MAX_BYTES, ON_READ
from leaderboard.logs.findings import Finding, Report

KEPT = 4  # files in one folder
# What a verdict depends on.
_JUDGES = (
    "check.py", "apart.py", "findings.py", "parquet_guard.py", "rules/__init__.py", "rules/rows.py", "rules/texts.py",
    "contract.py", "upgrade.py", "extensions.py", "repeats.py",
)  # fmt: skip


def kept_folder() -> Path:
    """The folder of all kept logs."""
    from huggingface_hub import constants

    return Path(os.environ.get("P2ZOO_CACHE") or Path(constants.HF_HOME) / "p2zoo") / "logs"


@cache
def judges() -> str:
    """First 12 hex digits of the sha256 over the code that judges logs: another code, another verdict."""
    here = Path(__file__).parent
    return hashlib.sha256(b"".join((here / name).read_bytes() for name in _JUDGES)).hexdigest()[:12]


def content_hash(paths: Sequence[Path], names: Sequence[str]) -> str:
    """First 32 hex digits of the sha256 over names and bytes; of what is no log by its size, the size alone."""
    whole = hashlib.sha256()
    for path, name in zip(paths, names, strict=True):
        size = path.stat().st_size if path.is_file() else -1
        data = path.read_bytes() if 0 <= size <= MAX_BYTES else b""
        whole.update(f"{name}\0{size}\0".encode() + hashlib.sha256(data).digest())
    return whole.hexdigest()[:32]


def read_kept(path: Path) -> tuple[pd.DataFrame, tuple[Report, ...]] | None:
    """The rows and the reports of bad files; None where there is nothing, or half of it."""
    try:
        table = pq.read_table(path)
        bad = json.loads((table.schema.metadata or {})[b"p2zoo"])
    except (OSError, KeyError, ValueError):  # pyarrow's are among these
        return None
    reports = tuple(Report(r["path"], tuple(Finding(**f) for f in r["findings"])) for r in bad)
    frame: pd.DataFrame = table.to_pandas(split_blocks=True, self_destruct=True)  # a column at a time: half the memory
    return frame, reports


def write_kept(path: Path, frame: pd.DataFrame, bad: tuple[Report, ...]) -> None:
    """Keep the rows and the reports of bad files, and the newest few beside them."""
    table = pa.Table.from_pandas(frame, schema=ON_READ, preserve_index=False)
    table = table.replace_schema_metadata(
        (table.schema.metadata or {}) | {b"p2zoo": json.dumps([asdict(r) for r in bad])}
    )
    with whole_file(path) as temporary:
        pq.write_table(table, temporary, compression="snappy")
    ages = {}
    for file in path.parent.glob("*.parquet"):
        with suppress(FileNotFoundError):  # another process was faster
            ages[file] = file.stat().st_mtime
    for file in sorted(ages, key=lambda p: ages[p], reverse=True)[KEPT:]:
        file.unlink(missing_ok=True)
