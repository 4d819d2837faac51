"""How a law is tested: which rows of a group are fitted and which are predicted, by track.

`fit` in sample; `tokens` the first 80 % of each curve for the last 20 %; `size` all but the largest n0 for the
largest; `rate` all but every base model's highest rate for those. A track that the data cannot test has no split.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from leaderboard.runlog import GROUP, curve_numbers

HELD_OUT = ("tokens", "size", "rate")
TRACKS = ("fit", *HELD_OUT)
MIN_ROWS_TOKENS = 10
TRAIN_SHARE = 0.8


@dataclass(frozen=True)
class Split:
    """Row masks of one group's frame, shape (n,) each. In the `fit` track both are all rows."""

    train: NDArray[np.bool_]
    test: NDArray[np.bool_]


def groups(frame: pd.DataFrame) -> list[tuple[dict[str, str], pd.DataFrame]]:
    """The groups of usable rows, in order of their names: losses of different groups share no fit."""
    columns = [c for c in GROUP if c in frame]
    if not columns:
        return [({}, frame)]
    names = [frame[c].astype(str) for c in columns]  # categories would be ordered as they were first read
    by_name = frame.groupby(names, sort=True)
    return [(dict(zip(columns, map(str, key), strict=True)), rows) for key, rows in by_name]


def split(group: pd.DataFrame, track: str) -> Split | None:
    """Split the usable rows of one group for `track`; None where the data cannot test it."""
    return _SPLITS[track](group)


def _in_sample(group: pd.DataFrame) -> Split | None:
    everything = np.ones(len(group), dtype=bool)
    return Split(everything, everything)


def _later_tokens(group: pd.DataFrame) -> Split | None:
    """Runs of fewer than ten usable rows are in neither part."""
    by_curve = group.groupby(curve_numbers(group))["tokens"]
    n, place = by_curve.transform("size").to_numpy(), by_curve.rank(method="first").to_numpy()
    long = n >= MIN_ROWS_TOKENS
    train = long & (place <= np.ceil(TRAIN_SHARE * n - 1e-9))
    return Split(train, long & ~train) if long.any() else None


def _larger_size(group: pd.DataFrame) -> Split | None:
    n0 = group["n0"].to_numpy()
    largest = n0 == n0.max()
    return Split(~largest, largest) if len(np.unique(n0[~largest])) >= 2 else None


def _higher_rate(group: pd.DataFrame) -> Split | None:
    rate = group["rate"].round(9)
    by_base = rate.groupby(group["base_model"], observed=True)
    test = ((by_base.transform("nunique") >= 2) & (rate == by_base.transform("max"))).to_numpy()
    return Split(~test, test) if test.any() else None


_SPLITS = {"fit": _in_sample, "tokens": _later_tokens, "size": _larger_size, "rate": _higher_rate}
