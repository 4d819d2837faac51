"""How a law is tested: which rows of a group are fitted and which are predicted, by track.

`fit` in sample; `tokens` the first 80 % of each curve for the last 20 %; `size` all but the largest n0 for the
largest; `rate` all but every base model's highest rate for those. A track that the data cannot test has no split.
Runs that were imported, that trained some parameters only (LoRA), or whose loss was measured under another protocol
are groups of their own (logs/origin.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from leaderboard.laws.law import Array
from leaderboard.logs.contract import GROUP, curve_numbers, usable
from leaderboard.logs.origin import ORIGIN, PROTOCOL, belongs, origin, origins, protocol

HELD_OUT = ("tokens", "size", "rate")
TRACKS = ("fit", *HELD_OUT)
MIN_ROWS_TOKENS = 10
TRAIN_SHARE = 0.8


@dataclass(frozen=True)
class Split:
    """Row masks of one group's frame, shape (n,) each. In the `fit` track both are all rows."""

    train: NDArray[np.bool_]
    test: NDArray[np.bool_]


def groups(frame: pd.DataFrame, columns: Sequence[str] = GROUP) -> list[tuple[dict[str, str], pd.DataFrame]]:
    """The groups of usable rows, in order of their names: losses of different groups share no fit.

    A group that is not of p2zoo's own, fully trained runs has a key more, its `origin`; one beside which the same text
    was measured under another protocol has its `protocol`.
    """
    columns = [c for c in columns if c in frame]
    marks = {} if origins(frame) == [""] else {ORIGIN: origin(frame)}
    marks |= {PROTOCOL: ways} if (ways := protocol(frame)).any() else {}
    parts = _named_groups(frame, {c: frame[c] for c in columns} | {name: pd.Series(v) for name, v in marks.items()})
    named = [({name: value for name, value in key.items() if value or name not in marks}, rows) for key, rows in parts]
    return sorted(named, key=lambda part: part[0].get(ORIGIN, ""))


def _named_groups(frame: pd.DataFrame, columns: dict[str, pd.Series]) -> list[tuple[dict[str, str], pd.DataFrame]]:
    """The groups by the values of some columns, (n,) each."""
    if not columns:
        return [({}, frame)]
    names, combined = [], np.zeros(len(frame), dtype=np.int64)
    for values in columns.values():
        column = values.astype(str if values.isna().any() else values.dtype).astype("category")
        texts = column.cat.categories.astype(str).to_numpy(dtype=object)
        names.append(np.unique(texts))  # categories are ordered as they were first read
        combined = combined * len(names[-1]) + np.searchsorted(names[-1], texts)[column.cat.codes]
    named = []
    for number in np.unique(combined):
        mine = combined == number
        place = np.unravel_index(number, [len(n) for n in names])
        key = {c: str(n[i]) for c, n, i in zip(columns, names, place, strict=True)}
        named.append((key, frame if mine.all() else frame[mine]))
    return named


def on_text(frame: pd.DataFrame, group: dict[str, str]) -> pd.DataFrame:
    """The rows that may share a fit with a group's: of its origin and objective, on its text, measured as it was."""
    same = [(frame[name] == group[name]).to_numpy() for name in GROUP[2:]]
    return frame[np.logical_and.reduce([*same, belongs(frame, group)])]


def split(group: pd.DataFrame, track: str) -> Split | None:
    """Split the usable rows of one group for `track`; None where the data cannot test it."""
    return _SPLITS[track](group)


def _in_sample(group: pd.DataFrame) -> Split | None:
    everything = np.ones(len(group), dtype=bool)
    return Split(everything, everything)


def _later_tokens(group: pd.DataFrame) -> Split | None:
    """Runs of fewer than ten usable rows are in neither part."""
    curve = curve_numbers(group)
    order = np.lexsort((group["tokens"].to_numpy(), curve))
    first = np.flatnonzero(np.diff(curve[order], prepend=-1))
    n, place = np.bincount(curve)[curve], np.empty(len(group), dtype=np.int64)
    place[order] = 1 + np.arange(len(group)) - np.repeat(first, np.diff(np.append(first, len(group))))
    long = n >= MIN_ROWS_TOKENS
    train = long & (place <= np.ceil(TRAIN_SHARE * n - 1e-9))
    return Split(train, long & ~train) if long.any() else None


def _larger_size(group: pd.DataFrame) -> Split | None:
    n0 = group["n0"].to_numpy()
    largest = n0 == n0.max()
    return Split(~largest, largest) if len(np.unique(n0[~largest])) >= 2 else None


def _higher_rate(group: pd.DataFrame) -> Split | None:
    rate = group["rate"].to_numpy(dtype=float).round(9)
    base = pd.factorize(group["base_model"], use_na_sentinel=False)[0]
    highest, lowest = (
        by_base[base] for by_base in (_extremes(rate, base, np.maximum), _extremes(rate, base, np.minimum))
    )
    test = (rate == highest) & (lowest < highest)
    return Split(~test, test) if test.any() else None


def _extremes(values: Array, group: NDArray[np.int64], which: np.ufunc) -> Array:
    """The largest (or smallest) value of each group, shape (groups,)."""
    out = np.full(int(group.max()) + 1, -np.inf if which is np.maximum else np.inf)
    which.at(out, group, values)
    return out


_SPLITS = {"fit": _in_sample, "tokens": _later_tokens, "size": _larger_size, "rate": _higher_rate}


def alone(frame: pd.DataFrame) -> list[str]:
    """A sentence for each run that stands alone in its group, and what would pair it."""
    said = []
    for key, rows in groups(usable(frame)):
        if rows["run_id"].nunique() == 1:
            text = key.get("eval_data", "its text")
            said.append(
                f"{rows['run_id'].iloc[0]} stands alone ({key.get('family')}, {key.get('method')}, on {text}): no "
                "other run shares its fit. A run at another rate, or of another size of its family, measured on the "
                "same text pairs it; so does the yardstick (--on yardstick), which every run of p2zoo measures."
            )
    return said
