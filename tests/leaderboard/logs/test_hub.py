"""Logs of a Hub dataset: fresh, from what was kept, and with the Hub gone."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import HfApi

from leaderboard import P2Error, load_logs
from leaderboard.logs import upgrade
from leaderboard.logs.check import check_files, read_table
from leaderboard.logs.contract import COLUMNS, usable
from leaderboard.logs.hub import read_dataset

hub = pytest.importorskip("zoo.devhub", reason="the embedded Hub")
pytest.importorskip("fastapi", reason="in the extra [dev]")

FROZEN = Path(__file__).parents[2] / "data" / "log-v1.parquet"
DATASET = "owner/logs"
KIND = {"repo_id": DATASET, "repo_type": "dataset"}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("P2ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("P2ZOO_OFFLINE", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def runs(tmp_path, log_file) -> Path:
    """Two good logs and a broken one, as a dataset has them."""
    for seed, who in enumerate(("ada", "bob")):
        log_file(f"data/runs/{who}/{seed}.parquet", contributor=who, seed=seed, l_pruned=3.5 + seed)
    (tmp_path / "data" / "runs" / "ada" / "bad.parquet").write_bytes(b"PAR1")
    return tmp_path / "data"


def upload(api: HfApi, folder: Path) -> str:
    api.create_repo(**KIND, exist_ok=True)
    return api.upload_folder(folder_path=folder, **KIND).oid


def test_fresh_kept_and_with_the_hub_gone(tmp_path, runs, cache, monkeypatch):
    with hub.serve(tmp_path / "hub", {"owner": "hf_owner"}) as url:
        api = HfApi(endpoint=url, token="hf_owner")
        commit = upload(api, runs)
        cold, warm = read_dataset(DATASET, api=api), read_dataset(DATASET, api=api)
        (runs / "runs" / "ada" / "bad.parquet").unlink()
        newer = api.delete_file("runs/ada/bad.parquet", **KIND).oid
        latest, old = read_dataset(DATASET, api=api), read_dataset(DATASET, commit, api)
        with pytest.raises(P2Error, match="is not on the Hub, or is private"):
            read_dataset("owner/other", api=api)
        with pytest.raises(P2Error, match="has no revision 'nowhere'"):
            read_dataset(DATASET, "nowhere", api)
    assert cold.frame["run_id"].nunique() == 2
    assert {cold.frame.attrs["owner"], usable(warm.frame).attrs["owner"]} == {"owner"}  # whose weight has no cap
    assert [(r.path, r.findings[0].code) for r in cold.quarantined] == [("runs/ada/bad.parquet", "unreadable")]
    assert (cold.revision, cold.source, cold.note) == (commit, DATASET, None)
    assert cold.dataset == warm.dataset == DATASET
    assert list(cold.frame) == [c.name for c in COLUMNS]
    pd.testing.assert_frame_equal(warm.frame, cold.frame)
    assert (warm.quarantined, warm.date) == (cold.quarantined, cold.date)
    assert (latest.revision, latest.quarantined) == (newer, ())
    assert old.revision == commit

    gone = read_dataset(DATASET, api=api)
    assert "cannot be reached" in gone.note
    assert f"commit {newer[:12]}" in gone.note
    pd.testing.assert_frame_equal(gone.frame, latest.frame)
    with pytest.raises(P2Error, match="was never read on this machine"):
        read_dataset(DATASET, "refs/pr/1", api)

    monkeypatch.setenv("P2ZOO_OFFLINE", "1")
    assert "offline, as asked" in read_dataset(DATASET, api=api).note
    for parsed in cache.rglob("logs/*/*.parquet"):  # judged by other code, or broken: the snapshot is judged again
        parsed.write_bytes(parsed.read_bytes()[:100])
    pd.testing.assert_frame_equal(read_dataset(DATASET, api=api).frame, latest.frame)


def test_the_frames_of_a_folder_and_of_a_dataset_are_equal(tmp_path, runs):
    with hub.serve(tmp_path / "hub", {"owner": "hf_owner"}) as url:
        api = HfApi(endpoint=url, token="hf_owner")
        upload(api, runs)
        read_dataset(DATASET, api=api)
        kept = read_dataset(DATASET, api=api).frame
    pd.testing.assert_frame_equal(kept, load_logs(runs).frame, check_dtype=False, check_categorical=False)
    assert all(kept[c.name].dtype == "category" for c in COLUMNS if c.kind == "text")


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(tmp_path, runs, cache):
    cache.mkdir()
    (cache / "logs").write_text("a file where the folder would be")
    with hub.serve(tmp_path / "hub", {"owner": "hf_owner"}) as url:
        api = HfApi(endpoint=url, token="hf_owner")
        upload(api, runs)
        assert read_dataset(DATASET, api=api).frame["run_id"].nunique() == 2


def test_a_dataset_without_runs_is_said(tmp_path):
    with hub.serve(tmp_path / "hub", {"owner": "hf_owner"}) as url:
        api = HfApi(endpoint=url, token="hf_owner")
        api.create_repo(**KIND)
        with pytest.raises(P2Error, match="no run logs at"):
            read_dataset(DATASET, api=api)


def test_the_command_line_says_that_the_hub_is_down(tmp_path, runs):
    with hub.serve(tmp_path / "hub", {"owner": "hf_owner"}) as url:
        api = HfApi(endpoint=url, token="hf_owner")
        upload(api, runs)
        read_dataset(DATASET, api=api)
    env = os.environ | hub.client_env("http://127.0.0.1:9", "hf_owner")
    command = [sys.executable, "-m", "zoo", "--endpoint", url, "fit", DATASET, "--law", "kaplan"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True, timeout=200)
    assert f"{url} cannot be reached" in done.stderr
    assert "left out: runs/ada/bad.parquet" in done.stderr
    assert "kaplan: L = " in done.stdout


def test_a_version_1_log_reads_forever():
    checked = check_files([FROZEN])
    assert checked.reports[0].findings == ()
    assert (len(checked.frame), set(checked.frame["schema_version"])) == (12, {1})
    assert checked.frame["loss"].iloc[-1] == pytest.approx(2.83, abs=0.1)


def test_an_older_version_is_upgraded_before_it_is_judged(tmp_path, monkeypatch):
    """Version 0, made up here, called `tokens` `tokens_seen`; two steps lead to version 1."""
    table = pq.read_table(FROZEN)
    zero = table.rename_columns(["tokens_seen" if n == "tokens" else n for n in table.column_names])
    version = zero.schema.names.index("schema_version")
    minus = [zero.set_column(version, "schema_version", pa.array([v] * len(zero))) for v in (0, -1)]
    for v, old in zip((0, -1), minus, strict=True):
        pq.write_table(old, tmp_path / f"{v}.parquet", store_schema=False)
        assert {f.code for f in read_table(tmp_path / f"{v}.parquet")[1]} == {"extra_column", "missing_column"}

    def to_one(old: pa.Table) -> pa.Table:
        named = old.rename_columns(["tokens" if n == "tokens_seen" else n for n in old.column_names])
        return named.set_column(version, "schema_version", pa.array([1] * len(old)))

    monkeypatch.setattr("leaderboard.logs.check.OURS", tmp_path)  # read in this process, which knows the steps
    monkeypatch.setitem(upgrade.UPGRADES, -1, lambda old: old)
    monkeypatch.setitem(upgrade.UPGRADES, 0, to_one)
    for v in (0, -1):
        checked = check_files([tmp_path / f"{v}.parquet"], own=True)
        assert checked.reports[0].findings == ()
        assert set(checked.frame["schema_version"]) == {1}
