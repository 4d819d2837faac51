"""What a planned run would look like: the predicted curve with its band, and the measured curves nearest to it.

Losses are nats per token, tokens counts. The band is where one evaluation of one new run falls at the given level.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from leaderboard.logs.contract import curve_numbers
from leaderboard.planning.budget import MOST_TOKENS, Question
from leaderboard.planning.recommend import Predictor

POINTS = 60
LEVEL = 0.8
NEAREST = 3
SLACK = 1.1  # a question this little outside counts as inside
DOUBLING = 0.5  # a rate this much larger is as far away as a base model of twice the size


def outlook(found: Predictor, asked: Question, tokens: float | None, level: float = LEVEL) -> pd.DataFrame:
    """The predicted curve of `asked`: columns tokens, loss, low, high (NaN without an interval), shape (POINTS, 4).

    It spans the measured token range, and `tokens` times three where that is more.
    """
    measured = found.rows["tokens"]
    last = max(float(measured.max()), 3 * (tokens or 0))
    return losses_at(found, asked, np.geomspace(float(measured.min()), last, POINTS), level)


def losses_at(found: Predictor, asked: Question, tokens: ArrayLike, level: float = LEVEL) -> pd.DataFrame:
    """What `asked` is predicted to measure at token counts (n,): columns tokens, loss, low, high, shape (n, 4)."""
    at = np.atleast_1d(np.asarray(tokens, dtype=float))
    curve = asked.curve(at)
    low = high = np.full(len(at), np.nan)
    if found.spread is not None:
        low, high = found.spread.interval(curve, level, new_run=True)
    return pd.DataFrame({"tokens": at, "loss": found.fit.predict(curve), "low": low, "high": high})


@dataclass(frozen=True)
class Beyond:
    """One way in which a question lies outside the runs behind its answer: `asked` against the range that they have."""

    what: str  # size, rate, tokens
    asked: float
    low: float
    high: float

    @property
    def factor(self) -> float:
        """How many times outside."""
        return self.asked / self.high if self.asked > self.high else self.low / self.asked


def beyond(found: Predictor, asked: Question, tokens: float | None) -> list[Beyond]:
    """Where a question lies outside the measured range by more than `SLACK`, the farthest first.

    `tokens` None, no number of them, is what a law says at the most that it is asked about.
    """
    tokens = MOST_TOKENS if tokens is None else tokens
    asks = {"size": ("n0", asked.n0), "rate": ("rate", asked.rate), "tokens": ("tokens", tokens)}
    ranges = [
        Beyond(what, float(value), float(found.rows[column].min()), float(found.rows[column].max()))
        for what, (column, value) in asks.items()
        if value
    ]
    return sorted((b for b in ranges if b.factor > SLACK), key=lambda b: -b.factor)


def nearest_runs(frame: pd.DataFrame, group: dict[str, str], asked: Question, count: int = NEAREST) -> pd.DataFrame:
    """Rows of the `count` runs of the group nearest in ln size and rate, nearest first, with the column `distance`.

    A distance of 1 is a base model of twice the size, or a rate that is 0.5 higher. Empty where the group has no run.
    """
    mine = np.ones(len(frame), dtype=bool)
    for name, value in group.items():
        mine &= (frame[name] == value).to_numpy()
    own = frame[mine]
    curve = curve_numbers(own)
    heads = own.iloc[np.unique(curve, return_index=True)[1]]
    size = np.log2(heads["n0"].to_numpy(dtype=float) / asked.n0)
    rate = (heads["rate"].to_numpy(dtype=float) - asked.rate) / DOUBLING
    far = np.hypot(size, rate)
    near = np.isin(curve, np.argsort(far, kind="stable")[:count])
    rows = own[near].assign(curve=curve[near], distance=far[curve[near]])
    return rows.sort_values(["distance", "curve", "tokens"], ignore_index=True)
