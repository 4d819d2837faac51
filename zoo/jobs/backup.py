"""The state of a run on the Hub, so that a job on another machine goes on where a preempted one stopped.

One private repository a run. Each save is one commit that holds what a resume needs and nothing older, so the branch
is always a whole state. Saves go out in a thread while training goes on; the next one waits for the one before. When
the run is over, its log and its addresses take the place of the checkpoints.
"""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, snapshot_download
from huggingface_hub.errors import HfHubHTTPError

from leaderboard.errors import P2Error
from leaderboard.logs.hub_errors import Patience
from zoo.files import new_folder
from zoo.publish.diff import Content, as_bytes, hashes, missing
from zoo.run.finished import refuse_tokens
from zoo.run.folder import refuse_other

KEPT = ("run.json", "log.jsonl", ".work/pruned")  # and the newest checkpoint
RESULTS = ("run.json", "log.parquet", "log.jsonl", "recipe.yaml", "curve.png")
PUBLISHED = "published.json"
TEXTS = ("run.json", "log.jsonl", "recipe.yaml", PUBLISHED)  # these must hold no token
_SMALL = 2**20  # bytes; larger files are never changed in place, so a link is a copy


class Backup:
    """The repository of one run. `say` is told of every save."""

    def __init__(self, api: HfApi, repo: str, say: Callable[[str], None] = print, patience: Patience | None = None):
        self.api, self.repo, self.say = api, repo, say
        self.insist = patience or Patience()
        self.thread = ThreadPoolExecutor(1)
        self.pending: Future[None] | None = None

    def restore(self, folder: Path) -> dict[str, Any] | None:
        """Bring the state of the run into `folder`, unless that has a state of its own.

        Returns what was published when the run is over, else None. Raises P2Error for a folder that holds something
        else than a run, before anything is asked of the Hub: what comes from there takes the folder's place.
        """
        refuse_other(folder)
        self.insist(f"job: {self.repo}", lambda: self.api.create_repo(self.repo, private=True, exist_ok=True))
        if (folder / "run.json").is_file():
            return None
        there = self.insist(f"job: {self.repo}", lambda: hashes(self.api.model_info(self.repo, files_metadata=True)))
        if PUBLISHED in there:
            return json.loads(download(self.api, self.repo, folder, (*RESULTS, PUBLISHED)).read_text())
        if "run.json" in there:
            download(self.api, self.repo, folder, None)
            self.say(f"job: going on from {self.repo}")
        return None

    def save(self, folder: Path) -> None:
        """Send the newest complete checkpoint, and what goes with it, while training goes on.

        What is sent is held beside the run folder, whose scratch folder goes when the run ends.
        """
        self.wait()
        held = folder.resolve().with_name(f".{folder.resolve().name}-backup")
        shutil.rmtree(held, ignore_errors=True)  # of a process that was killed
        files = dict(_hold(folder, held))
        step = max(map(_step, held.glob(".work/checkpoints/checkpoint-*")))
        self.pending = self.thread.submit(self._send, held, files, f"Checkpoint after step {step}")

    def wait(self) -> None:
        """Until the last save is on the Hub. One that failed is said, and training goes on: the next may succeed."""
        pending, self.pending = self.pending, None
        if pending is None:
            return
        try:
            pending.result()
        except (P2Error, HfHubHTTPError, OSError) as error:
            self.say(f"job: this checkpoint is not on the Hub: {error}")

    def finish(self, folder: Path, published: Mapping[str, Any]) -> None:
        """Put the log and the addresses of what was published in place of the checkpoints."""
        self.wait()
        files: dict[str, Content] = {name: folder / name for name in RESULTS}
        files[PUBLISHED] = json.dumps(published, indent=2).encode()
        self._commit(files, "The run is over")
        try:  # old checkpoints would go on taking room in the history
            self.api.super_squash_history(self.repo)
        except HfHubHTTPError as error:
            self.say(f"job: {self.repo} keeps its history ({type(error).__name__}); delete it when you need the room")

    def _send(self, held: Path, files: Mapping[str, Content], message: str) -> None:
        try:
            self._commit(files, message)
            self.say(f"job: {message.lower()} is on the Hub")
        finally:
            shutil.rmtree(held)

    def _commit(self, files: Mapping[str, Content], message: str) -> None:
        refuse_tokens((name, as_bytes(files[name])) for name in TEXTS if name in files)
        self.insist(f"job: {self.repo}", lambda: self._commit_once(files, message))

    def _commit_once(self, files: Mapping[str, Content], message: str) -> None:
        info = self.api.model_info(self.repo, files_metadata=True)
        gone = set(hashes(info)) - set(files) - {".gitattributes"}
        wanted = missing(info, files)
        deleted = [CommitOperationDelete(name) for name in sorted(gone)]
        changes: list[CommitOperationAdd | CommitOperationDelete] = [
            *deleted,
            *(CommitOperationAdd(name, files[name]) for name in wanted),
        ]
        if changes:
            self.api.create_commit(self.repo, changes, commit_message=message, parent_commit=info.sha)


def _hold(folder: Path, held: Path) -> list[tuple[str, Path]]:
    """The files of a state, linked into `held`, where no later step changes or removes them."""
    held_files = []
    last = max(folder.glob(".work/checkpoints/checkpoint-*"), key=_step)
    for part in (*KEPT, last.relative_to(folder)):
        for path in [folder / part] if (folder / part).is_file() else sorted((folder / part).rglob("*")):
            if path.is_file():
                name = path.relative_to(folder).as_posix()
                target = held / name
                target.parent.mkdir(parents=True, exist_ok=True)
                _copy(path, target)
                held_files.append((name, target))
    return held_files


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def _copy(path: Path, target: Path) -> None:
    if path.stat().st_size > _SMALL:
        try:
            os.link(path, target)
        except OSError:  # a file system without links
            shutil.copyfile(path, target)
    else:
        shutil.copyfile(path, target)


def download(api: HfApi, repo: str, folder: Path, names: tuple[str, ...] | None) -> Path:
    """The files of a run's repository into `folder`, all of them or none; gives the path of published.json.

    Raises P2Error or RunFailed, as Patience does, for what cannot be had.
    """

    def fetch() -> None:
        with new_folder(folder) as whole:
            snapshot_download(
                repo, local_dir=whole, allow_patterns=None if names is None else list(names), endpoint=api.endpoint,
                token=api.token,
            )  # fmt: skip
            shutil.rmtree(whole / ".cache", ignore_errors=True)

    Patience()(f"job: {repo}", fetch)
    return folder / PUBLISHED
