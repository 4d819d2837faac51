"""`kill -9` in the middle of a stream of commits: what was acknowledged is there, and nothing is there by half."""

import contextlib
import hashlib
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import httpx2  # the transport of huggingface_hub
import pytest
from huggingface_hub import CommitOperationAdd, HfApi

from leaderboard.errors import P2Error
from leaderboard.logs.hub_errors import closed_meanwhile
from zoo.devhub import serve

KIND = {"repo_type": "dataset"}
USERS = {"owner": "hf_owner_token", "ann": "hf_ann_token"}
REPO = "owner/logs"
AS_PULL = {"create_pr": True}
ENDS = ("txt", "parquet")  # of the two files of a commit


@contextlib.contextmanager
def server_process(folder: Path, port: int) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command line's server, and its URL; killed at the end of the block."""
    env = os.environ | {"P2ZOO_HUB_USERS": " ".join(f"{name}:{token}" for name, token in USERS.items())}
    command = [sys.executable, "-m", "zoo", "hub", "serve", str(folder), "--port", str(port)]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            url = next(found[1] for line in process.stdout if (found := re.search(r"HF_ENDPOINT=(\S+)", line)))
            yield process, url
        finally:
            process.kill()


def pair(name: str) -> dict[str, bytes]:
    """The two files that belong to one commit: a regular and an LFS one."""
    return {f"{name}.txt": name.encode(), f"{name}.parquet": hashlib.sha256(name.encode()).digest() * 500}


def commit_on_and_on(url: str, user: str, stop: threading.Event, done: list[tuple[str, str]], **options) -> None:
    """Commit pair after pair; `done` collects (name, commit id) of those that were acknowledged."""
    api = HfApi(endpoint=url, token=USERS[user])
    while not stop.is_set():
        name = f"{user}-{time.time_ns()}"
        operations = [CommitOperationAdd(path, data) for path, data in pair(name).items()]
        try:
            info = api.create_commit(REPO, operations, commit_message=name, **KIND, **options)
        except Exception as error:
            if not _was_cut_off(error):
                raise
        else:
            done.append((name, info.oid))


def _was_cut_off(error: BaseException | None) -> bool:
    """Whether the server went away, and not that it refused; the other writer may have closed the client of both."""
    while error is not None and not isinstance(error, httpx2.TransportError) and not closed_meanwhile(error):
        error = error.__cause__ or error.__context__
    return error is not None


def check_whole(api: HfApi, revision: str, cache: Path) -> set[str]:
    """The names whose pairs lie at a revision, after checking that no pair is there by half and every byte fits."""
    folder = Path(api.snapshot_download(REPO, revision=revision, cache_dir=cache, **KIND))
    found = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".gitattributes"}
    names = {name.rsplit(".", 1)[0] for name in found}
    assert found == {path: data for name in names for path, data in pair(name).items()}
    return names


@pytest.mark.parametrize("kills", [2, pytest.param(6, marks=pytest.mark.slow)])
def test_kill_9_loses_no_acknowledged_commit_and_leaves_no_half_one(request, tmp_path: Path, kills: int):
    on_main: list[tuple[str, str]] = []
    as_pulls: list[tuple[str, str]] = []
    stop, writers, port = threading.Event(), [], 0
    request.addfinalizer(stop.set)
    for life in range(kills + 1):
        with server_process(tmp_path / "hub", port) as (process, url):
            if life == 0:
                port = int(url.rsplit(":", 1)[1])
                HfApi(endpoint=url, token=USERS["owner"]).create_repo(REPO, **KIND)
                writers = [
                    threading.Thread(target=commit_on_and_on, args=(url, "owner", stop, on_main)),
                    threading.Thread(target=commit_on_and_on, args=(url, "ann", stop, as_pulls), kwargs=AS_PULL),
                ]
                for writer in writers:
                    writer.start()
            wanted = len(on_main) + len(as_pulls) + 9 + 4 * life
            while len(on_main) + len(as_pulls) < wanted:
                assert all(writer.is_alive() for writer in writers)
                time.sleep(0.003)
            if life == kills:
                stop.set()
                for writer in writers:
                    writer.join(60)
            process.kill()

    with serve(tmp_path / "hub", USERS) as url:
        api = HfApi(endpoint=url, token=USERS["owner"])
        history = {commit.commit_id for commit in api.list_repo_commits(REPO, **KIND)}
        assert {oid for _, oid in on_main} <= history
        assert {name for name, _ in on_main} <= check_whole(api, "main", tmp_path / "cache")
        pulls = {one.title: one for one in api.get_repo_discussions(REPO, **KIND)}
        assert {name for name, _ in as_pulls} <= set(pulls)
        for name, pull in pulls.items():
            paths = set(api.list_repo_files(REPO, revision=pull.git_reference, **KIND)) - {".gitattributes"}
            assert set(pair(name)) <= paths == {f"{path.rsplit('.', 1)[0]}.{end}" for path in paths for end in ENDS}
        for path in (tmp_path / "hub/objects").iterdir():
            assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name


def test_state_survives_a_restart(tmp_path: Path):
    with serve(tmp_path, USERS) as url:
        api = HfApi(endpoint=url, token=USERS["owner"])
        api.create_repo("owner/model", private=True)
        oid = api.upload_file(path_or_fileobj=b"x", path_in_repo="x", repo_id="owner/model").oid
        api.create_tag("owner/model", tag="v1")
        api.create_discussion("owner/model", "Hello")
    with serve(tmp_path, USERS) as url:
        api = HfApi(endpoint=url, token=USERS["owner"])
        assert api.model_info("owner/model", revision="v1").sha == oid
        assert [one.title for one in api.get_repo_discussions("owner/model")] == ["Hello"]


def test_a_folder_has_one_server(tmp_path: Path):
    with serve(tmp_path, USERS), pytest.raises(P2Error, match="another server"), serve(tmp_path, USERS):
        pass


def test_an_upload_cut_in_the_middle_leaves_nothing(tmp_path: Path):
    with serve(tmp_path, USERS) as url:
        api = HfApi(endpoint=url, token=USERS["owner"])
        api.create_repo(REPO, **KIND)
        data = b"PAR1" * 100_000
        batch = {"objects": [{"oid": hashlib.sha256(data).hexdigest(), "size": len(data)}]}
        headers = {"Authorization": f"Bearer {USERS['owner']}"}
        answer = httpx.post(f"{url}/datasets/{REPO}.git/info/lfs/objects/batch", json=batch, headers=headers)
        href = answer.json()["objects"][0]["actions"]["upload"]["href"]

        def half() -> Iterator[bytes]:
            yield data[: len(data) // 2]
            raise InterruptedError

        with pytest.raises(InterruptedError):
            httpx.put(href, content=half(), headers={"Content-Length": str(len(data))})
    objects = sorted((tmp_path / "objects").iterdir())
    assert [path.stat().st_size < 2_000 for path in objects] == [True]  # only .gitattributes
