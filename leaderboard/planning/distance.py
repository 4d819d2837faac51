"""How far a question lies from what was measured, and when the data cannot answer it.

A distance is a log ratio to the nearest end of the measured range, 0 inside. `inside`, `beyond` and `too_far` are the
states of an answer. Within `REACH` of the data (size, rate, tokens) a question is answered, however wide the interval;
outside, it is answered while the 80 % interval of the loss is worth less than a factor `WIDEST` of tokens by the slope
of the curve there. studies/calibration.py measures what intervals cover within reach, studies/reach.py how wrong
answers are by the width of their intervals: within `WIDEST` nine in ten by less than five, above a hundred by thirty.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
import pandas as pd

from leaderboard import words
from leaderboard.laws.law import Array, Columns

SLACK = 1.1  # a question this little outside counts as inside
REACH = {"size": 3.0, "rate": 0.45, "tokens": 10.0}  # size and tokens as factors, the rate itself
WIDEST = 10.0  # tokens at the upper over those at the lower end of the 80 % interval
COLUMN = {"size": "n0", "rate": "rate", "tokens": "tokens"}


class State(StrEnum):
    """Where a question lies."""

    INSIDE = "inside"
    BEYOND = "beyond"
    TOO_FAR = "too_far"


@dataclass(frozen=True)
class Beyond:
    """One way in which a question lies outside the runs behind its answer: `value` against the range that they have."""

    what: str  # size, rate, tokens
    value: float
    low: float
    high: float

    @property
    def factor(self) -> float:
        """How many times outside; 1 inside."""
        return max(1.0, self.value / self.high, self.low / self.value) if self.value else 1.0

    def sentence(self) -> str:
        """The same in words."""
        unit = {"size": "parameters", "rate": "removed", "tokens": "tokens"}[self.what]
        write = words.share if self.what == "rate" else words.count
        return (
            f"{write(self.value)} {unit} is {words.digits(self.factor, 2)} times outside what was measured, "
            f"{write(self.low)} to {write(self.high)}."
        )


@dataclass(frozen=True)
class Range:
    """What the runs of a method cover: size and tokens as counts, rates as shares, the families; and the largest base
    model measured on the text by any method."""

    size: tuple[float, float]
    rate: tuple[float, float]
    tokens: tuple[float, float]
    families: frozenset[str]
    largest: float

    @staticmethod
    def of(rows: pd.DataFrame, text: pd.DataFrame) -> "Range":
        """Of usable rows of one method, among all usable rows on their text."""
        size, rate, tokens = ((float(rows[c].min()), float(rows[c].max())) for c in COLUMN.values())
        families = frozenset(map(str, rows["family"].unique())) if "family" in rows else frozenset()
        return Range(size, rate, tokens, families, float(text["n0"].max()))

    def distances(self, frame: Columns) -> dict[str, Array]:
        """Log distance of every row (n,) on each axis, 0 inside; a lower rate or fewer tokens are less to ask."""
        out = {}
        for axis, column in COLUMN.items():
            value = np.log(np.asarray(frame[column], dtype=float))
            low, high = np.log(getattr(self, axis))
            below = np.maximum(low - value, 0) if axis == "size" else 0.0
            out[axis] = np.maximum(value - high, 0) + below
        return out

    def clipped(self, frame: Mapping[str, Array], axes: tuple[str, ...]) -> dict[str, Array]:
        """The same rows with size or tokens moved to the nearest measured one; parameters kept scale with the size."""
        moved = dict(frame)
        for axis in axes:
            moved[COLUMN[axis]] = np.clip(frame[COLUMN[axis]], *getattr(self, axis))
        if "n_pruned" in frame:
            moved["n_pruned"] = frame["n_pruned"] * moved["n0"] / frame["n0"]
        return moved

    def factors(self, n0: float, rate: float, tokens: float) -> dict[str, float | bool]:
        """How many times outside on each axis; 1 inside."""
        value = {"size": n0, "rate": rate, "tokens": tokens}
        return {axis: Beyond(axis, float(v), *getattr(self, axis)).factor for axis, v in value.items()}

    def ways(self, n0: float, rate: float, tokens: float | None) -> list[Beyond]:
        """The ways in which a question lies outside by more than `SLACK`, the farthest first; no number of tokens is
        nowhere."""
        value = {"size": n0, "rate": rate, "tokens": tokens}
        ways = [Beyond(axis, float(v), *getattr(self, axis)) for axis, v in value.items() if v]
        return sorted((way for way in ways if way.factor > SLACK), key=lambda way: -way.factor)

    def in_reach(self, n0: float, rate: float) -> bool:
        """Whether a size and a rate are always answered."""
        near = self.size[0] / REACH["size"] <= n0 <= REACH["size"] * self.largest
        return near and rate <= max(REACH["rate"], self.rate[1])

    def with_run(self, n0: float, rate: float, tokens: float) -> "Range":
        """The range once a run more is measured."""

        def wider(ends: tuple[float, float], value: float) -> tuple[float, float]:
            return min(ends[0], value), max(ends[1], value)

        size, rates, counts = wider(self.size, n0), wider(self.rate, rate), wider(self.tokens, tokens)
        return replace(self, size=size, rate=rates, tokens=counts, largest=max(self.largest, n0))


def within_reach(most: float, tokens: float | None, tokens_80: tuple[float, float] | None) -> bool:
    """Whether an answer stays within ten times the most tokens measured: itself, or the lower end of its interval.

    A goal that not even the lower end of the band meets is answered too: it cannot be reached.
    """
    least = tokens_80[0] if tokens_80 is not None else tokens
    return least is None or min(least, tokens or least) <= REACH["tokens"] * most
