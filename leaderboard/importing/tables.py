"""A trackio export: one parquet table of all rows of a project, with `run_name`, `step` and a column a metric."""

import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from leaderboard.errors import P2Error
from leaderboard.importing.recorded import Recorded, recorded
from leaderboard.logs.parquet_guard import unpacked_bytes

MAX_UNPACKED = 256_000_000  # bytes


def read_parquet(data: bytes, name: str) -> list[Recorded]:
    """The runs of an export. Raises P2Error on a p2zoo log, which needs no import, and on what cannot be read."""
    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        if unpacked_bytes(data, file.metadata) > MAX_UNPACKED:
            raise P2Error(f"{name}: unpacks to more than {MAX_UNPACKED:,} bytes; export one run at a time.")
        table = file.read(use_threads=False)
        rows = table.to_pylist()
    except (OSError, ValueError, UnicodeDecodeError, pa.ArrowException) as error:
        if isinstance(error, P2Error):
            raise
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise P2Error(f"{name}: an unreadable parquet file: {reason}.") from None
    if {"run_id", "l0", "l_pruned"} <= set(table.column_names):
        raise P2Error(f"{name}: is a run log of p2zoo already; `p2zoo check` judges it, `p2zoo plot` draws it.")
    key = next((key for key in ("run_name", "run") if key in table.column_names), None)
    lots: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        lots.setdefault(str(row.get(key)) if key else "run", []).append(_flat(row))
    return [recorded(run, "trackio", lot) for run, lot in lots.items()]


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    """Metrics that stand in one JSON text, as older exports have them, beside the other columns."""
    if not isinstance(row.get("metrics"), str):
        return row
    try:
        metrics = json.loads(row["metrics"])
    except (ValueError, RecursionError):
        return row
    return {**row, **metrics} if isinstance(metrics, dict) else row
