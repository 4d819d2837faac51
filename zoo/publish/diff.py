"""Which files of a repository are already there: contents compared by the hashes that the Hub keeps.

Large files are known by their sha256, small ones by git's own hash.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Content = Path | bytes
_SHA256 = 64  # hex digits


def missing(info: Any, files: Mapping[str, Content]) -> list[str]:
    """Files that the repository lacks or has otherwise."""
    there = hashes(info)
    return [name for name, content in files.items() if name not in there or not _is(content, there[name])]


def _is(content: Content, known: str) -> bool:
    return (sha256_of(content) if len(known) == _SHA256 else git_sha(content)) == known


def hashes(info: Any) -> dict[str, str]:
    """Of each file of a repository: the sha256 if it is in LFS, else git's own hash."""
    return {one.rfilename: one.lfs.sha256 if one.lfs else one.blob_id for one in info.siblings or []}


def as_bytes(content: Content) -> bytes:
    """The content itself."""
    return content if isinstance(content, bytes) else content.read_bytes()


def sha256_of(content: Content) -> str:
    """sha256 in hex."""
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    with content.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def git_sha(content: Content) -> str:
    """Git's hash of a file: sha1 over a header with its size, and its bytes."""
    digest = hashlib.sha1(b"blob %d\0" % size_of(content), usedforsecurity=False)
    digest.update(as_bytes(content))
    return digest.hexdigest()


def size_of(content: Content) -> int:
    """Bytes."""
    return len(content) if isinstance(content, bytes) else content.stat().st_size
