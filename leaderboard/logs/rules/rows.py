"""Rows of many logs at once, as rules look at them, and what a rule is."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from leaderboard.logs.contract import BY_NAME, COLUMNS
from leaderboard.logs.findings import ERROR

Mask = NDArray[np.bool_]
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Rows:
    """Rows of many logs, file after file: `file` (n,) numbers them and `first` (n,) points at each file's first row."""

    frame: pd.DataFrame
    file: NDArray[np.int64]
    first: NDArray[np.int64]

    def number(self, name: str) -> Array:
        """A numeric column as floats, null as NaN."""
        return self.frame[name].to_numpy(dtype=float, na_value=np.nan)

    def text(self, name: str, judge: Callable[[str], bool]) -> Mask:
        """Rows whose text `judge` says yes to; each different text is judged once, null never."""
        column = self.frame[name].astype("category")
        verdict: Mask = np.array([judge(str(v)) for v in column.cat.categories] + [False])
        judged: Mask = verdict[column.cat.codes]
        return judged

    @property
    def starts(self) -> Mask:
        """Rows that open a file."""
        opens: Mask = self.first == np.arange(len(self.first))
        return opens

    def differs(self, name: str) -> Mask:
        """Rows whose value in a column is not that of their file's first row; null equals null."""
        column = self.frame[name]
        if isinstance(column.dtype, pd.CategoricalDtype):
            values = column.cat.codes.to_numpy()
        else:
            values = column.to_numpy(dtype="datetime64[us]" if BY_NAME[name].kind == "time" else None)
        head = values[self.first]
        other: Mask = (values != head) & ~(pd.isna(values) & pd.isna(head))
        return other

    def heads(self) -> tuple["Rows", NDArray[np.int64]]:
        """Each file's first row and those that differ from it outside the curve, and their places among all rows."""
        kept = self.starts
        for column in COLUMNS:
            if not column.curve:
                kept = kept | self.differs(column.name)
        at = np.flatnonzero(kept)
        return Rows(self.frame.iloc[at], self.file[at], np.searchsorted(at, self.first[at])), at


@dataclass(frozen=True)
class Rule:
    """`broken` marks rows; the first one in a file becomes that file's finding, with the value at `where`."""

    code: str
    where: str
    broken: Callable[[Rows], Mask]
    allowed: str
    fix: str
    severity: str = ERROR

    @property
    def every_row(self) -> bool:
        """Whether it looks at what changes within a run; else a run's first row, and any unlike it, will do."""
        return BY_NAME[self.where].curve or self.code in ("varies", "unfinished")
