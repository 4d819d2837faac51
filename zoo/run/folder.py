"""The run folder: `model/ log.parquet run.json recipe.yaml curve.png`, and `.work/` while it is not finished.

Every file appears whole or not at all, and in an order that lets a killed run go on: `run.json` says
what is done, `log.jsonl` holds a row for each evaluation, `.work/checkpoints` what training needs. One process
at a time works in it: `.work/lock` is held while the folder is open, and let go of when its holder dies.
"""

import errno
import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Self

from leaderboard.errors import P2Error
from zoo.files import disk, write_atomic

FINISHED = "finished"
_NO_LOCKS = (errno.ENOTSUP, errno.ENOSYS, errno.ENOLCK)  # file systems that cannot lock; there nobody is kept out


class RunFolder:
    """One run's folder, open for one process. `state` is run.json, written through after every change."""

    def __init__(self, path: Path):
        self.path = path
        self.work = path / ".work"
        self.log = path / "log.jsonl"
        self.state: dict[str, Any] = {}
        self.reads = False  # one of several processes, and not the one that writes
        self._held: IO[str] | None = None

    @classmethod
    def open(cls, path: Path, identity: Mapping[str, Any], resume: bool) -> "RunFolder":
        """The folder, new or to go on with. `identity` must be what its run.json began with."""
        run = cls(path)
        run._look(identity, resume)
        if not run.finished:
            run._lock()
            run._look(identity, resume=True)  # what another process wrote before the lock was ours
        if not run.state:
            run.update(status="running", **identity)
        return run

    @classmethod
    def follow(cls, path: Path) -> "RunFolder":
        """The folder as a process sees it that writes nothing; another has it open."""
        run = cls(path)
        run.reads = True
        run.refresh()
        return run

    def refresh(self) -> None:
        """Read run.json again, as the writing process left it."""
        self.state = read_state(self.path)

    def _look(self, identity: Mapping[str, Any], resume: bool) -> None:
        """Read what is there; refuse what is not this run, or is unfinished and not to be gone on with."""
        path = self.path
        if (path / "run.json").is_file():
            self.state = read_state(path)
            self._check_same(identity)
            if not self.finished and not resume:
                raise P2Error(
                    f"{path}: holds an unfinished run; add --resume to go on with it, or choose another --out."
                )
        elif path.exists() and (not path.is_dir() or any(item != self.work for item in path.iterdir())):
            raise P2Error(f"{path}: exists and holds no run; choose an empty or new folder with --out.")

    def _lock(self) -> None:
        """Keep other processes out until `close`."""
        with disk(self.path):
            self.work.mkdir(parents=True, exist_ok=True)
            self._held = (self.work / "lock").open("w")
        try:
            fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.close()
            raise P2Error(
                f"{self.path}: another p2zoo process is at work in this folder; wait for it, or choose another --out."
            ) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise

    def close(self) -> None:
        """Let other processes in."""
        if self._held is not None:
            self._held.close()
            self._held = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def finished(self) -> bool:
        return self.state.get("status") == FINISHED

    def update(self, **values: Any) -> None:
        """Add to run.json, whole or not at all."""
        self.state |= values
        if self.reads:
            return
        write_atomic(self.path / "run.json", json.dumps(self.state, indent=2, allow_nan=False) + "\n")

    def append(self, row: Mapping[str, Any]) -> None:
        """Add a row to the log and make sure it is on disk."""
        if self.reads:
            return
        with disk(self.log), self.log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, allow_nan=False) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def rows(self) -> list[dict[str, Any]]:
        """The rows so far; a last line that a kill cut off does not count."""
        if not self.log.is_file():
            return []
        lines = self.log.read_text(encoding="utf-8").splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def keep_rows(self, up_to: int) -> None:
        """Drop rows after `up_to` tokens, which the resumed training will write again."""
        if self.reads:
            return
        rows = [row for row in self.rows() if row["tokens"] <= up_to]
        write_atomic(self.log, "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows))

    def _check_same(self, identity: Mapping[str, Any]) -> None:
        for key, value in identity.items():
            if self.state.get(key) != value:
                raise P2Error(
                    f"{self.path}: holds another run: its {key} is {self.state.get(key)}, this one's is {value}. "
                    "Choose another --out."
                )


def read_state(path: Path) -> dict[str, Any]:
    """run.json of a run folder."""
    try:
        state = json.loads((path / "run.json").read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise P2Error(f"{path}: its run.json cannot be read: {error}; choose another --out.") from error
    if not isinstance(state, dict) or "status" not in state:
        raise P2Error(f"{path}: its run.json is not one of p2zoo's; choose another --out.")
    return state
