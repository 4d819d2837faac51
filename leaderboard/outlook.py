"""What a planned run would look like: the predicted curve with its band, and the measured curves nearest to it.

Losses are nats per token, tokens counts. The band is where one evaluation of one new run falls at the given level.
"""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from leaderboard.budget import Question
from leaderboard.recommend import Predictor
from leaderboard.runlog import curve_numbers

POINTS = 60
LEVEL = 0.8
NEAREST = 3
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


def nearest_runs(frame: pd.DataFrame, group: dict[str, str], asked: Question, count: int = NEAREST) -> pd.DataFrame:
    """Rows of the `count` runs of the group nearest in ln size and rate, nearest first, with the column `distance`.

    A distance of 1 is a base model of twice the size, or a rate that is 0.5 higher. Empty where the group has no run.
    """
    own = frame
    for name, value in group.items():
        own = own[(own[name] == value).to_numpy()]
    own = own.assign(curve=curve_numbers(own))
    heads = own.drop_duplicates("curve")
    size = np.log2(heads["n0"].to_numpy(dtype=float) / asked.n0)
    rate = (heads["rate"].to_numpy(dtype=float) - asked.rate) / DOUBLING
    far = pd.DataFrame({"curve": heads["curve"].to_numpy(), "distance": np.hypot(size, rate)})
    near = far.nsmallest(count, "distance")
    return near.merge(own, on="curve").sort_values(["distance", "curve", "tokens"], ignore_index=True)
