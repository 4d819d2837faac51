"""A factory of small valid run logs, and the bundled seed ranked once."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from filelock import FileLock

from leaderboard import load_logs, score_cells
from leaderboard.logs.contract import build_table, schema, write_log

RUN = {
    "contributor": "ada",
    "base_model": "ada/base-1m",
    "base_revision": "a" * 40,
    "family": "llama-3",
    "method": "depth",
    "importance": "block-influence",
    "rate_requested": 0.25,
    "rate": 0.25,
    "rate_nonembedding": 0.3,
    "n0": 1_000_000,
    "n0_nonembedding": 800_000,
    "n_pruned": 750_000,
    "created_at": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    "software": '{"torch": "2.13.0"}',
    "objective": "clm",
    "train_data": "ada/text",
    "seq_len": 256,
    "batch_tokens": 2048,
    "lr_peak": 3e-4,
    "schedule": "constant",
    "optimizer": "adamw",
    "precision": "fp32",
    "packing": "wrapped",
    "warmup_tokens": 4096,
    "tokens_planned": 12 * 2048,
    "seed": 0,
    "eval_data": "ada/heldout",
    "eval_tokens": 16384,
    "vocab_size": 16384,
    "l0": 3.0,
    "l_pruned": 3.5,
}
LogFile = Callable[..., Path]


def curve(l_pruned: float = 3.5, batch_tokens: int = 2048) -> list[dict[str, Any]]:
    """Thirteen evaluations that fall from `l_pruned`."""
    return [{"tokens": i * batch_tokens, "loss": l_pruned - 0.3 * i / (i + 3), "lr": 3e-4} for i in range(13)]


@pytest.fixture
def run_columns() -> dict[str, Any]:
    """Run-level columns of a valid run."""
    return dict(RUN)


@pytest.fixture(scope="session")
def log_table() -> Callable[..., pa.Table]:
    """`log_table(**changes)`: a valid log with other run-level columns; its run_id follows."""

    def build(**changes: Any) -> pa.Table:
        run = RUN | changes
        return build_table(run, curve(run["l_pruned"], run["batch_tokens"]))

    return build


@pytest.fixture
def log_file(tmp_path: Path, log_table: Callable[..., pa.Table]) -> LogFile:
    """`log_file(name, edit=None, **changes)`: the same as a file, its rows edited by `edit` where given."""

    def write(name: str, edit: Callable[[list[dict[str, Any]]], object] | None = None, **changes: Any) -> Path:
        rows = log_table(**changes).to_pylist()
        if edit is not None:
            edit(rows)  # the run_id stays what it was
        allowed = [pa.field(f.name, f.type) for f in schema()]  # null anywhere: judging is the check's
        return write_log(tmp_path / name, pa.Table.from_pylist(rows, schema=pa.schema(allowed)))

    return write


@pytest.fixture(scope="session")
def seed() -> pd.DataFrame:
    """The rows of the bundled seed."""
    return load_logs().frame


@pytest.fixture(scope="session")
def seed_cells(seed: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> pd.DataFrame:
    """Every law on every track of the seed: the one full ranking of the suite, worked out by one of its processes."""
    if worker_id == "master":
        return score_cells(seed)
    kept = tmp_path_factory.getbasetemp().parent / "seed_cells.pickle"  # of this run of pytest, which all workers share
    with FileLock(f"{kept}.lock", timeout=200):
        if not kept.exists():
            score_cells(seed).to_pickle(kept)
    return pd.read_pickle(kept)
