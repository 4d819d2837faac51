"""A Hub dataset of run logs: its snapshot, checked, and the last good state when the Hub cannot be reached.

A commit never changes, so its good rows are kept as one parquet file named by the commit and by the code that judged
it; reading it again costs one request. What is kept stands below P2ZOO_CACHE, by default `p2zoo` in the Hugging Face
home. P2ZOO_OFFLINE=1 (or HF_HUB_OFFLINE=1) asks nobody and reads what is kept.
"""

import hashlib
import json
import os
import re
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from leaderboard.errors import P2Error
from leaderboard.files import whole_file
from leaderboard.logs.cache import judges, kept_folder, read_kept, write_kept
from leaderboard.logs.check import check_files, log_files
from leaderboard.logs.frame import Logs, as_logs
from leaderboard.words import address

if TYPE_CHECKING:
    from huggingface_hub import HfApi

PATTERN = "runs/**/*.parquet"
TIMEOUT_S = 10.0  # to learn the newest commit
_COMMIT = re.compile(r"[0-9a-f]{40}")


class _Unreachable(Exception):  # noqa: N818 - a state of the Hub, not of the request
    """The Hub does not answer; the text says how."""


def read_dataset(dataset: str, revision: str | None = None, api: "HfApi | None" = None) -> Logs:
    """Run logs of a Hub dataset at a branch, tag, commit or refs/pr/N; `note` says when they are not fresh.

    Raises P2Error where the dataset does not exist, may not be read, or cannot be reached and was never read before.
    """
    from huggingface_hub import HfApi

    from leaderboard.logs.hub_errors import closed_meanwhile

    api = api or HfApi()
    revision = revision or "main"
    folder = _folder(api.endpoint, dataset)
    seen = folder / f"{hashlib.sha256(revision.encode()).hexdigest()[:16]}.json"
    try:
        commit = _newest_commit(api, dataset, revision)
        logs = _read_commit(api, dataset, commit, folder, local=False)
        with suppress(OSError), whole_file(seen) as file:
            file.write_text(json.dumps({"commit": commit, "at": datetime.now(UTC).isoformat(timespec="seconds")}))
    except _Unreachable as error:
        return _last_good(api, dataset, revision, folder, seen, str(error))
    except (RuntimeError, AttributeError) as error:
        if not closed_meanwhile(error):
            raise
        return _last_good(api, dataset, revision, folder, seen, f"{address(api.endpoint)} broke off")
    return logs


def _folder(endpoint: str, dataset: str) -> Path:
    """Where a dataset's parsed commits stand; one dataset name may exist on two Hubs."""
    return kept_folder() / hashlib.sha256(f"{endpoint} {dataset}".encode()).hexdigest()[:16]


def download_folder() -> Path | None:
    """Where downloads go: the Hugging Face cache, or P2ZOO_CACHE where that is set."""
    own = os.environ.get("P2ZOO_CACHE")
    return Path(own) / "hub" if own else None


def _newest_commit(api: "HfApi", dataset: str, revision: str) -> str:
    from huggingface_hub.errors import HFValidationError

    from leaderboard.logs.hub_errors import OF_THE_HUB, offline, passing, unreadable

    if offline():
        raise _Unreachable("offline, as asked")
    try:
        commit = api.dataset_info(dataset, revision=revision, expand=["sha"], timeout=TIMEOUT_S).sha
    except (*OF_THE_HUB, OSError) as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status is not None and (passing(error) or status >= 500):
            raise _Unreachable(f"{address(api.endpoint)} answers {status}") from error
        if status is not None or isinstance(error, HFValidationError):
            page = f"{address(api.endpoint)}/datasets/{dataset}"
            raise unreadable(error, dataset, page, "or give an existing path", revision) from error
        raise _Unreachable(f"{address(api.endpoint)} cannot be reached ({type(error).__name__})") from error
    return str(commit)


def _last_good(api: "HfApi", dataset: str, revision: str, folder: Path, seen: Path, reason: str) -> Logs:
    """What was read last under this name, with a note."""
    commit, since = (revision, "") if _COMMIT.fullmatch(revision) else (None, "")
    if seen.is_file():
        last = json.loads(seen.read_text(encoding="utf-8"))
        commit, since = last["commit"], f" of {last['at']}"
    if commit is None:
        raise P2Error(f"{dataset}: {reason}, and {revision} was never read on this machine.")
    try:
        logs = _read_commit(api, dataset, commit, folder, local=True)
    except _Unreachable as error:
        raise P2Error(f"{dataset}: {reason}, and {revision} is no longer kept on this machine.") from error
    return replace(logs, note=f"{dataset}: {reason}. This is its state{since}, commit {commit[:12]}.")


def _read_commit(api: "HfApi", dataset: str, commit: str, folder: Path, local: bool) -> Logs:
    """Rows of one commit: the parsed ones, else the downloaded files, checked and kept."""
    parsed = folder / f"{commit}.{judges()}.parquet"
    if (kept := read_kept(parsed)) is not None:
        return as_logs(*kept, source=dataset, revision=commit, dataset=dataset)
    snapshot = _download(api, dataset, commit, local)
    files = log_files(snapshot / "runs")
    if not files:
        raise P2Error(f"{dataset}: no run logs at {commit[:12]}; they stand in runs/<contributor>/<run_id>.parquet.")
    checked = check_files(files, [f.relative_to(snapshot).as_posix() for f in files])
    frame, bad = checked.frame.drop(columns="file"), tuple(r for r in checked.reports if not r.ok)
    with suppress(OSError):  # no place to keep it
        write_kept(parsed, frame, bad)
    return as_logs(frame, bad, source=dataset, revision=commit, dataset=dataset)


def _download(api: "HfApi", dataset: str, commit: str, local: bool) -> Path:
    import httpx2
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = api.snapshot_download(
            dataset,
            repo_type="dataset",
            revision=commit,
            allow_patterns=PATTERN,
            local_files_only=local,
            cache_dir=download_folder(),
        )
    except (httpx2.HTTPError, LocalEntryNotFoundError, ConnectionError) as error:
        raise _Unreachable(f"{address(api.endpoint)} broke off ({type(error).__name__})") from error
    return Path(folder)
