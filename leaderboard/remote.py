"""A Hub dataset of run logs: its snapshot, checked, and the last good state when the Hub cannot be reached.

A commit never changes, so its good rows are kept as one parquet file named by the commit and by the code that judged
it; reading it again costs one request. What is kept stands below P2ZOO_CACHE, by default `p2zoo` in the Hugging Face
home. P2ZOO_OFFLINE=1 (or HF_HUB_OFFLINE=1) asks nobody and reads what is kept.
"""

import hashlib
import json
import os
import re
import tempfile
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from leaderboard.check import ON_READ, check_files
from leaderboard.errors import P2Error
from leaderboard.findings import Finding, Report
from leaderboard.logs import Logs, as_logs, log_files

if TYPE_CHECKING:
    from huggingface_hub import HfApi

PATTERN = "runs/**/*.parquet"
TIMEOUT_S = 10.0  # to learn the newest commit
KEPT = 4  # parsed commits of a dataset
_JUDGES = ("check.py", "pages.py", "rules.py", "runlog.py", "upgrade.py")  # what a parsed commit depends on
_COMMIT = re.compile(r"[0-9a-f]{40}")


class _Unreachable(Exception):  # noqa: N818 - a state of the Hub, not of the request
    """The Hub does not answer; the text says how."""


def read_dataset(dataset: str, revision: str | None = None, api: "HfApi | None" = None) -> Logs:
    """Run logs of a Hub dataset at a branch, tag, commit or refs/pr/N; `note` says when they are not fresh.

    Raises P2Error where the dataset does not exist, may not be read, or cannot be reached and was never read before.
    """
    from huggingface_hub import HfApi

    from leaderboard.refusals import closed_meanwhile

    api = api or HfApi()
    revision = revision or "main"
    folder = _folder(api.endpoint, dataset)
    seen = folder / f"{hashlib.sha256(revision.encode()).hexdigest()[:16]}.json"
    try:
        commit = _newest_commit(api, dataset, revision)
        logs = _read_commit(api, dataset, commit, folder, local=False)
        _write(seen, json.dumps({"commit": commit, "at": datetime.now(UTC).isoformat(timespec="seconds")}).encode())
    except _Unreachable as error:
        return _last_good(api, dataset, revision, folder, seen, str(error))
    except (RuntimeError, AttributeError) as error:
        if not closed_meanwhile(error):
            raise
        return _last_good(api, dataset, revision, folder, seen, f"{api.endpoint} broke off")
    return logs


def offline() -> bool:
    """Whether the user asked for no network."""
    from huggingface_hub import constants

    return constants.HF_HUB_OFFLINE or os.environ.get("P2ZOO_OFFLINE", "").lower() in ("1", "true", "yes", "on")


def _folder(endpoint: str, dataset: str) -> Path:
    """Where a dataset's parsed commits stand; one dataset name may exist on two Hubs."""
    from huggingface_hub import constants

    root = Path(os.environ.get("P2ZOO_CACHE") or Path(constants.HF_HOME) / "p2zoo")
    return root / "logs" / hashlib.sha256(f"{endpoint} {dataset}".encode()).hexdigest()[:16]


def download_folder() -> Path | None:
    """Where downloads go: the Hugging Face cache, or P2ZOO_CACHE where that is set."""
    own = os.environ.get("P2ZOO_CACHE")
    return Path(own) / "hub" if own else None


def _newest_commit(api: "HfApi", dataset: str, revision: str) -> str:
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    if offline():
        raise _Unreachable("offline, as asked")
    try:
        commit = api.dataset_info(dataset, revision=revision, expand=["sha"], timeout=TIMEOUT_S).sha
    except HFValidationError as error:
        raise P2Error(f"{dataset}: neither an existing path nor a Hub dataset id such as org/p2-logs.") from error
    except (RepositoryNotFoundError, GatedRepoError) as error:
        fix = "Check the name; for a private or gated one log in with `hf auth login`."
        raise P2Error(
            f"{dataset}: no existing path, and no Hub dataset you may read at {api.endpoint}. {fix}"
        ) from error
    except RevisionNotFoundError as error:
        raise P2Error(f"{dataset}: has no revision {revision!r}; branches, tags, commits, refs/pr/N.") from error
    except HfHubHTTPError as error:
        if error.response.status_code < 500 and error.response.status_code != 429:
            raise P2Error(f"{dataset}: {api.endpoint} answers {error.response.status_code}.") from error
        raise _Unreachable(f"{api.endpoint} answers {error.response.status_code}") from error
    except (_transport_error(), OSError) as error:
        raise _Unreachable(f"{api.endpoint} cannot be reached ({type(error).__name__})") from error
    return str(commit)


def _transport_error() -> type[Exception]:
    """What the client's HTTP library raises when a connection fails; its name changed from release to release."""
    from huggingface_hub import errors

    return errors.HTTPError  # type: ignore[attr-defined]


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
    parsed = folder / f"{commit}.{_judges()}.parquet"
    if (kept := _read_parsed(parsed)) is not None:
        return as_logs(*kept, source=dataset, revision=commit)
    snapshot = _download(api, dataset, commit, local)
    files = log_files(snapshot / "runs")
    if not files:
        raise P2Error(f"{dataset}: no run logs at {commit[:12]}; they stand in runs/<contributor>/<run_id>.parquet.")
    checked = check_files(files, [f.relative_to(snapshot).as_posix() for f in files])
    frame, bad = checked.frame.drop(columns="file"), tuple(r for r in checked.reports if not r.ok)
    _write_parsed(parsed, frame, bad)
    return as_logs(frame, bad, source=dataset, revision=commit)


def _download(api: "HfApi", dataset: str, commit: str, local: bool) -> Path:
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
    except (_transport_error(), LocalEntryNotFoundError, ConnectionError) as error:
        raise _Unreachable(f"{api.endpoint} broke off ({type(error).__name__})") from error
    return Path(folder)


@cache
def _judges() -> str:
    """First 12 hex digits of the sha256 over the code that judges logs: another code, another verdict."""
    here = Path(__file__).parent
    return hashlib.sha256(b"".join((here / name).read_bytes() for name in _JUDGES)).hexdigest()[:12]


def _read_parsed(path: Path) -> tuple[pd.DataFrame, tuple[Report, ...]] | None:
    """The rows and reports of a parsed commit; None where there is none, or half of one."""
    try:
        table = pq.read_table(path)
        bad = json.loads((table.schema.metadata or {})[b"p2zoo"])
    except (OSError, KeyError, ValueError):  # pyarrow's are among these
        return None
    reports = tuple(Report(r["path"], tuple(Finding(**f) for f in r["findings"])) for r in bad)
    frame: pd.DataFrame = table.to_pandas()
    return frame, reports


def _write_parsed(path: Path, frame: pd.DataFrame, bad: tuple[Report, ...]) -> None:
    table = pa.Table.from_pandas(frame, schema=ON_READ, preserve_index=False)
    table = table.replace_schema_metadata(
        (table.schema.metadata or {}) | {b"p2zoo": json.dumps([asdict(r) for r in bad])}
    )
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    _write(path, sink.getvalue().to_pybytes())
    older = sorted(path.parent.glob("*.parquet"), key=lambda p: p.stat().st_mtime, reverse=True)[KEPT:]
    for file in older:
        file.unlink(missing_ok=True)


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all, also where two processes write at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", delete=False) as file:
        file.write(data)
    Path(file.name).replace(path)
