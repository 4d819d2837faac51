"""The contract itself: columns, the run_id, whole files or none."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from leaderboard.logs.check import check_files
from leaderboard.logs.contract import BY_NAME, COLUMNS, build_table, curve_numbers, run_id, schema, usable, write_log

DEFINING = {
    "base_model", "base_revision", "method", "importance", "rate_requested", "calibration_sha256", "objective",
    "train_data", "packing", "seq_len", "batch_tokens", "optimizer", "schedule", "lr_peak", "warmup_tokens",
    "tokens_planned", "precision", "seed", "eval_data", "base_tokens", "provenance", "import_sha256",
    "trainable_params", "extends", "pruned_from", "trunk",
}  # fmt: skip
NULLABLE = {
    "base_revision", "model_repo", "model_revision", "recipe_sha256", "calibration_sha256", "train_data_revision",
    "eval_data_revision", "rate_requested", "train_loss", "lr", "wall_s", "tokens_per_second", "mfu", "software",
    "pruned_from", "base_run",
    "hardware", "eval_tokens", "base_tokens", "eval_bytes", "heldout_in_train", "provenance", "import_sha256",
    "trainable_params", "tokenizer_sha256", "yardstick_l0", "yardstick_l_pruned", "yardstick_loss", "extends", "trunk",
}  # fmt: skip
ARROW = {"int": "int64", "float": "double", "text": "string", "time": "timestamp[us, tz=UTC]"}


@pytest.mark.parametrize("column", COLUMNS, ids=lambda c: c.name)
def test_every_column_says_what_it_is(column):
    assert column.meaning
    assert str(schema().field(column.name).type) == ARROW[column.kind]
    assert schema().field(column.name).nullable == column.nullable == (column.name in NULLABLE)
    assert column.defines_run == (column.name in DEFINING)
    assert column.unit or column.kind in ("text", "time") or column.name in ("schema_version", "lr_peak", "seed", "lr")


def test_the_run_id_of_one_run_is_frozen(run_columns):
    assert run_id(run_columns) == "9b91a911e167c7d0"


def test_a_later_column_enters_the_run_id_only_where_it_is_not_null(run_columns):
    assert run_id(run_columns | {"base_tokens": None}) == run_id(run_columns)
    assert run_id(run_columns | {"base_tokens": 60_000_000}) != run_id(run_columns)
    assert run_id(run_columns | {"eval_bytes": 70_000}) == run_id(run_columns)  # eval_data says which text


@pytest.mark.parametrize("name", sorted(DEFINING))
def test_the_run_id_follows_every_column_that_defines_the_run(name, run_columns):
    other = {"int": 7, "float": 0.125, "text": "another"}[BY_NAME[name].kind]
    assert run_columns.get(name) != other
    assert run_id(run_columns | {name: other}) != run_id(run_columns)


@pytest.mark.parametrize("name", ["contributor", "model_repo", "hardware", "rate", "l0", "created_at", "mfu"])
def test_the_run_id_ignores_what_does_not_define_the_run(name, run_columns):
    assert run_id(run_columns | {name: None}) == run_id(run_columns)


def test_the_run_id_does_not_depend_on_how_a_number_was_written(run_columns):
    as_written = run_columns | {"rate_requested": 1, "seed": np.int64(3), "lr_peak": np.float64(1)}
    as_read = run_columns | {"rate_requested": 1.0, "seed": 3, "lr_peak": 1.0}
    assert run_id(as_written) == run_id(as_read)


def test_a_table_has_the_contracts_columns_and_its_own_id(log_table, run_columns):
    table = log_table()
    assert table.schema == schema()
    assert set(table["run_id"].to_pylist()) == {run_id(run_columns)}
    assert set(table["schema_version"].to_pylist()) == {1}
    assert table["tokens"].to_pylist()[:3] == [0, 2048, 4096]


def test_text_is_dictionary_encoded_on_disk(log_file):
    group = pq.ParquetFile(log_file("a.parquet")).metadata.row_group(0)
    encodings = {group.column(i).path_in_schema: group.column(i).encodings for i in range(group.num_columns)}
    assert all("RLE_DICTIONARY" in encodings[c.name] for c in COLUMNS if c.kind == "text")


def test_a_failed_write_leaves_what_was_there(tmp_path: Path, log_table, run_columns):
    path = write_log(tmp_path / "deep" / "log.parquet", log_table())
    before = path.read_bytes()
    broken = build_table({k: v for k, v in run_columns.items() if k != "base_model"}, [{"tokens": 0, "loss": 1.0}])
    with pytest.raises(ValueError, match="base_model"):
        write_log(path, broken)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["log.parquet"]


def test_usable_rows_are_trained_past_the_warmup_and_pruned():
    frame = pd.DataFrame({"tokens": [0, 5, 6, 9], "warmup_tokens": 5, "method": ["depth", "depth", "depth", "none"]})
    assert usable(frame)["tokens"].tolist() == [6]
    assert usable(frame.drop(columns="warmup_tokens"))["tokens"].tolist() == [5, 6]
    assert usable(frame[["tokens"]])["tokens"].tolist() == [5, 6, 9]
    assert usable(frame.astype({"method": "category"}))["tokens"].tolist() == [6]


def test_one_run_of_two_contributors_is_two_curves():
    frame = pd.DataFrame({"run_id": list("aabb"), "contributor": ["x", "y", "x", "x"]}).astype("category")
    assert curve_numbers(frame).tolist() == [0, 1, 2, 2]
    assert curve_numbers(frame[["run_id"]]).tolist() == [0, 0, 1, 1]
    assert curve_numbers(frame[["contributor"]]).tolist() == [0, 0, 0, 0]


LATER = [c.name for c in COLUMNS if c.later]


def test_a_log_from_before_a_column_came_reads_as_null(tmp_path, log_table):
    pq.write_table(log_table().drop_columns(LATER), tmp_path / "a.parquet")
    pq.write_table(log_table(seed=1, base_tokens=60_000_000, eval_bytes=70_000, l_pruned=3.6), tmp_path / "b.parquet")
    old, new = (tmp_path / name for name in ("a.parquet", "b.parquet"))
    checked = check_files([old, new])
    assert [r.findings for r in checked.reports] == [(), ()]
    assert list(checked.frame.columns) == [*schema().names, "file"]
    assert checked.frame.loc[checked.frame["file"] == 0, LATER].isna().all(axis=None)
    assert set(checked.frame["base_tokens"].dropna()) == {60_000_000}
    assert set(checked.frame["eval_bytes"].dropna()) == {70_000}
