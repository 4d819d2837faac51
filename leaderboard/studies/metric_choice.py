"""Does ASD rank better? How often the best law by an in-sample metric is the best one on rows held out.

For every cell of a group and held-out track, each law is fitted to the training rows; every metric picks the law it
likes best there. A pick is a hit when no other law has a lower RMSE on the test rows; its regret is the pick's RMSE
over the lowest. Intervals come from exponential weights on whole runs, as in cells.py.
"""

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from leaderboard.errors import FitError, P2Error
from leaderboard.fitting.fit import fit
from leaderboard.fitting.one_step_draws import parameter_draws, predict_draws
from leaderboard.fitting.pooled import lend, marked
from leaderboard.laws.catalogue import LAWS
from leaderboard.laws.law import Array, Law
from leaderboard.logs.contract import GROUP, curve_numbers, usable
from leaderboard.logs.origin import standard
from leaderboard.ranking.asd import KNOTS, MIN_ROWS_DOUBLING
from leaderboard.ranking.scores import HUBER_DELTA, asd_draws
from leaderboard.ranking.tracks import HELD_OUT, groups, split

DRAWS = 100
LEVEL = 0.9
Metric = Callable[[pd.DataFrame, Array, Array, int], Array]  # rows, predicted (draws, n), weight (draws, runs), free


def _mean(value: Array, rows: pd.DataFrame, weight: Array) -> Array:
    """Weighted mean over rows of values (draws, n)."""
    w = weight[:, rows["curve"].to_numpy()]
    return np.asarray((w * value).sum(axis=1) / w.sum(axis=1))


def _error(rows: pd.DataFrame, predicted: Array) -> Array:
    return np.asarray(predicted - rows["loss"].to_numpy(dtype=float))


def rmse(rows: pd.DataFrame, predicted: Array, weight: Array, free: int = 0) -> Array:
    """Root mean squared error of every draw, in nats per token."""
    return np.asarray(np.sqrt(_mean(_error(rows, predicted) ** 2, rows, weight)))


def huber(rows: pd.DataFrame, predicted: Array, weight: Array, free: int = 0) -> Array:
    """Mean Huber(1e-3) term."""
    a = np.abs(_error(rows, predicted))
    return _mean(np.where(a <= HUBER_DELTA, a * a / 2, HUBER_DELTA * (a - HUBER_DELTA / 2)), rows, weight)


def unexplained(rows: pd.DataFrame, predicted: Array, weight: Array, free: int = 0) -> Array:
    """1 - R²."""
    loss = rows["loss"].to_numpy(dtype=float)
    mean = _mean(np.broadcast_to(loss, predicted.shape), rows, weight)
    return rmse(rows, predicted, weight) ** 2 / _mean((loss - mean[:, None]) ** 2, rows, weight)


def aicc(rows: pd.DataFrame, predicted: Array, weight: Array, free: int) -> Array:
    """Corrected Akaike criterion of a least-squares fit with `free` parameters and a variance; rows as independent."""
    n, k = len(rows), free + 1
    return n * 2 * np.log(rmse(rows, predicted, weight)) + 2 * k + 2 * k * (k + 1) / max(n - k - 1, 1)


def slope(rows: pd.DataFrame, predicted: Array, weight: Array, free: int = 0) -> Array:
    """ASD."""
    return asd_draws(rows, predicted, weight)


def slope_doubling(rows: pd.DataFrame, predicted: Array, weight: Array, free: int = 0) -> Array:
    """`asd_doubling`, runs weighted; NaN where a run has fewer than nine rows."""
    order = np.lexsort((rows["tokens"], rows["curve"]))
    run, at = rows["curve"].to_numpy()[order], np.log2(rows["tokens"].to_numpy(dtype=float)[order])
    first = np.flatnonzero(np.diff(run, prepend=-1))
    length = np.diff(np.append(first, len(run)))
    if length.min() < MIN_ROWS_DOUBLING:
        return np.full(len(weight), np.nan)
    low, high = (np.repeat(v.reduceat(at, first), length) for v in (np.minimum, np.maximum))
    knot = run * KNOTS + np.minimum(((at - low) / (high - low) * KNOTS).astype(int), KNOTS - 1)
    starts = np.flatnonzero(np.diff(knot, prepend=-1))
    count = np.diff(np.append(starts, len(knot)))
    gap = np.add.reduceat(_error(rows, predicted)[:, order], starts, axis=1) / count
    middle, owner = np.add.reduceat(at, starts) / count, run[starts]
    inside = np.diff(owner) == 0
    steep = np.abs(np.diff(gap, axis=1) / np.diff(middle))[:, inside]
    firsts = np.flatnonzero(np.diff(owner[1:][inside], prepend=-1))
    per_run = np.add.reduceat(steep, firsts, axis=1) / np.diff(np.append(firsts, steep.shape[1]))
    w = weight[:, owner[1:][inside][firsts]]
    return np.asarray((w * per_run).sum(axis=1) / w.sum(axis=1))


IN_SAMPLE: dict[str, Metric] = {
    "asd": slope,
    "asd_doubling": slope_doubling,
    "r2": unexplained,
    "huber": huber,
    "rmse": rmse,
    "aicc": aicc,
}


def metric_choice(frame: pd.DataFrame, laws: Mapping[str, Law] | None = None, draws: int = DRAWS) -> pd.DataFrame:
    """One row a metric: metric, hits (share of cells) with its 90 % interval (`low`, `high`), regret (geometric mean
    of the pick's held-out RMSE over the lowest) with `regret_low` and `regret_high`, n_cells and by_chance.

    The first draw is the data as they are. Raises P2Error when no cell can be tested.
    """
    laws = {name: law for name, law in (LAWS if laws is None else laws).items() if law.testable(frame)}
    hits: dict[str, list[Array]] = {name: [] for name in IN_SAMPLE}
    regrets: dict[str, list[Array]] = {name: [] for name in IN_SAMPLE}
    for inside, outside in _cells(standard(usable(frame)), laws, draws):
        best = outside.min(axis=0)
        for name, values in inside.items():
            if np.isnan(values).all():
                continue
            picked = outside[np.nanargmin(values, axis=0), np.arange(outside.shape[1])]
            hits[name].append(picked == best)
            regrets[name].append(np.log(picked / best))
    if not hits["rmse"]:
        raise P2Error("rank --metrics: these logs can test no law on rows held out; it takes two sizes or rates.")
    return pd.DataFrame([_row(name, hits[name], regrets[name], len(laws)) for name in IN_SAMPLE if hits[name]])


def _row(name: str, hits: list[Array], regrets: list[Array], laws: int) -> dict[str, object]:
    tails = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    share, regret = np.mean(hits, axis=0), np.exp(np.mean(regrets, axis=0))
    (low, high), (regret_low, regret_high) = (map(float, np.quantile(v, tails)) for v in (share, regret))
    return {
        "metric": name,
        "hits": float(share[0]),
        "low": low,
        "high": high,
        "regret": float(regret[0]),
        "regret_low": regret_low,
        "regret_high": regret_high,
        "n_cells": len(hits),
        "by_chance": 1 / laws,
    }


def _cells(rows: pd.DataFrame, laws: Mapping[str, Law], draws: int) -> list[tuple[dict[str, Array], Array]]:
    """By cell: in-sample metrics, each (laws, draws), and the held-out RMSE (laws, draws)."""
    found = []
    for _, text in groups(rows, GROUP[2:]):
        text = text.assign(curve=curve_numbers(text))
        weight = np.random.default_rng(0).exponential(size=(draws + 1, int(text["curve"].max()) + 1))
        weight[0] = 1.0
        for track in HELD_OUT:
            parts = [(key, group, split(group, track)) for key, group in groups(text)]
            train = pd.concat([group if part is None else group[part.train] for _, group, part in parts])
            for key, group, part in parts:
                if part is not None:
                    judged = [_judge(law, train, key, group[part.test], weight) for law in laws.values()]
                    inside = {m: np.stack([j[0][m] for j in judged]) for m in IN_SAMPLE}
                    found.append((inside, np.stack([j[1] for j in judged])))
    return found


def _judge(
    law: Law, train: pd.DataFrame, key: dict[str, str], test: pd.DataFrame, weight: Array
) -> tuple[dict[str, Array], Array]:
    """In-sample metrics on the group's own training rows, RMSE on its test rows; a failed fit is never picked."""
    never = np.full(len(weight), np.inf)
    joint, rows = lend(law, train, key)
    try:
        fitted = fit(joint, rows)
    except FitError:
        return dict.fromkeys(IN_SAMPLE, never), never
    drawn = parameter_draws(fitted, rows, weight)
    free = len(fitted.law.parameters) - len(fitted.pinned)
    own = train
    for column, name in key.items():
        own = own[(own[column] == name).to_numpy()]
    own, test = marked(joint, own), marked(joint, test)
    predicted = predict_draws(fitted, drawn, own)
    inside = {name: metric(own, predicted, weight, free) for name, metric in IN_SAMPLE.items()}
    return inside, rmse(test, predict_draws(fitted, drawn, test), weight)
