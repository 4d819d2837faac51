"""What a commit holds: a tree of files by path, what changed, and the three-way merge of two trees.

Pure functions on data: a tree maps paths to files, changes map paths to files or to None (deleted).
Not git: a commit id covers its parent and its changes, and a directory's id only its path.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import astuple, dataclass
from typing import Any

from zoo.devhub.errors import bad_request

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class File:
    """A file of a tree. `oid` is git's blob id: of the content, or of the pointer where `lfs`; `size` in bytes."""

    oid: str
    sha256: str
    size: int
    lfs: bool

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.oid


Tree = Mapping[str, File]
Changes = Mapping[str, File | None]


def blob_id(data: bytes) -> str:
    """git's SHA-1 of a blob; the client compares it with the local file to skip unchanged ones."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def regular_file(sha256: str, data: bytes) -> File:
    return File(blob_id(data), sha256, len(data), lfs=False)


def lfs_file(sha256: str, size: int) -> File:
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n"
    return File(blob_id(pointer.encode()), sha256, size, lfs=True)


def apply(tree: Tree, changes: Changes) -> dict[str, File]:
    """The tree after the changes."""
    out = {**tree}
    for path, file in changes.items():
        if file is None:
            out.pop(path, None)
        else:
            out[path] = file
    return out


def changes_between(old: Tree, new: Tree) -> dict[str, File | None]:
    """What leads from one tree to the other."""
    return {path: new.get(path) for path in sorted(old.keys() | new.keys()) if old.get(path) != new.get(path)}


def three_way(base: Tree, ours: Tree, theirs: Tree) -> tuple[dict[str, File | None], list[str]]:
    """What of `theirs` is still to be applied to `ours`, and the paths that both changed differently."""
    wanted = changes_between(base, theirs)
    conflicts = [path for path, file in wanted.items() if ours.get(path) not in (base.get(path), file)]
    pending = {path: file for path, file in wanted.items() if ours.get(path) != file}
    return pending, conflicts or overlaps(apply(ours, pending), pending)


def overlaps(tree: Tree, changes: Changes) -> list[str]:
    """Changed paths that would be a file and a folder at once."""
    added = [path for path, file in changes.items() if file is not None]
    folders = {folder for path in tree for folder in parents(path)} if added else set()
    return [path for path in added if path in folders or any(folder in tree for folder in parents(path))]


def parents(path: str) -> Iterator[str]:
    """The folders above a path: a/b/c gives a and a/b."""
    end = path.find("/")
    while end != -1:
        yield path[:end]
        end = path.find("/", end + 1)


def check_path(path: str) -> str:
    """A path that git could hold: relative, no empty, dotted or `.git` part, no control character."""
    parts = path.split("/")
    if any(part in ("", ".", "..") or part.lower() == ".git" for part in parts) or _CONTROL.search(path):
        raise bad_request(f"Not a path inside a repository: {path!r}.")
    return path


def listing(tree: Tree, folder: str, recursive: bool) -> list[dict[str, Any]]:
    """Folders, then files, below a folder ("" = the root); empty where the folder does not exist."""
    prefix = f"{folder}/" if folder else ""
    below = {path[len(prefix) :]: file for path, file in tree.items() if path.startswith(prefix)}
    folders = {up for path in below for up in parents(path) if recursive or "/" not in up}
    files = sorted(path for path in below if recursive or "/" not in path)
    return [
        *(folder_json(prefix + name) for name in sorted(folders)),
        *(file_json(prefix + name, below[name]) for name in files),
    ]


def paths_info(tree: Tree, paths: list[str]) -> list[dict[str, Any]]:
    """Those of the paths that exist, as files or folders."""
    folders = {up for path in tree for up in parents(path)}
    wanted = [path.rstrip("/") for path in paths]
    return [
        file_json(path, tree[path]) if path in tree else folder_json(path)
        for path in wanted
        if path in tree or path in folders
    ]


def file_json(path: str, file: File) -> dict[str, Any]:
    out: dict[str, Any] = {"type": "file", "path": path, "oid": file.oid, "size": file.size}
    if file.lfs:
        out["lfs"] = lfs_json(file)
    return out


def folder_json(path: str) -> dict[str, Any]:
    return {"type": "directory", "path": path, "oid": hashlib.sha1(path.encode()).hexdigest(), "size": 0}


def lfs_json(file: File) -> dict[str, Any]:
    return {"oid": file.sha256, "sha256": file.sha256, "size": file.size, "pointerSize": 134}


def pack(changes: Changes) -> dict[str, tuple[Any, ...] | None]:
    """Changes as JSON data."""
    return {path: None if file is None else astuple(file) for path, file in changes.items()}


def unpack(data: Mapping[str, list[Any] | None]) -> dict[str, File | None]:
    return {path: None if row is None else File(*row) for path, row in data.items()}
