"""Average Slope Difference between measured and predicted loss curves (arXiv:2411.10272).

`asd` compares slopes between neighbouring evaluations, in nats per billion tokens; most of that is evaluation noise.
`asd_doubling` compares them between 8 log-spaced knots, in nats per doubling of tokens. `noise_floor` is what either
makes of two seeds of one run: no law can be told from the truth below it.
"""

from dataclasses import dataclass
from itertools import combinations, islice

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from leaderboard.errors import P2Error
from leaderboard.laws.law import BILLION, Array
from leaderboard.logs.contract import COLUMNS, curve_numbers, usable

KNOTS = 8
MIN_ROWS_DOUBLING = KNOTS + 1
MOST_PAIRS = 100


@dataclass(frozen=True)
class Steps:
    """Neighbours on curves: row `left[i]` and the next are `gap[i]` apart; curve j begins at step `opens[j]`."""

    left: NDArray[np.int64]
    gap: Array
    opens: NDArray[np.int64]
    count: NDArray[np.int64]  # steps of each curve

    @staticmethod
    def of(code: NDArray[np.int64], at: Array) -> "Steps":
        """Between rows sorted by curve `code` and place `at`, shape (n,) each."""
        left = np.flatnonzero(np.diff(code) == 0)
        opens = np.flatnonzero(np.diff(code[left], prepend=-1))
        return Steps(left, at[left + 1] - at[left], opens, np.diff(np.append(opens, len(left))))

    def slopes(self, values: Array) -> Array:
        """Slope of `values` (..., n) at every step."""
        return (values[..., self.left + 1] - values[..., self.left]) / self.gap

    def per_curve(self, slopes: Array) -> Array:
        """Mean |slope| of each curve with two rows or more, (..., curves)."""
        return np.asarray(np.add.reduceat(np.abs(slopes), self.opens, axis=-1) / self.count)

    def mean(self, values: Array) -> float:
        """The mean over curves; NaN where none has two rows."""
        return float(self.per_curve(self.slopes(values)).mean()) if len(self.opens) else float("nan")


@dataclass(frozen=True)
class Knots:
    """The means over 8 equal parts of each curve's log2 token range: rows `keep`, the knot of each, and their steps."""

    keep: NDArray[np.bool_]
    knot: NDArray[np.int64]
    count: NDArray[np.int64]
    steps: Steps

    @staticmethod
    def of(code: NDArray[np.int64], tokens: Array) -> "Knots":
        """Of rows sorted by curve and tokens; curves with fewer than nine rows are left out."""
        rows = np.bincount(code) if len(code) else np.array([], dtype=np.int64)
        keep = (rows[code] >= MIN_ROWS_DOUBLING) & (tokens > 0)
        log_t, run = np.log2(tokens[keep]), code[keep]
        opens = np.flatnonzero(np.diff(run, prepend=-1))
        if not len(opens):
            return Knots(keep, run, run, Steps.of(run, log_t))
        low, high = (
            np.repeat(v.reduceat(log_t, opens), np.diff(np.append(opens, len(run)))) for v in (np.minimum, np.maximum)
        )
        part = np.minimum(((log_t - low) / (high - low) * KNOTS).astype(int), KNOTS - 1)
        filled, knot, count = np.unique(run * KNOTS + part, return_inverse=True, return_counts=True)
        return Knots(keep, knot, count, Steps.of(filled // KNOTS, np.bincount(knot, log_t) / count))

    def means(self, values: Array) -> Array:
        """Mean of `values` (n,) in each knot."""
        return np.asarray(np.bincount(self.knot, values[self.keep], len(self.count)) / self.count)


def asd(tokens: ArrayLike, loss: ArrayLike, predicted: ArrayLike, run_id: ArrayLike | None = None) -> float:
    """Mean over runs of the mean |slope difference| between neighbouring evaluations.

    All of shape (n,): tokens as counts, losses in nats per token. Rows may come in any order; runs with fewer than two
    rows are skipped, and NaN comes back when none has two. Raises P2Error on NaN, or on equal tokens in a run.
    """
    code, t, measured, fitted = _sorted_rows(tokens, loss, predicted, run_id)
    return Steps.of(code, t / BILLION).mean(measured - fitted)


def asd_doubling(tokens: ArrayLike, loss: ArrayLike, predicted: ArrayLike, run_id: ArrayLike | None = None) -> float:
    """The same between 8 log-spaced knots of each run, in nats per doubling of tokens.

    A knot is the mean of log2 tokens and of loss in one of 8 equal parts of the run's log2 token range. Runs with fewer
    than nine rows are skipped, and NaN comes back when none has nine.
    """
    code, t, measured, fitted = _sorted_rows(tokens, loss, predicted, run_id)
    knots = Knots.of(code, t)
    return knots.steps.mean(knots.means(measured - fitted))


def noise_floor(frame: pd.DataFrame) -> dict[str, float]:
    """`asd` and `asd_doubling` between runs that differ in their seed alone, mean over pairs; NaN without pairs.

    Of one experiment, 100 pairs at most.
    """
    same = [c.name for c in COLUMNS if c.defines_run and c.name != "seed" and c.name in frame]
    floors: dict[str, list[float]] = {"asd": [], "asd_doubling": []}
    rows = usable(frame)
    if "seed" in rows and len(rows):
        for _, runs in rows.groupby(same, dropna=False, observed=True) if same else [((), rows)]:
            pairs = combinations((curve for _, curve in runs.groupby(curve_numbers(runs))), 2)
            for one, other in islice(pairs, MOST_PAIRS):
                if one["seed"].iloc[0] == other["seed"].iloc[0]:
                    continue  # one run, measured by two contributors
                both = one.merge(other, on="tokens", suffixes=("", "_other"))
                pair = (both["tokens"], both["loss"], both["loss_other"])
                floors["asd"].append(asd(*pair))
                floors["asd_doubling"].append(asd_doubling(*pair))
    return {name: float(pd.Series(values, dtype=float).mean()) for name, values in floors.items()}


def _sorted_rows(
    tokens: ArrayLike, loss: ArrayLike, predicted: ArrayLike, run_id: ArrayLike | None
) -> tuple[NDArray[np.int64], Array, Array, Array]:
    """Run codes and columns, ordered by run and tokens."""
    t, measured, fitted = (np.asarray(v, dtype=float) for v in (tokens, loss, predicted))
    if not t.shape == measured.shape == fitted.shape:
        raise P2Error(f"asd: tokens, loss and predicted differ in shape: {t.shape}, {measured.shape}, {fitted.shape}.")
    for name, v in (("tokens", t), ("loss", measured), ("predicted", fitted)):
        if not np.isfinite(v).all():
            bad = int((~np.isfinite(v)).sum())
            raise P2Error(f"asd: {name} has {bad} value(s) that are not finite; drop those rows.")
    code = np.zeros(len(t), dtype=np.int64) if run_id is None else pd.factorize(np.asarray(run_id))[0]
    order = np.lexsort((t, code))
    code, t = code[order], t[order]
    if ((np.diff(t) == 0) & (np.diff(code) == 0)).any():
        raise P2Error("asd: two rows of one run have the same tokens; a slope needs two different token counts.")
    return code, t, measured[order], fitted[order]
