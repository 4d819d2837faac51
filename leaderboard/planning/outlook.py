"""What a planned run would look like: the predicted curve with its band, and the measured curves nearest to it.

Losses are nats per token, tokens counts. The band is where one evaluation of one new run falls at the given level.
"""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from leaderboard.logs.contract import GROUP, curve_numbers
from leaderboard.logs.origin import PROTOCOL, protocol, standard
from leaderboard.planning.budget import MOST_TOKENS, Question
from leaderboard.planning.distance import WIDEST, Beyond, State, within_reach
from leaderboard.planning.mixture import Mixture

POINTS = 60
LEVEL = 0.8
NEAREST = 3
LOSSES = np.array([False, True, True, True])  # of tokens, loss, low, high
DOUBLING = 0.5  # a rate this much larger is as far away as a base model of twice the size


def outlook(fitted: Mixture, question: Question, tokens: float | None, level: float = LEVEL) -> pd.DataFrame:
    """The predicted curve of `question`: columns tokens, loss, low, high (NaN without an interval), state; POINTS rows.

    It spans the measured token range, and `tokens` times three where that is more.
    """
    least, most = fitted.range.tokens
    return losses_at(fitted, question, np.geomspace(least, max(most, 3 * (tokens or 0)), POINTS), level)


def losses_at(fitted: Mixture, question: Question, tokens: ArrayLike, level: float = LEVEL) -> pd.DataFrame:
    """What `question` is predicted to measure at token counts (n,): columns tokens, loss, low, high, state, n rows.

    Where the state is too_far there is no loss: NaN.
    """
    at = np.atleast_1d(np.asarray(tokens, dtype=float))
    curve = question.curve(at)
    low = high = np.full(len(at), np.nan)
    if fitted.has_interval:
        low, high = fitted.band(curve).ends(level)
    state = states(fitted, curve, question.family)
    rows = pd.DataFrame({"tokens": at, "loss": fitted.predict(curve), "low": low, "high": high})
    return rows.mask(np.repeat((state == State.TOO_FAR)[:, None], 4, axis=1) & LOSSES).assign(state=state)


def states(fitted: Mixture, curve: pd.DataFrame, family: str | None = None) -> NDArray[np.object_]:
    """The state of every predicted row (n,), by the rule that a budget of these tokens has."""
    new = (family or fitted.group["family"]) not in fitted.range.families
    wide = fitted.span(curve) > np.log(WIDEST)
    out = []
    for (n0, rate, tokens), far in zip(curve[["n0", "rate", "tokens"]].to_numpy(dtype=float), wide, strict=True):
        near = fitted.range.in_reach(n0, rate) and within_reach(fitted.range.tokens[1], tokens, None)
        outside = new or bool(fitted.range.ways(n0, rate, tokens))
        out.append(State.TOO_FAR if far and not near else State.BEYOND if outside else State.INSIDE)
    return np.array(out, dtype=object)


def beyond(fitted: Mixture, question: Question, tokens: float | None) -> list[Beyond]:
    """Where a question lies outside the measured range by more than `SLACK`, the farthest first.

    `tokens` None, no number of them, is what a law says at the most that it is asked about.
    """
    return fitted.range.ways(question.n0, question.rate, MOST_TOKENS if tokens is None else tokens)


def nearest_runs(frame: pd.DataFrame, group: dict[str, str], question: Question, count: int = NEAREST) -> pd.DataFrame:
    """Rows of the `count` runs of the group nearest in ln size and rate, nearest first, with the column `distance`.

    A distance of 1 is a base model of twice the size, or a rate that is 0.5 higher. Empty where the group has no run.
    """
    frame = standard(frame)
    mine = [(frame[name] == group[name]).to_numpy() for name in GROUP]
    mine += [protocol(frame) == group[PROTOCOL]] if PROTOCOL in group else []
    return nearest(frame[np.logical_and.reduce(mine)], question.n0, question.rate, count)


def nearest(own: pd.DataFrame, n0: float, rate: float, count: int) -> pd.DataFrame:
    """Rows of the `count` runs of `own` nearest to a size and rate, as `nearest_runs` gives them."""
    curve = curve_numbers(own)
    heads = own.iloc[np.unique(curve, return_index=True)[1]]
    size = np.log2(heads["n0"].to_numpy(dtype=float) / n0)
    far = np.hypot(size, (heads["rate"].to_numpy(dtype=float) - rate) / DOUBLING)
    near = np.isin(curve, np.argsort(far, kind="stable")[:count])
    rows = own[near].assign(curve=curve[near], distance=far[curve[near]])
    return rows.sort_values(["distance", "curve", "tokens"], ignore_index=True)
