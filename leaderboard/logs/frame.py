"""Many run logs as one frame of the contract's columns, what was left out and why, and which data that is."""

import hashlib
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pandas as pd

from leaderboard.logs.findings import Report


@dataclass(frozen=True)
class Logs:
    """Rows of all good runs, what was left out and why, and which state of the data this is."""

    frame: pd.DataFrame
    quarantined: tuple[Report, ...]
    revision: str  # commit of a Hub dataset, else the first 12 hex digits of the rows' hash
    date: datetime | None  # of the newest run
    source: str
    note: str | None = None  # why these are not the newest, and of when they are
    dataset: str | None = None  # id of the Hub dataset these are of; None for files


def as_logs(
    frame: pd.DataFrame,
    bad: tuple[Report, ...],
    source: str,
    revision: str | None = None,
    dataset: str | None = None,
) -> Logs:
    """Good rows and the reports of bad files as logs; without a revision, the rows' hash stands for it."""
    date = frame["created_at"].max().to_pydatetime() if len(frame) else None
    return Logs(frame, bad, revision or data_hash(frame), date, source, dataset=dataset)


def data_hash(frame: pd.DataFrame) -> str:
    """First 12 hex digits of the sha256 over all rows and columns, whatever the order of the rows."""
    rows = np.sort(pd.util.hash_pandas_object(frame, index=False).to_numpy())
    return hashlib.sha256(rows.tobytes()).hexdigest()[:12]
