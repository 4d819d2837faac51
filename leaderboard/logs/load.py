"""`load_logs`: run logs from the bundled seed, a file, a folder or a Hub dataset, bad files quarantined.

Whatever the source, the good rows come as one frame of the contract's columns, and every other file with its findings.
"""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pandas as pd

from leaderboard.errors import P2Error
from leaderboard.logs.check import check_files, log_files, without_repeats
from leaderboard.logs.findings import Report
from leaderboard.logs.frame import Logs, as_logs

MANY = 500  # files of a folder from which their rows are kept in one (cache.py)
SEED = Path(__file__).parents[1] / "seed" / "runs"
BUNDLED = {"smollm2": SEED.parent / "smollm2"}  # other logs that come with the code, by name


def load_logs(source: str | Path | None = None, revision: str | None = None) -> Logs:
    """Read run logs. `source` None is the bundled seed, an existing path a file or folder, else a Hub dataset id.

    `smollm2` names the bundled logs of a real model (leaderboard/seed/README.md); write ./smollm2 for a folder.

    `revision` is a branch, tag, commit or refs/pr/N of a Hub dataset. Raises P2Error when nothing is found there.
    """
    if source is None:
        return _read(SEED, "bundled seed")
    if (bundled := BUNDLED.get(str(source))) is not None:
        return _read(bundled, f"bundled {source}")
    if Path(source).exists():
        if revision is not None:
            raise P2Error(f"{source}: a revision belongs to a Hub dataset, not to a path.")
        return _read(Path(source), str(source))
    name = str(source)
    if name.startswith((".", "/", "~")) or name.count("/") > 1 or name.endswith(".parquet"):
        raise P2Error(f"{name}: neither an existing path nor a Hub dataset, which would be owner/name.")
    from leaderboard.logs.hub import read_dataset

    return read_dataset(str(source), revision)


def join_logs(sources: Sequence[Logs]) -> tuple[pd.DataFrame, tuple[Report, ...]]:
    """The rows of several sources as one frame, and what is left out: runs that repeat one of an earlier source."""
    frame = pd.concat([logs.frame.assign(place=place) for place, logs in enumerate(sources)], ignore_index=True)
    keys = ["place", "run_id", "contributor"]
    heads = frame[keys].astype({"run_id": str, "contributor": str})
    files = heads.groupby(keys, sort=False).ngroup()
    names = [f"{sources[place].source}: run {run}" for place, run, _ in heads.drop_duplicates().to_numpy()]
    frame = frame.drop(columns="place").assign(file=files)
    joined = without_repeats(frame, names, [[] for _ in names])
    return joined.frame.drop(columns="file"), tuple(report for report in joined.reports if not report.ok)


def _read(path: Path, source: str) -> Logs:
    files = log_files(path)
    if not files:
        raise P2Error(f"{path}: no parquet files here. A run folder of `p2zoo run` or a folder of logs is expected.")
    root = path if path.is_dir() else path.parent
    names = [f.relative_to(root).as_posix() for f in files]
    if len(files) < MANY:
        return as_logs(*_checked(files, names), source=source)
    from leaderboard.logs.cache import content_hash, judges, kept_folder, read_kept, write_kept

    kept = kept_folder() / "folders" / f"{content_hash(files, names)}.{judges()}.parquet"
    if (found := read_kept(kept)) is None:
        found = _checked(files, names)
        with suppress(OSError):  # no place to keep it
            write_kept(kept, *found)
    return as_logs(*found, source=source)


def _checked(files: list[Path], names: list[str]) -> tuple[pd.DataFrame, tuple[Report, ...]]:
    checked = check_files(files, names)
    return checked.frame.drop(columns="file"), tuple(r for r in checked.reports if not r.ok)
