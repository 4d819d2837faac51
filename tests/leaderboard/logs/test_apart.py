"""Strangers' files are read in a child: whatever one does is a finding, and the files beside it are read."""

import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from leaderboard.logs.apart import KEPT, few_rows
from leaderboard.logs.check import check_files
from leaderboard.logs.load import SEED
from tests.bench.bench_check import check
from tests.hostile import encrypted, long_log


def test_a_file_that_ends_its_reader_is_a_finding_and_the_others_are_read(tmp_path):
    seed = sorted(SEED.rglob("*.parquet"))[:3]
    files = [shutil.copy(path, tmp_path / path.name) for path in seed]
    bad = encrypted(tmp_path / "bad.parquet", pq.read_table(seed[0]))
    paths = [files[0], bad, files[1], bad, files[2]]
    checked = check_files(paths)
    assert [report.ok for report in checked.reports] == [True, False, True, False, True]
    (finding,) = checked.reports[1].findings
    assert (finding.code, finding.got) == ("unreadable", "it ends the program that reads it (SIGABRT)")
    here = check_files(seed).frame  # which come with the code, and are read in this process
    assert checked.frame["file"].unique().tolist() == [0, 2, 4]
    assert checked.frame.drop(columns="file").equals(here.drop(columns="file"))


def test_rows_come_in_parts_and_are_the_same(tmp_path, monkeypatch):
    table = pq.read_table(next(SEED.rglob("*.parquet")))
    for i in range(5):
        losses = pa.array(table["loss"].to_numpy() + i * 1e-3)
        one = table.set_column(table.schema.get_field_index("loss"), "loss", losses)
        run = pa.array([f"{i:012x}"] * len(table))
        pq.write_table(one.set_column(table.schema.get_field_index("run_id"), "run_id", run), tmp_path / f"{i}.parquet")
    files = sorted(tmp_path.glob("*.parquet"))
    apart_frame, reports = (whole := check_files(files)).frame, whole.reports
    monkeypatch.setattr("leaderboard.logs.check.OURS", tmp_path)
    here = check_files(files)
    assert reports == here.reports
    assert apart_frame.equals(here.frame)


def test_of_long_logs_some_rows_are_kept_which_say_the_same(tmp_path):
    whole = check_files([long_log(tmp_path / "a.parquet", 0, rows=2_000)]).frame
    shutil.copy(tmp_path / "a.parquet", tmp_path / "b.parquet")
    one, copy = (checked := check_files([tmp_path / "a.parquet", tmp_path / "b.parquet"], few=2)).reports
    assert (one.findings, [f.code for f in copy.findings]) == ((), ["duplicate"])
    assert KEPT <= len(checked.frame) <= KEPT + 6
    assert set(checked.frame["length"]) == {2_000}
    assert checked.frame["tokens"].max() == whole["tokens"].max()


def test_what_stands_out_in_a_long_log_is_kept():
    tokens, loss = np.arange(5_000) * 1024, np.linspace(3, 2, 5_000)
    loss[3_333], tokens[4_000:] = 2.9, tokens[4_000:] - 1000
    keep = few_rows(tokens, loss, np.zeros(5_000, dtype=np.int64))
    climb = [np.max(curve - np.minimum.accumulate(curve)) for curve in (loss, loss[keep])]
    assert climb[0] == climb[1]
    assert np.diff(tokens[keep]).min() == np.diff(tokens).min()


@pytest.mark.slow
def test_memory_of_a_check_does_not_grow_with_long_logs(tmp_path):
    few, many = (check("long", n, tmp_path)[0] for n in (4, 12))
    assert many < few + 100_000_000
