"""What is served stays up while it is renewed: from a folder, and from a Hub where a pull request is merged."""

import os
import shutil
import sys
import threading
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from huggingface_hub import CommitOperationAdd, HfApi

from leaderboard import load_logs
from leaderboard.logs.load import SEED
from leaderboard.serving.board import Board
from space.parts.run import told
from space.server.store import Store
from tests.commands import until
from tests.space.child import free_port, healthy
from zoo.devhub import client_env, serve
from zoo.devhub.webhook import Webhook

USERS = {"owner": "hf_owner_token", "ann": "hf_ann_token"}
LOGS = "owner/logs"
SECRET = "s3cret"
ASK = {"family": "llama-3", "method": "depth", "rate": 0.25, "n0": 34e6, "l0": 2.72, "excess": 0.05}


@pytest.fixture(scope="module")
def runs() -> list[Path]:
    """Four logs of one group: quick to fit."""
    frame = load_logs().frame
    own = frame[(frame["family"] == "llama-3") & (frame["method"] == "depth")]
    return [SEED / "p2lab" / f"{run}.parquet" for run in own["run_id"].unique()[:4]]


def test_a_new_run_is_served_and_a_broken_source_changes_nothing(runs, tmp_path):
    for run in runs[:-1]:
        shutil.copy(run, tmp_path)
    store = Store.open(str(tmp_path))
    assert store.refresh() is False
    before = store.board
    shutil.copy(runs[-1], tmp_path)
    assert store.refresh() is True
    assert (len(before.runs), len(store.board.runs)) == (len(runs) - 1, len(runs))
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    fits, ranking = store.board.fits("p2"), store.board.ranking
    assert store.refresh() is True
    assert [r.path for r in store.board.logs.quarantined] == ["broken.parquet"]
    assert store.board.fits("p2") is fits  # what the rows say stays
    assert store.board.ranking is ranking
    assert store.refresh() is False
    served = store.board
    shutil.rmtree(tmp_path)
    assert store.refresh() is False
    assert store.board is served
    assert str(tmp_path) in store.problem


def test_a_run_is_linked_at_the_commit_that_is_served_and_a_folder_has_no_links(runs, tmp_path):
    shutil.copy(runs[0], tmp_path)
    files = load_logs(tmp_path)
    run = runs[0].stem
    assert "discussions" not in told(Board(replace(files, source="some/folder")), run)
    served = Board(replace(files, dataset=LOGS, revision="c" * 40))
    assert f"datasets/{LOGS}/blob/{'c' * 40}/runs/p2lab/{run}.parquet" in told(served, run)


def test_a_source_out_of_reach_at_the_start_gives_the_mounted_copy_or_the_seed(runs, tmp_path, monkeypatch):
    monkeypatch.setenv("P2ZOO_OFFLINE", "1")
    monkeypatch.setenv("P2ZOO_CACHE", str(tmp_path / "cache"))
    store = Store.open(LOGS)
    assert len(store.board.runs) == 37
    assert "These are the runs bundled with p2zoo" in store.board.logs.note
    assert "offline, as asked" in store.problem
    (tmp_path / "mounted").mkdir()
    shutil.copy(runs[0], tmp_path / "mounted")
    mounted = Store.open(LOGS, mounted=str(tmp_path / "mounted"))
    assert (len(mounted.board.runs), mounted.board.logs.source) == (1, str(tmp_path / "mounted"))
    assert "This is the copy mounted here" in mounted.board.logs.note


def test_a_source_that_says_nothing_is_not_served(tmp_path):
    frame = load_logs().frame
    (control,) = frame.loc[frame["method"] == "none", "run_id"].unique()
    shutil.copy(SEED / "p2lab" / f"{control}.parquet", tmp_path)
    store = Store.open(str(tmp_path))
    assert len(store.board.runs) == 37
    assert "no run here can be fitted" in store.problem
    assert not store.refresh()
    assert len(store.board.runs) == 37


def test_many_calls_while_it_reads_are_one_more_reading(runs, tmp_path):
    """Each reading takes a while, as a real one does: what is asked meanwhile is read once, afterwards."""
    shutil.copy(runs[0], tmp_path)
    readings: list[int] = []
    first, go_on = threading.Event(), threading.Event()

    class Counted(Store):
        def refresh(self) -> bool:
            readings.append(1)
            first.set()
            return go_on.wait(10)

    store = Counted.open(str(tmp_path))
    store.keep_fresh(3600)
    store.ask()
    assert first.wait(10)
    for _ in range(20):
        store.ask()
    go_on.set()
    until(lambda: len(readings) == 2, 10)
    store.close()
    assert len(readings) == 2


@pytest.mark.slow
def test_a_merged_pull_request_appears_while_clients_keep_asking(runs, tmp_path):
    port = free_port()
    hook = Webhook(f"http://127.0.0.1:{port}/webhook", SECRET)
    command = [sys.executable, "-m", "space", "--logs", LOGS, "--port", str(port), "--refresh", "3600"]
    with serve(tmp_path / "hub", USERS, hook) as hub_url:
        owner, ann = (HfApi(endpoint=hub_url, token=USERS[name]) for name in ("owner", "ann"))
        owner.create_repo(LOGS, repo_type="dataset")
        old = [CommitOperationAdd(f"runs/p2lab/{run.name}", run) for run in runs[:-1]]
        owner.create_commit(LOGS, old, commit_message="Start", repo_type="dataset")
        env = os.environ | client_env(hub_url, USERS["owner"]) | {"P2ZOO_WEBHOOK_SECRET": SECRET}
        env |= {"P2ZOO_CACHE": str(tmp_path / "cache"), "HF_HOME": str(tmp_path / "home")}
        with healthy(command, port, cwd=Path.cwd(), env=env) as url, httpx.Client(base_url=url, timeout=60) as http:

            def health() -> dict:
                return http.get("/healthz").json()

            def events(secret: str) -> int:
                body = {
                    "event": {"action": "update", "scope": "repo.content"},
                    "repo": {"type": "dataset", "name": LOGS},
                }
                return http.post("/webhook", json=body, headers={"X-Webhook-Secret": secret}).status_code

            assert health()["runs"] == len(runs) - 1
            with asking(url) as answers:
                new = [CommitOperationAdd(f"runs/ann/{runs[-1].name}", runs[-1])]
                pull = ann.create_commit(LOGS, new, commit_message="Add a run", repo_type="dataset", create_pr=True)
                owner.merge_pull_request(LOGS, pull.pr_num, repo_type="dataset")
                until(lambda: health()["runs"] == len(runs))
                assert health()["revision"] == owner.dataset_info(LOGS).sha
            assert len(answers) > 10
            assert set(answers) == {200}
            assert runs[-1].stem in http.get("/download/runs.csv").text
            assert (events("wrong"), events(SECRET)) == (403, 202)
            served = health()["revision"]
            owner.delete_repo(LOGS, repo_type="dataset")
            events(SECRET)
            until(lambda: health()["problem"])
            assert (health()["revision"], health()["runs"]) == (served, len(runs))


class asking:  # noqa: N801 - reads as a phrase
    """Clients that keep asking while the block runs; as a value, the list of their status codes."""

    def __init__(self, url: str):
        self.url, self.codes, self.done = url, [], threading.Event()
        self.threads = [threading.Thread(target=self._ask, args=(way,)) for way in (self._table, self._budget)]

    def __enter__(self) -> list[int]:
        for thread in self.threads:
            thread.start()
        return self.codes

    def __exit__(self, *_: object) -> None:
        self.done.set()
        for thread in self.threads:
            thread.join(60)

    def _ask(self, way) -> None:
        with httpx.Client(base_url=self.url, timeout=60) as http:
            while not self.done.wait(0.2):  # two cores also fit the new state
                self.codes.append(way(http))

    @staticmethod
    def _table(http: httpx.Client) -> int:
        return http.get("/download/runs.csv").status_code

    @staticmethod
    def _budget(http: httpx.Client) -> int:
        begun = http.post("/gradio_api/call/v2/budget", json=ASK)
        answer = http.get(f"/gradio_api/call/budget/{begun.json()['event_id']}")
        return answer.status_code if "event: complete" in answer.text else 500
