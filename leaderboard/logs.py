"""`load_logs`: run logs from the bundled seed, a file, a folder or a Hub dataset, bad files quarantined.

Whatever the source, the good rows come as one frame of the contract's columns, and every other file with its findings.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pandas as pd

from leaderboard.check import check_files
from leaderboard.errors import P2Error
from leaderboard.findings import Report

SEED = Path(__file__).parent / "seed" / "runs"


@dataclass(frozen=True)
class Logs:
    """Rows of all good runs, what was left out and why, and which state of the data this is."""

    frame: pd.DataFrame
    quarantined: tuple[Report, ...]
    revision: str  # commit of a Hub dataset, else the first 12 hex digits of the rows' hash
    date: datetime | None  # of the newest run
    source: str


def load_logs(source: str | Path | None = None, revision: str | None = None) -> Logs:
    """Read run logs. `source` None is the bundled seed, an existing path a file or folder, else a Hub dataset id.

    `revision` is a branch, tag, commit or refs/pr/N of a Hub dataset. Raises P2Error when nothing is found there.
    """
    if source is None:
        return _read(SEED, "bundled seed")
    if Path(source).exists():
        if revision is not None:
            raise P2Error(f"{source}: a revision belongs to a Hub dataset, not to a path.")
        return _read(Path(source), str(source))
    folder, commit = _snapshot(str(source), revision)
    return _read(folder, str(source), commit)


def log_files(path: Path) -> list[Path]:
    """The parquet files of a path, sorted; the path itself when it is a file. A run folder gives its log."""
    if path.is_file():
        return [path]
    return sorted(p for p in path.rglob("*.parquet") if not p.name.startswith("."))


def _read(path: Path, source: str, revision: str | None = None) -> Logs:
    files = log_files(path)
    if not files:
        raise P2Error(f"{path}: no parquet files here. A run folder of `p2zoo run` or a folder of logs is expected.")
    root = path if path.is_dir() else path.parent
    checked = check_files(files, [f.relative_to(root).as_posix() for f in files])
    frame = checked.frame.drop(columns="file")
    return Logs(
        frame=frame,
        quarantined=tuple(r for r in checked.reports if not r.ok),
        revision=revision or data_hash(frame),
        date=frame["created_at"].max().to_pydatetime() if len(frame) else None,
        source=source,
    )


def data_hash(frame: pd.DataFrame) -> str:
    """First 12 hex digits of the sha256 over runs, tokens and losses, whatever the order of the runs."""
    columns = ["run_id", "tokens", "loss"]
    rows = frame[columns].astype({"run_id": str}).sort_values(columns)
    return hashlib.sha256(pd.util.hash_pandas_object(rows, index=False).to_numpy().tobytes()).hexdigest()[:12]


def _snapshot(dataset: str, revision: str | None) -> tuple[Path, str]:
    """Download a Hub dataset's run files; its folder and commit."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        folder = snapshot_download(dataset, repo_type="dataset", revision=revision, allow_patterns="runs/**/*.parquet")
    except (HFValidationError, LocalEntryNotFoundError, HfHubHTTPError) as error:
        reason = str(error).splitlines()[0]
        raise P2Error(f"{dataset}: neither an existing path nor a Hub dataset that can be read ({reason}).") from error
    return Path(folder), Path(folder).name
