"""Reading logs from the seed, a file and a folder; the seed itself."""

import json
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from leaderboard import P2Error, load_logs
from leaderboard.logs.check import check_files, log_files
from leaderboard.logs.contract import COLUMNS, build_table, write_log
from leaderboard.logs.frame import data_hash
from leaderboard.logs.load import MANY, SEED, join_logs
from leaderboard.seed import convert

LATER = [c.name for c in COLUMNS if c.later]


def test_a_file_a_run_folder_and_a_folder_of_runs_read_alike(tmp_path, log_file):
    path = log_file("depth/log.parquet")
    (tmp_path / "depth" / "recipe.yaml").write_text("name: depth\n")
    (tmp_path / "depth" / ".log.parquet.tmp-1.parquet").write_bytes(b"half")
    frames = [load_logs(source).frame for source in (path, str(tmp_path / "depth"), tmp_path)]
    for frame in frames:
        pd.testing.assert_frame_equal(frame, frames[0])
    assert list(frames[0]) == [c.name for c in COLUMNS]
    assert log_files(tmp_path) == [path]


def test_a_run_that_two_sources_hold_counts_once(tmp_path, log_file):
    def lift(rows):
        for row in rows[1:]:
            row["loss"] += 0.01

    log_file("one/a.parquet")
    log_file("two/a.parquet")
    log_file("two/b.parquet", lift, seed=1)
    frame, repeats = join_logs([load_logs(tmp_path / name) for name in ("one", "two")])
    assert len(frame) == 26
    assert list(frame) == [c.name for c in COLUMNS]
    assert [(str(tmp_path / "two") in r.path, r.findings[0].code) for r in repeats] == [(True, "duplicate")]


def test_a_bad_file_is_left_out_and_shown(tmp_path, log_file):
    log_file("good.parquet")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1")
    logs = load_logs(tmp_path)
    assert logs.frame["run_id"].nunique() == 1
    assert [(r.path, r.findings[0].code) for r in logs.quarantined] == [("bad.parquet", "unreadable")]


def test_only_bad_files_give_an_empty_frame(tmp_path):
    (tmp_path / "bad.parquet").write_bytes(b"PAR1")
    logs = load_logs(tmp_path)
    assert len(logs.frame) == 0
    assert logs.date is None
    assert len(logs.quarantined) == 1


def test_the_revision_follows_the_rows_and_not_their_files(tmp_path, log_file):
    log_file("x/a.parquet")
    lift = lambda rows: [row.update(loss=row["loss"] + 0.01) for row in rows[1:]]  # noqa: E731
    log_file("x/b.parquet", lift, contributor="bob")
    log_file("y/2.parquet")
    log_file("y/1.parquet", lift, contributor="bob")
    one, other = load_logs(tmp_path / "x"), load_logs(tmp_path / "y")
    assert one.revision == other.revision == data_hash(one.frame.sample(frac=1, random_state=0))
    assert len(one.revision) == 12
    assert data_hash(one.frame.assign(loss=one.frame["loss"] + 1e-9)) != one.revision
    assert data_hash(one.frame.assign(l0=one.frame["l0"] + 1e-9)) != one.revision
    assert one.dataset is None
    assert one.date.isoformat() == "2026-01-02T03:04:05+00:00"


def test_nothing_to_read_is_said(tmp_path):
    with pytest.raises(P2Error, match="no parquet files"):
        load_logs(tmp_path)
    with pytest.raises(P2Error, match="neither an existing path nor a Hub dataset"):
        load_logs("not/a/dataset/id")
    with pytest.raises(P2Error, match="a revision belongs to a Hub dataset"):
        load_logs(tmp_path, revision="main")


def test_the_seed_is_37_clean_runs():
    logs = load_logs()
    assert logs.frame["run_id"].nunique() == 37
    assert logs.quarantined == ()
    assert logs.source == "bundled seed"
    assert all(r.findings == () for r in check_files(log_files(SEED)).reports)
    assert set(logs.frame["family"]) == {"llama-3", "qwen-2.5"}
    assert set(logs.frame["method"]) == {"depth", "width", "2:4", "none"}
    assert set(logs.frame["warmup_tokens"]) == {327_680}
    assert (logs.frame.loc[logs.frame["method"] == "none", "rate"] == 0).all()
    assert {p.stem for p in log_files(SEED)} == set(logs.frame["run_id"])


def test_the_converter_makes_the_seed_from_the_record():
    lines = (Path(convert.__file__).parent / "lab-runs.jsonl").read_text(encoding="utf-8").splitlines()
    runs = [record for record in map(json.loads, lines) if record["kind"] == "run"]
    assert len(runs) == 37
    for record in runs:
        table = build_table(convert.run_columns(record), convert.curve_columns(record))
        assert all(table[name].null_count == len(table) for name in LATER)  # so the shipped files stay as they are
        table = table.drop_columns(LATER)
        shipped = pq.read_table(SEED / "p2lab" / f"{table['run_id'][0]}.parquet").cast(table.schema)
        assert shipped.equals(table)
        assert shipped["loss"].to_pylist() == [loss for _, loss, _ in record["curve"]]
        assert shipped["n_pruned"][0].as_py() == record["n_after"]


def test_load_dataset_reads_logs_with_and_without_later_columns(tmp_path, log_file):
    """With the features that the card of a log data set pins."""
    datasets = pytest.importorskip("datasets", reason="in the extra [train]")
    kinds = {"int": "int64", "float": "float64", "text": "string", "time": "timestamp[us, tz=UTC]"}
    features = datasets.Features({c.name: datasets.Value(kinds[c.kind]) for c in COLUMNS})
    new = log_file("new.parquet", base_tokens=60_000_000, eval_bytes=70_000)
    files = [*map(str, log_files(SEED)[:2]), str(new)]
    rows = datasets.load_dataset(
        "parquet", data_files=files, split="train", features=features, cache_dir=str(tmp_path / "cache")
    )
    assert rows.num_rows == sum(pq.read_metadata(f).num_rows for f in files)
    assert rows.features == features
    assert (rows[0]["tokens"], rows[0]["base_tokens"], rows[-1]["base_tokens"]) == (0, None, 60_000_000)


def test_many_files_are_read_once_and_kept_until_one_changes(tmp_path, log_file, log_table, monkeypatch):
    monkeypatch.setenv("P2ZOO_CACHE", str(tmp_path / "cache"))
    path = log_file("logs/good.parquet")
    for i in range(MANY):
        (tmp_path / "logs" / f"bad-{i}.parquet").write_bytes(b"PAR1")
    first, again = load_logs(tmp_path / "logs"), load_logs(tmp_path / "logs")
    assert len(list((tmp_path / "cache").rglob("*.parquet"))) == 1
    pd.testing.assert_frame_equal(again.frame, first.frame)
    assert (again.quarantined, again.revision, again.date) == (first.quarantined, first.revision, first.date)
    assert len(first.quarantined) == MANY
    write_log(path, log_table(seed=9))
    assert load_logs(tmp_path / "logs").frame["seed"].unique().tolist() == [9]
