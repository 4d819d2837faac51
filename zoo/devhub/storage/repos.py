"""Repositories: create, find, change, delete, and describe them as the client expects.

A repository belongs to the user whose name it starts with; there are no organizations.
"""

import re
import sqlite3
from dataclasses import dataclass
from typing import Any

from zoo.devhub.errors import HubError, bad_request
from zoo.devhub.storage import cards, trees
from zoo.devhub.storage.store import MAIN, Store, now

KINDS = ("model", "dataset", "space")
NAME = re.compile(r"[A-Za-z0-9_](?:[\w.-]{0,94}[A-Za-z0-9_])?", re.ASCII)
LFS_PATTERNS = (
    "*.7z", "*.arrow", "*.bin", "*.bz2", "*.gguf", "*.gz", "*.h5", "*.jpg", "*.msgpack", "*.npy", "*.npz", "*.onnx",
    "*.parquet", "*.pickle", "*.pkl", "*.png", "*.pt", "*.pth", "*.safetensors", "*.tar", "*.xz", "*.zip", "*.zst",
)  # fmt: skip


@dataclass(frozen=True)
class Repo:
    """A row of the table; `key` is its database id."""

    key: int
    kind: str
    owner: str
    name: str
    private: bool
    created: str

    @property
    def id(self) -> str:
        return f"{self.owner}/{self.name}"

    @property
    def page(self) -> str:
        """Its path on the site: models at the root, the others below their kind."""
        return self.id if self.kind == "model" else f"{self.kind}s/{self.id}"


def create(store: Store, kind: str, owner: str, name: str, private: bool) -> Repo:
    """A repository whose first commit holds `.gitattributes`; status 409 where it exists."""
    if not NAME.fullmatch(name) or ".." in name or "--" in name:
        raise bad_request(f"Not a repository name: {name!r}. Letters, digits, '-', '_' and '.', at most 96 of them.")
    if find(store, kind, owner, name):
        raise HubError(409, f"You already created this {kind} repo: {owner}/{name}")
    attributes = "".join(f"{pattern} filter=lfs diff=lfs merge=lfs -text\n" for pattern in LFS_PATTERNS).encode()
    files = {".gitattributes": trees.regular_file(store.objects.put(attributes), attributes)}
    with store.transaction():
        store.insert("repos", kind=kind, owner=owner, name=name, private=private, created=now())
        repo = find(store, kind, owner, name)
        if repo is None:
            raise RuntimeError("a repository vanished inside its own transaction")
        head = store.add_commit(repo.key, None, files, title="initial commit", message="", author=owner)
        store.set_ref(repo.key, MAIN, head)
    return repo


def find(store: Store, kind: str, owner: str, name: str) -> Repo | None:
    row = store.row("SELECT * FROM repos WHERE kind = ? AND owner = ? AND name = ?", kind, owner, name)
    return None if row is None else _repo(row)


def delete(store: Store, repo: Repo) -> None:
    """Forget the repository with its refs, commits and discussions; contents may serve others and stay."""
    with store.transaction():
        store.execute("DELETE FROM repos WHERE id = ?", repo.key)


def set_private(store: Store, repo: Repo, private: bool) -> None:
    with store.transaction():
        store.execute("UPDATE repos SET private = ? WHERE id = ?", private, repo.key)


def listed(store: Store, kind: str, user: str | None) -> list[Repo]:
    """What a user may see: everything public, and what is theirs."""
    rows = store.rows("SELECT * FROM repos WHERE kind = ? AND (private = 0 OR owner = ?) ORDER BY id", kind, user)
    return [_repo(row) for row in rows]


def info(store: Store, repo: Repo, commit: str, blobs: bool = False) -> dict[str, Any]:
    """ModelInfo, DatasetInfo or SpaceInfo in the client's form; `blobs` adds sizes and ids of the files."""
    tree = store.tree(repo.key, commit)
    readme = tree.get("README.md")
    card = store.card(readme.sha256) if readme else {}
    out = {
        "_id": object_id(repo.kind, repo.id),
        "id": repo.id,
        "author": repo.owner,
        "sha": commit,
        "private": repo.private,
        "gated": False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": cards.tags(card),
        "createdAt": repo.created,
        "lastModified": store.commit(repo.key, commit)["date"],
        "siblings": [_sibling(path, tree[path], blobs) for path in sorted(tree)],
        "cardData": card,
    }
    if repo.kind == "model":
        out |= {"modelId": repo.id, **{key: card[key] for key in ("library_name", "pipeline_tag") if card.get(key)}}
    if repo.kind == "space":
        out["sdk"] = card.get("sdk")
    return out


def object_id(*parts: str) -> str:
    """A stable id in the Hub's form, 24 hexadecimal digits."""
    return trees.blob_id("\0".join(parts).encode())[:24]


def _sibling(path: str, file: trees.File, blobs: bool) -> dict[str, Any]:
    out: dict[str, Any] = {"rfilename": path}
    if blobs:
        out |= {"size": file.size, "blobId": file.oid, **({"lfs": trees.lfs_json(file)} if file.lfs else {})}
    return out


def _repo(row: sqlite3.Row) -> Repo:
    return Repo(row["id"], row["kind"], row["owner"], row["name"], bool(row["private"]), row["created"])
