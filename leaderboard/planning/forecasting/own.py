"""The rows so far of a run of one's own, finished or not: a run folder, `log.parquet`, or `log.jsonl`.

`log.jsonl` is what a run writes while it trains: an object a line with `tokens` and `loss`, perhaps `lr`. Beside it,
`run.json` holds what is known of the run so far. A last line that was cut off does not count.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from leaderboard import child
from leaderboard.errors import P2Error
from leaderboard.logs.apart import packed, unpacked
from leaderboard.logs.contract import BY_NAME

MOST_BYTES = 200_000_000
KINDS = "a run folder, a log.parquet or a log.jsonl"


def read_own(path: str | Path) -> pd.DataFrame:
    """The rows of the run at `path`. Raises P2Error on what is no run, in words."""
    file = _log_of(Path(path))
    if file.stat().st_size > MOST_BYTES:
        raise P2Error(f"forecast: {file} has {file.stat().st_size:,} bytes; a log has at most {MOST_BYTES:,}.")
    return _parquet(file) if file.suffix == ".parquet" else json_rows(file)


def _log_of(path: Path) -> Path:
    if path.is_dir():
        going_on = _state(path).get("status") == "running"  # perhaps beyond a log.parquet
        for name in ("log.jsonl", "log.parquet") if going_on else ("log.parquet", "log.jsonl"):
            if (path / name).is_file():
                return path / name
        raise P2Error(f"forecast: {path} holds neither log.parquet nor log.jsonl; give {KINDS}.")
    if not path.is_file():
        raise P2Error(f"forecast: {path} does not exist; give {KINDS}.")
    if path.suffix not in (".parquet", ".jsonl"):
        raise P2Error(f"forecast: {path} is not {KINDS}; `p2zoo import` reads logs of other programs.")
    return path


def _parquet(file: Path) -> pd.DataFrame:
    try:
        _, tables = child.call("leaderboard.planning.forecasting.own:answer", str(file.absolute()))
    except child.Died as died:
        raise P2Error(f"forecast: {file} cannot be read ({died}); `p2zoo check` says what a log is.") from None
    frame: pd.DataFrame = unpacked(tables[0]).to_pandas()
    return frame


def answer(file: str) -> Iterator[child.Answer]:
    """What a child tells of a parquet file: the contract's columns in it."""
    try:
        known = [name for name in pq.read_schema(file).names if name in BY_NAME]
        yield None, [packed(pq.read_table(file, columns=known))]
    except (pa.ArrowException, OSError) as error:
        raise P2Error(f"forecast: {file} is no parquet file: {str(error).splitlines()[0]}.") from error


def json_rows(file: Path) -> pd.DataFrame:
    """The rows of a log.jsonl, and what the run.json beside it knows of the run."""
    rows: list[dict[str, Any]] = []
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    for number, line in enumerate((line for line in lines if line.endswith("\n")), 1):
        row = _object(line)
        if not {"tokens", "loss"} <= set(row):
            raise P2Error(f"forecast: {file}, line {number}: an object with tokens and loss is expected.")
        rows.append({name: value for name, value in row.items() if name in BY_NAME})
    if not rows:
        raise P2Error(f"forecast: {file} holds no rows yet; let the run go on until it has evaluated.")
    state = _state(file.parent)
    columns = state.get("columns")  # of a run under way: what its log will say
    state = {**columns, **state} if isinstance(columns, dict) else state
    known = {n: v for n, v in state.items() if n in BY_NAME and n not in ("tokens", "loss") and _single(v)}
    return pd.DataFrame(rows).assign(**known)


def _state(folder: Path) -> dict[str, Any]:
    """run.json of a folder; empty without one."""
    beside = folder / "run.json"
    return _object(beside.read_text(encoding="utf-8", errors="replace")) if beside.is_file() else {}


def _object(text: str) -> dict[str, Any]:
    """A JSON object; empty for anything else."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _single(value: Any) -> bool:
    return isinstance(value, int | float | str)
