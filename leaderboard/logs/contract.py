"""The run log: one parquet file a run, one row an evaluation, run-level columns repeated.

`COLUMNS` is the only declaration of the contract; the arrow schema, the validator, the documentation
and the dataset card are made from it. Parameters and tokens are counts, losses nats per token, rates
shares of all parameters. Judging a log is check.py; reading many is load.py.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from leaderboard.errors import P2Error
from leaderboard.files import whole_file
from leaderboard.logs.methods import CONTROL, METHODS

SCHEMA_VERSION = 1
CLM, DISTILL = OBJECTIVES = ("clm", "distill")  # next token; the next-token distribution of the model before pruning
WRAPPED, BFD_SPLIT = PACKINGS = ("wrapped", "bfd_split")  # how documents fill sequences
_ARROW = {
    "int": pa.int64(),
    "float": pa.float64(),
    "text": pa.string(),
    "time": pa.timestamp("us", tz="UTC"),
}
_PYTHON: dict[str, type] = {"int": int, "float": float, "text": str}


@dataclass(frozen=True)
class Column:
    """One column: `kind` is int, float, text or time; `low` <= value <= `high`; `curve` varies in a run.

    A `later` column came when logs were out: one that lacks it is read as null, and null does not enter the run_id.
    """

    name: str
    group: str
    kind: str
    meaning: str
    unit: str = ""
    low: float | None = None
    high: float | None = None
    nullable: bool = False
    defines_run: bool = False
    later: bool = False

    @property
    def curve(self) -> bool:
        return self.group == "curve"

    @property
    def may_be_null(self) -> bool:
        """Whether some log may lack a value: this column in any, or all but a few in imported ones."""
        return self.nullable or self.name not in REQUIRED_OF_IMPORTED


def _c(
    name: str,
    group: str,
    kind: str,
    meaning: str,
    unit: str = "",
    low: float | None = None,
    high: float | None = None,
    *flags: str,
) -> Column:
    return Column(name, group, kind, meaning, unit, low, high, "null" in flags, "id" in flags, "later" in flags)


_I, _P, _R, _T, _H, _K = "identity", "provenance", "pruning", "post-training", "held-out", "curve"
_LATER = (None, None, "null", "id", "later")
_NEW = ("null", "later")

# fmt: off
COLUMNS: tuple[Column, ...] = (
    _c("schema_version", _I, "int", "version of this contract", "", 1, SCHEMA_VERSION),
    _c("run_id", _I, "text", "first 16 hex digits of the sha256 over the columns that define the run"),
    _c("contributor", _P, "text", "Hub name of who ran it"),
    _c("base_model", _P, "text", "Hub id of the model before pruning", "", None, None, "id"),
    _c("base_revision", _P, "text", "its commit", "", None, None, "null", "id"),
    _c("base_tokens", _P, "int", "tokens it was trained on, where known", "tokens", 1, 1e16, "null", "id", "later"),
    _c("family", _P, "text", "model family, e.g. llama-3 or qwen-2.5"),
    _c("model_repo", _P, "text", "Hub id of the published pruned model", "", None, None, "null"),
    _c("model_revision", _P, "text", "its commit", "", None, None, "null"),
    _c("recipe_sha256", _P, "text", "hash of the resolved recipe", "", None, None, "null"),
    _c("software", _P, "text", "JSON object of package versions", "", None, None, "null"),
    _c("hardware", _P, "text", "device, e.g. 1 x NVIDIA H100 80GB", "", None, None, "null"),
    _c("created_at", _P, "time", "when the log was written"),
    _c("method", _R, "text", f"{', '.join(METHODS)}; a+b; {CONTROL} for a control", "", None, None, "id"),
    _c("importance", _R, "text", "importance score that chose what to prune", "", None, None, "id"),
    _c("rate_requested", _R, "float", "share of all parameters asked for; null for 2:4", "share", 0, 1, "null", "id"),
    _c("rate", _R, "float", "share of all parameters removed or zeroed", "share", 0, 1),
    _c("rate_nonembedding", _R, "float", "share of non-embedding parameters removed or zeroed", "share", 0, 1),
    _c("n0", _R, "int", "parameters before pruning, tied ones once", "parameters", 1, 1e14),
    _c("n0_nonembedding", _R, "int", "the same without embeddings", "parameters", 1, 1e14),
    _c("n_pruned", _R, "int", "parameters kept, masked zeros not counted", "parameters", 1, 1e14),
    _c("calibration_sha256", _R, "text", "hash of the calibration tokens", "", None, None, "null", "id"),
    _c("objective", _T, "text", "training objective, e.g. clm", "", None, None, "id"),
    _c("train_data", _T, "text", "post-training text", "", None, None, "id"),
    _c("train_data_revision", _T, "text", "its commit or hash", "", None, None, "null"),
    _c("seq_len", _T, "int", "sequence length", "tokens", 1, 1e9, "id"),
    _c("batch_tokens", _T, "int", "tokens in one optimiser step", "tokens", 1, 1e12, "id"),
    _c("lr_peak", _T, "float", "highest learning rate", "", 0, 1, "id"),
    _c("schedule", _T, "text", "learning-rate schedule", "", None, None, "id"),
    _c("optimizer", _T, "text", "optimiser", "", None, None, "id"),
    _c("precision", _T, "text", "weights and compute, e.g. fp32-master-bf16-autocast", "", None, None, "id"),
    _c("packing", _T, "text", f"how documents fill sequences: {' or '.join(PACKINGS)}", "", None, None, "id"),
    _c("warmup_tokens", _T, "int", "rows up to here enter no fit", "tokens", 0, 1e16, "id"),
    _c("tokens_planned", _T, "int", "post-training budget", "tokens", 0, 1e16, "id"),
    _c("seed", _T, "int", "seed of data order and training", "", 0, None, "id"),
    _c("tokens_per_second", _T, "float", "training throughput", "tokens/s", 0, 1e12, "null"),
    _c("mfu", _T, "float", "model FLOP utilisation", "share", 0, 1, "null"),
    _c("eval_data", _H, "text", "held-out text", "", None, None, "id"),
    _c("eval_data_revision", _H, "text", "its commit or hash", "", None, None, "null"),
    _c("eval_tokens", _H, "int", "tokens of the held-out slice; null where not recorded", "tokens", 1, 1e13, "null"),
    _c("eval_bytes", _H, "int", "bytes of that slice, for nats per byte", "bytes", 1, 1e14, "null", "later"),
    _c("heldout_in_train", _H, "int", "its documents in the training text too", "documents", 0, 1e12, "null", "later"),
    _c("vocab_size", _H, "int", "size of the tokenizer's vocabulary", "tokens", 2, 1e8),
    _c("l0", _H, "float", "held-out loss before pruning", "nats/token", 0, 1e3),
    _c("l_pruned", _H, "float", "held-out loss after pruning, before training", "nats/token", 0, 1e3),
    _c("tokens", _K, "int", "trained so far, padding excluded", "tokens", 0, 1e16),
    _c("loss", _K, "float", "held-out loss", "nats/token", 0, 1e3),
    _c("train_loss", _K, "float", "mean training loss since the last row", "nats/token", 0, 1e3, "null"),
    _c("lr", _K, "float", "learning rate at this row", "", 0, 1, "null"),
    _c("wall_s", _K, "float", "training time so far", "s", 0, 1e10, "null"),
    _c("provenance", _P, "text", "null for a run of p2zoo, imported for one read from another log", "", *_LATER),
    _c("import_sha256", _P, "text", "hash of an imported curve, which its few facts do not tell apart", "", *_LATER),
    _c("trainable_params", _T, "int", "parameters trained where not all were", "parameters", 1, 1e14, *_LATER[2:]),
    _c("pruned_from", _R, "text", "the model pruned elsewhere that was taken as it is, and its hash", "", *_LATER),
    _c("base_run", _P, "text", "run_id of the run that pruned the base before: staged pruning", "", None, None, *_NEW),
    _c("tokenizer_sha256", _H, "text", "hash of the token ids of the yardstick", "", None, None, *_NEW),
    _c("yardstick_l0", _H, "float", "loss on the yardstick before pruning", "nats/byte", 0, 1e3, *_NEW),
    _c("yardstick_l_pruned", _H, "float", "the same after pruning, before training", "nats/byte", 0, 1e3, *_NEW),
    _c("yardstick_loss", _K, "float", "loss on the yardstick, which all runs measure", "nats/byte", 0, 1e3, *_NEW),
    _c("extends", _P, "text", "run_id of the shorter run that this one goes on from, and replaces", "", *_LATER),
    _c("trunk", _P, "text", "run_id of the run at a constant rate whose rows a decay branch begins with", "", *_LATER),
)
# fmt: on
BY_NAME = {c.name: c for c in COLUMNS}
IMPORTED = "imported"  # the only provenance that is named
UNKNOWN = "unknown"  # how a frame calls a base, family or objective that an imported log does not name
REQUIRED_OF_IMPORTED = (
    "schema_version", "run_id", "provenance", "created_at", "method", "rate", "n0", "n_pruned", "eval_data", "tokens",
    "loss",
)  # fmt: skip
STEADY = "constant"  # how the names of schedules begin whose rows midway are those of runs that ended there
AT_THE_END = 0.99  # of the planned tokens, from where a rate that decays has come to rest
GROUP = ("family", "method", "eval_data", "objective")  # losses of different groups share no fit
VOLATILE = ("created_at", "tokens_per_second", "mfu", "wall_s")  # may differ between a run and its resumed twin


@cache
def schema(provenance: str | None = None) -> pa.Schema:
    """The arrow schema of a log of that provenance. Text is plain string here and dictionary-encoded on disk."""
    null = [c.may_be_null if provenance == IMPORTED else c.nullable for c in COLUMNS]
    return pa.schema([pa.field(c.name, _ARROW[c.kind], may) for c, may in zip(COLUMNS, null, strict=True)])


def run_id(run: Mapping[str, Any]) -> str:
    """First 16 hex digits of the sha256 over the canonical JSON of the columns that define a run.

    Values count as their column's type: a rate of 1 and a rate of 1.0 are one experiment.
    """
    columns = [c for c in COLUMNS if c.defines_run and not (c.later and run.get(c.name) is None)]
    defining = {c.name: _exact(c, run.get(c.name)) for c in columns}
    return hashlib.sha256(canonical_json(defining)).hexdigest()[:16]


def _exact(column: Column, value: Any) -> Any:
    return None if value is None else _PYTHON[column.kind](value)


def canonical_json(data: Mapping[str, Any]) -> bytes:
    """JSON with sorted keys and no spaces: one object, one byte string."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def build_table(run: Mapping[str, Any], curve: Iterable[Mapping[str, Any]]) -> pa.Table:
    """A log table from run-level values and curve rows; `schema_version` and `run_id` are filled in."""
    run = {"schema_version": SCHEMA_VERSION, **run, "run_id": run_id(run)}
    rows = [{**run, **point} for point in curve]
    columns = schema(run.get("provenance"))
    return pa.Table.from_pylist([{c.name: row.get(c.name) for c in COLUMNS} for row in rows], schema=columns)


def write_log(path: str | os.PathLike[str], table: pa.Table) -> Path:
    """Write a log so that a reader sees the whole file or none of it."""
    with whole_file(path) as temporary:
        pq.write_table(table, temporary, store_schema=False, compression="snappy")  # zstd costs readers twice the time
    return Path(path)


def usable(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows that enter fits and metrics: tokens > warmup_tokens (absent or null = 0) and something was pruned.

    Of a learning rate that decays only the end counts: a row on the way is not where a run of that budget would end.
    """
    warmup = np.nan_to_num(frame["warmup_tokens"].to_numpy(dtype=float)) if "warmup_tokens" in frame else 0
    keep = frame["tokens"].to_numpy() > warmup
    if "method" in frame:
        keep &= frame["method"].astype(str).to_numpy() != "none"
    if "schedule" in frame and (moving := ~is_steady(frame["schedule"])).any():
        planned = frame["tokens_planned"].to_numpy(dtype=float) if "tokens_planned" in frame else np.nan
        keep &= ~moving | (frame["tokens"].to_numpy() >= AT_THE_END * planned)
    return frame[keep]


def is_steady(schedule: pd.Series) -> NDArray[np.bool_]:
    """Whether each learning rate stays at its peak, shape (n,); one that is not known counts as if it did."""
    names = schedule.astype("category").cat
    steady = names.categories.astype(str).str.startswith(STEADY)
    return np.append(steady, True)[names.codes.to_numpy()]  # the code of null is -1


def nats_per_byte(frame: pd.DataFrame) -> pd.Series:
    """The held-out loss of every row in nats per byte, which compares across tokenizers; NaN where the log does not
    know the bytes of its held-out slice."""
    known = [frame[c].astype(float) if c in frame else np.nan for c in ("eval_tokens", "eval_bytes")]
    return frame["loss"].astype(float) * known[0] / known[1]


def curve_numbers(frame: pd.DataFrame) -> NDArray[np.int64]:
    """Which curve each row belongs to, shape (n,): a run measured by two contributors is two; no run_id means one."""
    if "curve" in frame:  # numbered before
        return np.asarray(pd.factorize(frame["curve"])[0], dtype=np.int64)
    if "run_id" not in frame:
        return np.zeros(len(frame), dtype=np.int64)
    columns = [c for c in ("run_id", "contributor") if c in frame]
    number = frame.groupby(columns, observed=True, sort=False, dropna=False).ngroup()
    return np.asarray(number, dtype=np.int64)


def require(frame: pd.DataFrame, columns: Iterable[str], where: str) -> None:
    """Raise P2Error naming the columns that `frame` lacks."""
    if missing := [c for c in columns if c not in frame]:
        fix = "load_logs() gives frames that have every column of a run log."
        raise P2Error(
            f"{where}: needs the column{'s' * (len(missing) > 1)} {', '.join(missing)}; got {list(frame)}. {fix}"
        )
