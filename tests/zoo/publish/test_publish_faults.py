"""A publication over a bad line ends as over a good one, whichever request fails and however.

The quick tests take every request once, refused or lost in turn; the slow one takes every fault at every request.
"""

import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from huggingface_hub import HfApi, set_client_factory
from huggingface_hub.utils import _http

from leaderboard.errors import P2Error, RunFailed
from leaderboard.logs.check import read_table
from leaderboard.logs.hub_errors import Patience
from tests.zoo.faults import LOST, Line, bad_line
from tests.zoo.publish.conftest import LOGS, USERS
from zoo.devhub import serve
from zoo.publish.diff import hashes
from zoo.publish.publish import Plan, plan, publish

REFUSED = ("500", "503", "412")
REQUESTS = 19  # that a publication makes


def no_pause(seconds: float) -> None:
    pass


@pytest.fixture(scope="module")
def line(hub_url: str) -> Iterator[Line]:
    """A line to the hub, and a client that soon gives up waiting where the line is about to be silent."""
    with bad_line(hub_url) as made, pytest.MonkeyPatch.context() as patch:

        def impatient(request: httpx2.Request) -> None:
            if made.next_is("silence"):
                request.extensions = {**request.extensions, "timeout": {"read": 0.1}}

        def client() -> httpx2.Client:
            one = _http.default_client_factory()
            one.event_hooks["request"].append(impatient)
            return one

        patch.setattr(_http, "time", types.SimpleNamespace(**{**vars(time), "sleep": no_pause}))
        set_client_factory(client)
        yield made
        set_client_factory(_http.default_client_factory)


@pytest.fixture(scope="module")
def planned(runs: Callable[..., Path]) -> Plan:
    return plan(runs(), "ann", LOGS, licence="apache-2.0")


@pytest.fixture(scope="module")
def sender(line: Line, planned: Plan, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, object]]:
    """sender(number, fault, attempts) -> the end state, on a new hub, of a publication whose request `number` fails."""
    ann = HfApi(endpoint=line.url, token=USERS["ann"])

    def send(number: int = -1, fault: str = "", attempts: int = 6) -> dict[str, object]:
        folder = tmp_path_factory.mktemp("hub")
        patience = Patience(attempts=attempts, sleep=no_pause)
        with serve(folder / "hub", USERS) as url:
            line.lead_to(url)
            owner = HfApi(endpoint=url, token=USERS["owner"])
            owner.create_repo(LOGS, repo_type="dataset")
            line.spoil(number, fault)
            try:
                publish(ann, planned, patience)
            except RunFailed:
                assert attempts == 1
                publish(ann, planned, patience)
            return end_state(owner, planned, folder / "cache")

    return send


def end_state(api: HfApi, planned: Plan, cache: Path) -> dict[str, object]:
    """All that a publication leaves, without commit ids, which hold the time."""
    info = api.model_info(planned.repo, files_metadata=True)
    commits = api.list_repo_commits(planned.repo)
    pulls = list(api.get_repo_discussions(LOGS, repo_type="dataset"))
    where: dict[str, Any] = {"repo_type": "dataset", "revision": "refs/pr/1"}
    table, _ = read_table(Path(api.hf_hub_download(LOGS, planned.log_path("ann"), cache_dir=cache, **where)))
    assert table is not None
    named = table["model_revision"][0].as_py()
    return {
        "files": hashes(info),
        "card": Path(api.hf_hub_download(planned.repo, "README.md", cache_dir=cache)).read_text(),
        "commits": [commit.title for commit in commits],
        "pulls": [(one.title, one.status, one.author) for one in pulls],
        "log files": api.list_repo_files(LOGS, **where),
        "log": table.drop_columns(["model_revision"]).to_pylist(),
        "log names": [commit.title for commit in commits if commit.commit_id == named],
    }


@pytest.fixture(scope="module")
def good(sender: Callable[..., dict[str, object]], line: Line) -> tuple[dict[str, Any], list[str]]:
    """The end state over a good line, and the requests that it took."""
    return sender(), list(line.seen)


def test_a_good_line(good, line):
    state, requests = good
    run = state["log"][0]["run_id"]
    assert state["commits"] == ["Link the log's pull request", f"Publish run {run}", "initial commit"]
    assert state["log names"] == [f"Publish run {run}"]
    assert [pull[1:] for pull in state["pulls"]] == [("open", "ann")]
    assert state["log files"] == [".gitattributes", f"runs/ann/{run}.parquet"]
    assert f"{line.url}/datasets/{LOGS}/discussions/1" in state["card"]
    assert len(requests) == REQUESTS


def judge(sender, line, good, number: int, fault: str, attempts: int) -> None:
    assert sender(number, fault, attempts) == good[0]
    assert len(line.seen) >= REQUESTS


@pytest.mark.parametrize("number", range(0, REQUESTS, 2))
def test_a_request_refused_once_is_tried_again(sender, line, good, number):
    judge(sender, line, good, number, REFUSED[number % 3], attempts=6)


@pytest.mark.parametrize("number", range(1, REQUESTS, 2))
def test_a_publication_that_was_cut_off_is_finished_by_running_it_again(sender, line, good, number):
    judge(sender, line, good, number, LOST[number % 3], attempts=1)


@pytest.mark.slow
@pytest.mark.parametrize("attempts", [1, 6])
@pytest.mark.parametrize("fault", [*REFUSED, *LOST])
@pytest.mark.parametrize("number", range(REQUESTS))
def test_every_fault_at_every_request(sender, line, good, number, fault, attempts):
    judge(sender, line, good, number, fault, attempts)


@pytest.mark.parametrize("status", ["401", "403", "404"])
def test_a_refusal_is_final_and_in_words(line, planned, hub_url, status):
    line.lead_to(hub_url)
    line.spoil(0, status)
    with pytest.raises(P2Error, match=rf"publish: signing in: .*HTTP {status}") as refused:
        publish(HfApi(endpoint=line.url, token=USERS["ann"]), planned, Patience(sleep=no_pause))
    assert len(line.seen) == 1
    assert refused.value.exit_code == 2
    assert "secret" not in str(refused.value)


def test_patience_ends_in_words_and_waits_longer_each_time(line, planned, hub_url):
    line.lead_to("http://127.0.0.1:1")
    waited: list[float] = []
    with pytest.raises(RunFailed, match=r"does not answer .*Do the same again"):
        publish(HfApi(endpoint=line.url, token=USERS["ann"]), planned, Patience(attempts=4, sleep=waited.append))
    assert len(waited) == 3
    assert all(0.5 * 2**i <= seconds <= 2**i for i, seconds in enumerate(waited))


@pytest.mark.parametrize("left", ["closed", "none"])
def test_a_client_that_another_thread_closed_is_opened_again(left):
    """What happens beside a thread whose connection was refused: huggingface_hub closes the client that all share."""
    opened: list[httpx2.Client | None] = []

    def step() -> int:
        client = httpx2.Client() if left == "closed" or opened else None
        opened.append(client)
        if len(opened) == 1:
            if client:
                client.close()
            client.request("GET", "http://127.0.0.1:1/")
        return len(opened)

    assert Patience(sleep=no_pause)("doing", step) == 2
