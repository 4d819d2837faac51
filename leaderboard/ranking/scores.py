"""The rows a law is judged on, sorted and sized up once, for all laws and all draws of each.

Rows that no law can tell apart (equal inputs, equal tokens) are predicted once. Metrics of predictions for these
distinct rows cost a few passes over the losses, so ten thousand runs are judged as fast as they are read.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from leaderboard.errors import P2Error
from leaderboard.fitting.compressed import WEIGHT
from leaderboard.fitting.one_step_draws import parameter_slopes, predict_draws
from leaderboard.fitting.result import Fit
from leaderboard.laws.law import BILLION, Array
from leaderboard.logs.contract import curve_numbers
from leaderboard.ranking.asd import Knots, Steps

HUBER_DELTA = 1e-3
EXACT = 5_000_000  # predictions, rows times draws, up to which every draw's ASD is computed whole


@dataclass(frozen=True)
class HeldOut:
    """Test rows, sorted by curve and tokens. `distinct` are those that laws can tell apart, `place` (n,) points."""

    distinct: pd.DataFrame
    place: NDArray[np.int64]
    loss: Array
    curve: NDArray[np.int64]  # the frame's number of each curve with two rows or more
    steps: Steps
    knots: Knots
    weight: Array | None = None  # of each row, where runs are weighed

    @staticmethod
    def of(test: pd.DataFrame, inputs: Iterable[str]) -> "HeldOut":
        """Usable rows with the columns `inputs` that laws read; `family` may be one."""
        code = curve_numbers(test)
        tokens = test["tokens"].to_numpy(dtype=float)
        order = np.lexsort((tokens, code))
        if (np.diff(order) != 1).any():
            test, code, tokens = test.iloc[order], code[order], tokens[order]
        distinct, place = _distinct(test, [c for c in dict.fromkeys(inputs) if c in test])
        steps = Steps.of(code, tokens / BILLION)
        if (steps.gap == 0).any():
            raise P2Error("rank: two rows of one run have the same tokens; a slope needs two different token counts.")
        numbers = test["curve"].to_numpy() if "curve" in test else code
        loss = test["loss"].to_numpy(dtype=float)
        weight = test[WEIGHT].to_numpy(dtype=float) if WEIGHT in test else None
        return HeldOut(distinct, place, loss, numbers[steps.left[steps.opens]], steps, Knots.of(code, tokens), weight)

    def metrics(self, predicted: Array) -> dict[str, float]:
        """All metrics of losses predicted for the distinct rows."""
        error = predicted[self.place] - self.loss
        squared = float(error @ error)
        a = np.abs(error)
        small = np.minimum(a, HUBER_DELTA)
        apart = self.loss - self.loss.mean()
        spread = float(apart @ apart)
        return {
            "asd": self.steps.mean(error),
            "asd_doubling": self.knots.steps.mean(self.knots.means(error)),
            "r2": 1 - squared / spread if spread > 0 else float("nan"),
            "huber": float((small * (a - small / 2)).mean()),
            "rmse": float(np.sqrt(squared / len(error) if self.weight is None else self._weighed(error))),
        }

    def _weighed(self, error: Array) -> float:
        return float(np.average(error**2, weights=self.weight))

    def asd_draws(self, fitted: Fit, drawn: Array, weight: Array, most: int = EXACT) -> Array:
        """ASD of drawn parameters (draws, parameters) with runs weighted (draws, curves of the frame), shape (draws,).

        Where that takes more than `most` predictions, to first order: with many runs a draw is close to the fit.
        """
        if not len(self.curve):
            return np.full(len(weight), np.nan)
        w = weight[:, self.curve]
        if len(drawn) * len(self.place) <= most:
            predicted = predict_draws(fitted, drawn, self.distinct)[:, self.place]
            per_curve = self.steps.per_curve(self.steps.slopes(predicted - self.loss))
            return np.asarray((w * per_curve).sum(axis=1) / w.sum(axis=1))
        slopes = self.steps.slopes(fitted.predict(self.distinct)[self.place] - self.loss)
        toward = self._mean_gradient(np.sign(slopes)) @ parameter_slopes(fitted, self.distinct)
        z = np.array([fitted.params[q.name] for q in fitted.law.parameters])
        return np.asarray(w @ self.steps.per_curve(slopes) / w.sum(axis=1) + (drawn - z) @ toward)

    def _mean_gradient(self, sign: Array) -> Array:
        """How the mean ASD moves with the prediction for each distinct row."""
        push = sign / self.steps.gap / np.repeat(self.steps.count, self.steps.count) / len(self.curve)
        at = np.zeros(len(self.place))
        at[self.steps.left + 1] = push
        at[self.steps.left] -= push
        return np.asarray(np.bincount(self.place, at, len(self.distinct)), dtype=float)


def _distinct(test: pd.DataFrame, columns: list[str]) -> tuple[pd.DataFrame, NDArray[np.int64]]:
    """The rows that differ in some column, and for each row its like among them."""
    key, size = pd.factorize(test["tokens"])[0], 0
    for c in columns:
        level, values = pd.factorize(test[c], use_na_sentinel=False)
        key, size = key * len(values) + level, len(values)
        if size > 1:
            key = pd.factorize(key)[0]
    place, first = pd.factorize(key)
    if len(first) > len(test) / 2:
        return test[columns], np.arange(len(test))
    opens = np.empty(len(first), dtype=np.int64)
    opens[place[::-1]] = np.arange(len(test))[::-1]
    return test[columns].iloc[opens], place.astype(np.int64)


def asd_draws(test: pd.DataFrame, predicted: Array, weight: Array) -> Array:
    """ASD of every draw, shape (draws,), its runs weighted: nats per billion tokens."""
    order = np.lexsort((test["tokens"], test["curve"]))
    curve = test["curve"].to_numpy()[order]
    steps = Steps.of(curve, test["tokens"].to_numpy(dtype=float)[order] / BILLION)
    if not len(steps.opens):
        return np.full(len(weight), np.nan)
    per_curve = steps.per_curve(steps.slopes(predicted[:, order] - test["loss"].to_numpy(dtype=float)[order]))
    w = weight[:, curve[steps.left[steps.opens]]]
    return np.asarray((w * per_curve).sum(axis=1) / w.sum(axis=1))
