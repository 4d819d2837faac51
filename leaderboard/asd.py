"""Average Slope Difference between measured and predicted loss curves (arXiv:2411.10272).

`asd` compares slopes between neighbouring evaluations, in nats per billion tokens; most of that is evaluation noise.
`asd_doubling` compares them between 8 log-spaced knots, in nats per doubling of tokens. `noise_floor` is what either
makes of two seeds of one run: no law can be told from the truth below it.
"""

from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from leaderboard.errors import P2Error
from leaderboard.law import BILLION, Array
from leaderboard.runlog import COLUMNS, curve_numbers, usable

KNOTS = 8
MIN_ROWS_DOUBLING = KNOTS + 1


def asd(tokens: ArrayLike, loss: ArrayLike, predicted: ArrayLike, run_id: ArrayLike | None = None) -> float:
    """Mean over runs of the mean |slope difference| between neighbouring evaluations.

    All of shape (n,): tokens as counts, losses in nats per token. Rows may come in any order; runs with fewer than two
    rows are skipped, and NaN comes back when none has two. Raises P2Error on NaN, or on equal tokens in a run.
    """
    code, t, measured, fitted = _sorted_rows(tokens, loss, predicted, run_id)
    return _mean_over_runs(code, t / BILLION, measured - fitted)


def asd_doubling(tokens: ArrayLike, loss: ArrayLike, predicted: ArrayLike, run_id: ArrayLike | None = None) -> float:
    """The same between 8 log-spaced knots of each run, in nats per doubling of tokens.

    A knot is the mean of log2 tokens and of loss in one of 8 equal parts of the run's log2 token range. Runs with fewer
    than nine rows are skipped, and NaN comes back when none has nine.
    """
    code, t, measured, fitted = _sorted_rows(tokens, loss, predicted, run_id)
    rows = np.bincount(code) if len(code) else np.array([])
    keep = (rows[code] >= MIN_ROWS_DOUBLING) & (t > 0)
    if not keep.any():
        return float("nan")
    runs, code = np.unique(code[keep], return_inverse=True)
    log_t, gap = np.log2(t[keep]), (measured - fitted)[keep]
    low, high = np.full(len(runs), np.inf), np.full(len(runs), -np.inf)
    np.minimum.at(low, code, log_t)
    np.maximum.at(high, code, log_t)
    part = np.minimum(((log_t - low[code]) / (high - low)[code] * KNOTS).astype(int), KNOTS - 1)
    knot = code * KNOTS + part
    count = np.bincount(knot, minlength=len(runs) * KNOTS)
    filled = np.flatnonzero(count)
    mean_t = np.bincount(knot, log_t, len(runs) * KNOTS)[filled] / count[filled]
    mean_gap = np.bincount(knot, gap, len(runs) * KNOTS)[filled] / count[filled]
    return _mean_over_runs(filled // KNOTS, mean_t, mean_gap)


def noise_floor(frame: pd.DataFrame) -> dict[str, float]:
    """`asd` and `asd_doubling` between runs that differ in their seed alone, mean over pairs; NaN without pairs."""
    same = [c.name for c in COLUMNS if c.defines_run and c.name != "seed" and c.name in frame]
    found: dict[str, list[float]] = {"asd": [], "asd_doubling": []}
    rows = usable(frame)
    if "seed" in rows and len(rows):
        for _, runs in rows.groupby(same, dropna=False, observed=True) if same else [((), rows)]:
            for one, other in combinations((curve for _, curve in runs.groupby(curve_numbers(runs))), 2):
                if one["seed"].iloc[0] == other["seed"].iloc[0]:
                    continue  # one run, measured by two contributors
                both = one.merge(other, on="tokens", suffixes=("", "_other"))
                pair = (both["tokens"], both["loss"], both["loss_other"])
                found["asd"].append(asd(*pair))
                found["asd_doubling"].append(asd_doubling(*pair))
    return {name: float(pd.Series(values, dtype=float).mean()) for name, values in found.items()}


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


def _mean_over_runs(code: NDArray[np.int64], at: Array, gap: Array) -> float:
    """Mean over runs of the mean |d gap / d at| between neighbours; `code` sorted, NaN when no run has two rows."""
    inside = np.diff(code) == 0
    if not inside.any():
        return float("nan")
    slope, run = np.abs(np.diff(gap)[inside] / np.diff(at)[inside]), code[1:][inside]
    count = np.bincount(run)
    return float((np.bincount(run, slope)[count > 0] / count[count > 0]).mean())
