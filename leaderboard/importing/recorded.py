"""One run as its own program logged it: named columns of numbers, rows in the order of the file.

Columns are kept sparse, since most rows of a training log name a few of many metrics. Nothing is interpreted here:
which column is the held-out loss is build.py's, what the formats look like readers.py's.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leaderboard.laws.law import Array

MOST_NAMES = 20_000  # different columns; more is no training log
_PUNCTUATION = re.compile(r"[^0-9a-z]+")


def plain_name(name: str) -> str:
    """A column's name as it is compared: `Eval/Loss` and `eval_loss` are one."""
    return _PUNCTUATION.sub("_", name.lower()).strip("_")


@dataclass
class Recorded:
    """The rows of one run: `size` of them, each column as (row numbers, values); `facts` are what stood beside."""

    name: str
    format: str
    size: int = 0
    columns: dict[str, tuple[list[int], list[float]]] = field(default_factory=dict)
    facts: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)  # what the reader itself had to leave out

    def add(self, row: Mapping[str, Any]) -> None:
        """One more row; what is no number is passed over."""
        at, columns = self.size, self.columns
        for key, value in row.items():
            if type(value) is not float:
                value = number(value)
                if value is None:
                    continue
            column = columns.get(key)
            if column is None:
                if len(columns) >= MOST_NAMES:
                    continue
                column = columns[key] = ([], [])
            column[0].append(at)
            column[1].append(value)
        self.size += 1

    def column(self, name: str) -> Array:
        """A column over all rows, shape (size,), NaN where a row does not name it."""
        rows, values = self.columns[name]
        dense = np.full(self.size, np.nan)
        dense[rows] = values
        return dense

    def named(self, name: str) -> NDArray[np.int64]:
        """Rows that name a column, in order, shape (n,)."""
        return np.array(self.columns[name][0], dtype=np.int64)


def number(value: Any) -> float | None:
    """A number, or text that is one (newer Trainers print '2.31'); None for anything else. True is no number."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def recorded(name: str, format: str, rows: Iterable[Any]) -> Recorded:
    """Rows that are mappings, as one run; others are passed over."""
    run = Recorded(name, format)
    for row in rows:
        if isinstance(row, Mapping):
            run.add(row)
    return run
