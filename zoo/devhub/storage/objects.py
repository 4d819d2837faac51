"""File contents under their SHA-256. An object is on disk, whole and synced, before anything names it.

An upload is written beside the objects as `*.part`, hashed while it arrives, and renamed when complete,
so a reader never sees half an object and an interrupted upload leaves only a `*.part`, removed on the next start.
"""

import contextlib
import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from zoo.devhub.errors import bad_request

SHA256 = re.compile(r"[0-9a-f]{64}")


class Objects:
    """A folder of objects."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        for part in folder.glob("*.part"):
            part.unlink()

    def path(self, sha256: str) -> Path:
        """Where the object lies, whether or not it is there."""
        if not SHA256.fullmatch(sha256):
            raise bad_request("An object is named by 64 lower-case hexadecimal digits, its SHA-256.")
        return self.folder / sha256

    def __contains__(self, sha256: str) -> bool:
        return self.path(sha256).exists()

    def size(self, sha256: str) -> int:
        return self.path(sha256).stat().st_size

    def read(self, sha256: str, most: int) -> bytes:
        """Its first `most` bytes."""
        with self.path(sha256).open("rb") as file:
            return file.read(most)

    def put(self, data: bytes) -> str:
        """Store bytes; returns their SHA-256."""
        sha256 = hashlib.sha256(data).hexdigest()
        if sha256 not in self:
            with self.receive() as incoming:
                incoming.write(data)
                incoming.finish(sha256)
        return sha256

    @contextlib.contextmanager
    def receive(self) -> Iterator["Incoming"]:
        """An object that arrives in pieces; without `finish` nothing of it stays."""
        handle, name = tempfile.mkstemp(dir=self.folder, suffix=".part")
        part = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                yield Incoming(self, file, part)
        finally:
            part.unlink(missing_ok=True)


class Incoming:
    """An upload in progress."""

    def __init__(self, objects: Objects, file: BinaryIO, part: Path):
        self._objects, self._file, self._part = objects, file, part
        self._hash = hashlib.sha256()

    def write(self, data: bytes) -> None:
        self._hash.update(data)
        self._file.write(data)

    def finish(self, sha256: str) -> None:
        """Make it durable under its name; refused when other bytes arrived than were announced."""
        if self._hash.hexdigest() != sha256:
            raise bad_request("The uploaded bytes do not have the announced SHA-256; send them again.")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._part.replace(self._objects.path(sha256))
        sync_folder(self._objects.folder)


def sync_folder(folder: Path) -> None:
    """Make a rename inside `folder` survive a power cut (POSIX; elsewhere the file system does it)."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
