"""Strangers' files are read in a child: whatever one does is a finding, and the files beside it are read."""

import os
import shutil
import signal
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe
import pytest

from leaderboard import apart
from leaderboard.logs.check import check_files
from leaderboard.logs.load import SEED

HERE = "tests.leaderboard.logs.test_apart"


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory):
    """A whole log with one encrypted column, which pyarrow 24 answers by ending the process in C++."""

    class Keys(pe.KmsClient):
        def __init__(self, config):
            super().__init__()

        def wrap_key(self, key, master):
            return key.hex()

        def unwrap_key(self, wrapped, master):
            return bytes.fromhex(wrapped)

    path = tmp_path_factory.mktemp("encrypted") / "log.parquet"
    settings = pe.EncryptionConfiguration(footer_key="f", column_keys={"c": ["eval_data"]}, plaintext_footer=True)
    properties = pe.CryptoFactory(Keys).file_encryption_properties(pe.KmsConnectionConfig(), settings)
    table = pq.read_table(next(SEED.rglob("*.parquet")))
    with pq.ParquetWriter(path, table.schema, encryption_properties=properties) as writer:
        writer.write_table(table)
    return path


def test_a_file_that_ends_its_reader_is_a_finding_and_the_others_are_read(encrypted, tmp_path):
    seed = sorted(SEED.rglob("*.parquet"))[:3]
    files = [shutil.copy(path, tmp_path / path.name) for path in seed]
    paths = [files[0], encrypted, files[1], encrypted, files[2]]
    before = apart.deaths
    checked = check_files(paths)
    assert [report.ok for report in checked.reports] == [True, False, True, False, True]
    (finding,) = checked.reports[1].findings
    assert (finding.code, finding.got) == ("unreadable", "what ended the process that read it (SIGABRT)")
    assert apart.deaths == before + 2
    here = check_files(seed).frame  # which come with the code, and are read in this process
    assert checked.frame["file"].unique().tolist() == [0, 2, 4]
    assert checked.frame.drop(columns="file").equals(here.drop(columns="file"))


def waste(kind):
    """What a child may not do: take memory without end, or never answer; or what it may."""
    yield {"begins": True}, b"some bytes\n"
    if kind == "memory":
        np.ones(10**10)
    if kind == "silence":
        time.sleep(600)
    if kind == "leave":
        os._exit(3)
    yield {"env": sorted(os.environ)}, b""


@pytest.mark.parametrize(
    ("kind", "said"),
    [("memory", r"exit code 1"), ("silence", r"more than 1 s"), ("leave", r"exit code 3")],
)
def test_a_child_has_limits(kind, said):
    answers = apart.messages(f"{HERE}:waste", {"kind": kind}, silence_s=1 if kind == "silence" else 60)
    with pytest.raises(apart.ReaderError, match=said):
        assert [*answers] == []


def test_a_child_is_used_again_knows_no_secrets_and_ends_where_its_caller_leaves(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    first, second = apart.messages(f"{HERE}:waste", {"kind": "none"})
    assert first == ({"begins": True}, b"some bytes\n")
    assert "HF_TOKEN" not in second[0]["env"]
    (child,) = apart._waiting
    answers = apart.messages(f"{HERE}:waste", {"kind": "silence"})
    next(answers)
    answers.close()
    assert child._process.returncode == -signal.SIGKILL
    assert apart._waiting == []


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
