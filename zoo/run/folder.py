"""The run folder: `model/ log.parquet run.json recipe.yaml curve.png`, and `.work/` while it is not finished.

Every file appears whole or not at all, and in an order that lets a killed run go on: `run.json` says
what is done, `log.jsonl` holds a row for each evaluation, `.work/checkpoints` what training needs. One process
at a time works in it: `.work/lock` is held while the folder is open, and let go of when its holder dies.
"""

import errno
import fcntl
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, Self, TypeVar, cast

from leaderboard.errors import P2Error
from zoo.distributed import ALONE, Team
from zoo.files import disk, write_atomic

T = TypeVar("T")
FINISHED = "finished"
_NO_LOCKS = (errno.ENOTSUP, errno.ENOSYS, errno.ENOLCK)  # file systems that cannot lock; there nobody is kept out


class RunFolder:
    """One run's folder, open for one process. `state` is run.json, written through after every change."""

    def __init__(self, path: Path):
        self.path = path
        self.work = path / ".work"
        self.pruned = self.work / "pruned"
        self.log = path / "log.jsonl"
        self.state: dict[str, Any] = {}
        self.team = ALONE
        self._held: IO[str] | None = None

    @classmethod
    def of_team(cls, path: Path, identity: Mapping[str, Any], resume: bool, team: Team) -> "RunFolder":
        """The folder in each process of a team: open in the first, which writes; the others read what it left."""
        run = team.first(lambda: cls.open(path, identity, resume)) or cls(path)
        run.team = team
        if run.reads:
            run.refresh()
        return run

    @classmethod
    def open(cls, path: Path, identity: Mapping[str, Any], resume: bool) -> "RunFolder":
        """The folder, new or to go on with. `identity` must be what its run.json began with."""
        run = cls(path)
        run._look(identity, resume)
        if not run.finished:
            run.lock()
            run._look(identity, resume=True)  # what another process wrote before the lock was ours
        if not run.state:
            run.update(status="running", **identity)
        return run

    @property
    def reads(self) -> bool:
        """Whether this is one of several processes, and not the one that writes."""
        return self.team.rank > 0

    def station(self, done: str, step: Callable[[], T], back: Callable[[], T] | None = None) -> T:
        """What a step of the run makes: done once, by the first process, and read `back` in all others and ever after.

        `done` is a key of run.json that the step writes last; a step without a `back` finds by itself what is there.
        """

        def once() -> T:
            return back() if back is not None and done in self.state else step()

        made = self.team.first(once)
        if not self.reads:
            return cast(T, made)
        self.refresh()
        return once()

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
        else:
            refuse_other(path)

    def lock(self) -> None:
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


def refuse_other(path: Path) -> None:
    """Raise P2Error for a path that holds something else than a run; an empty or new folder may become one."""
    if (path / "run.json").is_file() or not path.exists():
        return
    if not path.is_dir() or any(item.name != ".work" for item in path.iterdir()):
        raise P2Error(f"{path}: exists and holds no run; choose an empty or new folder with --out.")


def read_state(path: Path) -> dict[str, Any]:
    """run.json of a run folder."""
    try:
        state = json.loads((path / "run.json").read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise P2Error(f"{path}: its run.json cannot be read: {error}; choose another --out.") from error
    if not isinstance(state, dict) or "status" not in state:
        raise P2Error(f"{path}: its run.json is not one of p2zoo's; choose another --out.")
    return state
