"""Many run logs as one frame of the contract's columns, what was left out and why, and which data that is."""

import hashlib
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
import pandas as pd

from leaderboard.errors import P2Error
from leaderboard.logs.findings import Report
from leaderboard.logs.origin import WORDS

YARDSTICK = "yardstick"  # the held-out text of losses on it
OF_A_TEXT = (*WORDS, "eval_bytes", "eval_data_revision")  # columns that say how a run's own text was measured
OWNER = "owner"  # attribute of a frame: who owns the data set it was read from


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

    def on_yardstick(self) -> "Logs":
        """The same runs by their losses on the yardstick, in nats per byte."""
        return replace(self, frame=on_yardstick(self.frame), source=f"{self.source}, on the yardstick, nats per byte")


def on_yardstick(frame: pd.DataFrame) -> pd.DataFrame:
    """Run-log rows by their losses on the yardstick: loss, l0 and l_pruned in nats per byte, eval_data `yardstick`.

    All runs measure it alike, so the columns of how their own texts were measured are left out, and runs on all texts
    and tokenizers share a fit. Raises P2Error where no row has a loss on it.
    """
    rows = frame[frame[f"{YARDSTICK}_loss"].notna()] if f"{YARDSTICK}_loss" in frame else frame.iloc[:0]
    if rows.empty:
        raise P2Error("yardstick: no run of these logs measured it; runs made before p2zoo had one did not.")
    losses = {name: rows.get(f"{YARDSTICK}_{name}") for name in ("loss", "l0", "l_pruned")}
    known = {name: values for name, values in losses.items() if values is not None}
    text = pd.Categorical([YARDSTICK] * len(rows))
    return rows.drop(columns=[name for name in OF_A_TEXT if name in rows]).assign(**known, eval_data=text)


def as_logs(
    frame: pd.DataFrame,
    bad: tuple[Report, ...],
    source: str,
    revision: str | None = None,
    dataset: str | None = None,
) -> Logs:
    """Good rows and the reports of bad files as logs; without a revision, the rows' hash stands for it."""
    date = frame["created_at"].max().to_pydatetime() if len(frame) else None
    if dataset is not None:
        frame.attrs[OWNER] = dataset.partition("/")[0]  # who answers for it, and may weigh what he has
    return Logs(frame, bad, revision or data_hash(frame), date, source, dataset=dataset)


def data_hash(frame: pd.DataFrame) -> str:
    """First 12 hex digits of the sha256 over all rows and columns, whatever the order of the rows."""
    rows = np.sort(pd.util.hash_pandas_object(frame, index=False).to_numpy())
    return hashlib.sha256(rows.tobytes()).hexdigest()[:12]
