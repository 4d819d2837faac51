"""Uploads, commits, downloads and trees through the stock client."""

import hashlib
from pathlib import Path

import httpx
import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete, HfApi, HfFileSystem
from huggingface_hub.errors import BadRequestError, HfHubHTTPError, RemoteEntryNotFoundError, RevisionNotFoundError

KIND = {"repo_type": "dataset"}
AUTH = {"Authorization": "Bearer hf_owner_token"}


def add(api: HfApi, repo: str, files: dict[str, bytes], **options):
    operations = [CommitOperationAdd(path, data) for path, data in files.items()]
    return api.create_commit(repo, operations, commit_message="add", repo_type="dataset", **options)


def test_a_commit_holds_regular_and_lfs_files(owner: HfApi, repo: str, read):
    files = {"notes/a.txt": b"plain", "data/b.parquet": b"PAR1" * 999, "empty.bin": b"", "ünï cödé #1.txt": b"u"}
    commit = add(owner, repo, files)
    assert {path: read(repo, path) for path in files} == files
    info = {one.path: one for one in owner.get_paths_info(repo, [*files, "notes", "absent"], **KIND)}
    assert set(info) == {*files, "notes"}
    assert info["data/b.parquet"].lfs.sha256 == hashlib.sha256(files["data/b.parquet"]).hexdigest()
    assert info["data/b.parquet"].size == 3996
    assert info["notes/a.txt"].lfs is None
    assert [one.title for one in owner.list_repo_commits(repo, **KIND)] == ["add", "initial commit"]
    assert owner.dataset_info(repo).sha == commit.oid


def test_trees_by_folder_and_in_whole(owner: HfApi, repo: str):
    add(owner, repo, {"a/b/c.txt": b"1", "a/d.txt": b"2", "e.txt": b"3"})
    paths = lambda **options: [one.path for one in owner.list_repo_tree(repo, **KIND, **options)]  # noqa: E731
    assert paths() == ["a", ".gitattributes", "e.txt"]
    assert paths(path_in_repo="a") == ["a/b", "a/d.txt"]
    assert paths(path_in_repo="a/b") == ["a/b/c.txt"]
    assert paths(recursive=True) == ["a", "a/b", ".gitattributes", "a/b/c.txt", "a/d.txt", "e.txt"]
    with pytest.raises(RemoteEntryNotFoundError):
        paths(path_in_repo="nowhere")


def test_delete_copy_and_replace_in_one_commit(owner: HfApi, repo: str, read):
    add(owner, repo, {"a.txt": b"a", "b.parquet": b"b", "old/1": b"1", "old/2": b"2"})
    operations = [
        CommitOperationCopy("b.parquet", "copy.parquet"),
        CommitOperationDelete("old/"),
        CommitOperationDelete("a.txt"),
        CommitOperationAdd("b.parquet", b"new"),
    ]
    owner.create_commit(repo, operations, commit_message="reorder", **KIND)
    assert sorted(owner.list_repo_files(repo, **KIND)) == [".gitattributes", "b.parquet", "copy.parquet"]
    assert (read(repo, "b.parquet"), read(repo, "copy.parquet")) == (b"new", b"b")


def test_an_unchanged_upload_makes_no_commit(owner: HfApi, repo: str):
    files = {"a.txt": b"a", "b.parquet": b"b"}
    first, second = add(owner, repo, files), add(owner, repo, files)
    assert first.oid == second.oid
    assert len(owner.list_repo_commits(repo, **KIND)) == 2


def test_a_stale_parent_is_412(owner: HfApi, repo: str):
    head = owner.dataset_info(repo).sha
    assert head is not None
    second = add(owner, repo, {"a": b"1"}, parent_commit=head)
    with pytest.raises(HfHubHTTPError) as error:
        add(owner, repo, {"b": b"1"}, parent_commit=head)
    assert error.value.response.status_code == 412
    assert owner.dataset_info(repo).sha == second.oid


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"key": "header", "value": {"summary": "x"}}\n{"key": "file", "value": {"pa', "newline-delimited"),
        (b"", "newline-delimited"),
        (b'{"key": "file", "value": {"path": "a", "content": ""}}', "starts with a header"),
        (b'{"key": "header", "value": {"summary": "x"}}\n{"key": "gift", "value": {}}', "Unknown operation"),
        (b'{"key":"header","value":{"summary":"x"}}\n{"key":"file","value":{"path":"a","content":"%"}}', "base64"),
        (
            b'{"key":"header","value":{"summary":"x"}}\n{"key":"file","value":{"path":"../a","content":""}}',
            "Not a path",
        ),
        (b'{"key":"header","value":{"summary":"x"}}\n{"key":"lfsFile","value":{"path":"a","oid":"../x"}}', "SHA-256"),
        (
            b'{"key":"header","value":{"summary":"x"}}\n{"key":"lfsFile","value":{"path":"a","oid":"%s"}}'
            % (b"0" * 64),
            "was not uploaded",
        ),
    ],
)
def test_a_broken_commit_changes_nothing(owner: HfApi, hub_url: str, repo: str, body: bytes, message: str):
    answer = httpx.post(f"{hub_url}/api/datasets/{repo}/commit/main", content=body, headers=AUTH)
    assert (answer.status_code, message in answer.json()["error"]) == (400, True)
    assert len(owner.list_repo_commits(repo, **KIND)) == 1


def test_a_commit_whose_last_operation_fails_leaves_nothing(owner: HfApi, repo: str):
    operations = [CommitOperationAdd("a.txt", b"a"), CommitOperationDelete("absent.txt")]
    with pytest.raises(RemoteEntryNotFoundError):
        owner.create_commit(repo, operations, commit_message="half", **KIND)
    assert owner.list_repo_files(repo, **KIND) == [".gitattributes"]


def test_a_file_cannot_become_a_folder(owner: HfApi, repo: str):
    add(owner, repo, {"a": b"1"})
    with pytest.raises(BadRequestError, match="same name"):
        add(owner, repo, {"a/b": b"1"})


def test_lfs_uploads_need_a_signed_address_and_the_right_bytes(hub_url: str, repo: str):
    sha256 = hashlib.sha256(b"right").hexdigest()
    assert httpx.put(f"{hub_url}/lfs/{sha256}", content=b"right").status_code == 403
    batch = {"objects": [{"oid": sha256, "size": 5}]}
    url = f"{hub_url}/datasets/{repo}.git/info/lfs/objects/batch"
    ask = lambda: httpx.post(url, json=batch, headers=AUTH).json()["objects"][0]  # noqa: E731
    href = ask()["actions"]["upload"]["href"]
    assert httpx.put(href, content=b"wrong").status_code == 400
    assert "actions" in ask()
    assert httpx.put(href, content=b"right").status_code == 200
    assert "actions" not in ask()


def test_ranges(owner: HfApi, hub_url: str, repo: str):
    data = bytes(range(256)) * 40
    add(owner, repo, {"a.parquet": data})
    url = f"{hub_url}/datasets/{repo}/resolve/main/a.parquet"
    part = httpx.get(url, headers={"Range": "bytes=100-299"})
    assert (part.status_code, part.content) == (206, data[100:300])
    assert part.headers["Content-Range"] == "bytes 100-299/10240"
    assert httpx.get(url, headers={"Range": "bytes=-4"}).content == data[-4:]
    assert httpx.get(url, headers={"Range": "bytes=20000-"}).status_code == 416
    head = httpx.head(url)
    assert (head.headers["Content-Length"], head.headers["X-Linked-Size"], head.content) == ("10240", "10240", b"")
    with HfFileSystem(endpoint=hub_url, token=False).open(f"datasets/{repo}/a.parquet", block_size=512) as file:
        file.seek(9000)
        assert file.read(100) == data[9000:9100]


def test_snapshots_and_folders(owner: HfApi, repo: str, tmp_path: Path):
    (tmp_path / "up/deep").mkdir(parents=True)
    for index in range(12):
        (tmp_path / f"up/deep/{index}.{'parquet' if index % 2 else 'txt'}").write_text(f"file {index}")
    owner.upload_folder(folder_path=tmp_path / "up", repo_id=repo, ignore_patterns="*/0.txt", **KIND)
    down = Path(owner.snapshot_download(repo, cache_dir=tmp_path / "cache", **KIND))
    found = {path.relative_to(down).as_posix(): path.read_text() for path in down.rglob("deep/*")}
    assert found == {f"deep/{i}.{'parquet' if i % 2 else 'txt'}": f"file {i}" for i in range(1, 12)}


def test_what_is_not_there(owner: HfApi, repo: str, read):
    with pytest.raises(RemoteEntryNotFoundError):
        read(repo, "absent.txt")
    for absent in ("absent", "refs/pr/7", "0" * 40):
        with pytest.raises(RevisionNotFoundError):
            read(repo, ".gitattributes", absent)


def test_other_addresses_are_404(hub_url: str):
    assert httpx.get(f"{hub_url}/api/agent-harnesses").status_code == 404
    assert httpx.get(f"{hub_url}/").status_code == 404
