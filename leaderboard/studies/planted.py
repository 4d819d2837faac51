"""Do intervals cover where the truth is known? A law is planted in the design of the logs, and new runs are made of it.

    loss = law(row) + run + row noise        law fitted to the logs, a group at a time

`inside`: a new run of a measured base, at a rate between two that were measured on it. `3 x size`: a base three times
as large as any that was measured, its l0 off the family's power law, at the middle rate. What the damage of a new run
is follows from the measured ones by least squares of ln damage on ln capacity lost and ln n0. Noise is that between
two seeds of one run of the seed. `python -m leaderboard.studies.planted [LOGS]` prints the table; losses are nats per
token.
"""

import sys
from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from leaderboard.errors import P2Error
from leaderboard.laws.catalogue import LAWS
from leaderboard.laws.law import Array, Law
from leaderboard.logs.contract import GROUP, curve_numbers, usable
from leaderboard.planning.bases import loss_at, measured_bases
from leaderboard.planning.recommend import fit_new_model, mixture
from leaderboard.ranking.tracks import groups
from leaderboard.studies.calibration import COVERED, covered

RUN_SD, ROW_SD = 0.005, 0.005  # nats: two seeds of one run differ by .010 RMS over the curve
LARGER = 3.0
PLACES = ("inside", "3 x size")
COLUMNS = ("truth", "draw", "place", *GROUP, "l_pruned_known", "rmse", *COVERED)


def planted(frame: pd.DataFrame, truths: Iterable[str] | None = None, draws: int = 3, seed: int = 0) -> pd.DataFrame:
    """One row a truth, draw of the noise, new run and whether l_pruned is known: COLUMNS.

    `truths` are laws of the catalogue, by default all that the logs can test. Raises P2Error where the logs hold no
    usable row.
    """
    rows = usable(frame).reset_index(drop=True)
    if rows.empty:
        raise P2Error("planted: no usable row (tokens > warmup_tokens, something pruned) in these logs.")
    judged = []
    for _, text in groups(rows, GROUP[2:]):
        text = text.reset_index(drop=True).assign(curve=curve_numbers(text))
        for name in LAWS if truths is None else truths:
            if LAWS[name].testable(text):
                for draw in range(draws):
                    rng = np.random.default_rng([seed, draw])
                    judged += [{"truth": name, "draw": draw, **row} for row in _judged(text, LAWS[name], rng)]
    return pd.DataFrame(judged, columns=list(COLUMNS))


def summary(judged: pd.DataFrame) -> pd.DataFrame:
    """Mean coverage by place, truth and whether l_pruned is known, and over all truths."""
    figures = ["rmse", *COVERED]
    each = judged.groupby(["place", "l_pruned_known", "truth"], sort=False)[figures].mean().reset_index()
    every = judged.groupby(["place", "l_pruned_known"], sort=False)[figures].mean().reset_index().assign(truth="all")
    return pd.concat([every, each], ignore_index=True)[["place", "l_pruned_known", "truth", *figures]]


def new_runs(text: pd.DataFrame, group: pd.DataFrame, place: str) -> list[pd.DataFrame]:
    """The rows of new runs of one family and method, without losses, on the token grid of a run that is there."""
    heads = group.drop_duplicates("curve").sort_values(["n0", "rate"])
    like = group[group["curve"] == group["curve"].iloc[0]].sort_values("tokens")
    damage = _damage(heads)
    if place != "inside":
        ladder = [b for b in measured_bases(text) if b.family == heads["family"].iloc[0]]
        n0 = LARGER * float(text["n0"].max())
        return [_run(like, n0, float(heads["rate"].median()), loss_at(n0, ladder), damage)]
    made = []
    for _, base in heads.groupby("base_model", observed=True):
        rates = np.unique(base["rate"].to_numpy(dtype=float).round(9))
        rates = np.sqrt(rates[1:] * rates[:-1]) if len(rates) > 1 else rates
        made += [_run(like, float(base["n0"].iloc[0]), r, float(base["l0"].iloc[0]), damage) for r in rates]
    return made


def _damage(heads: pd.DataFrame) -> tuple[float, float, float]:
    """ln damage = a + b ln C + c ln n0 over the runs of a group, C = (1 - rate)^-2 - 1."""
    known = heads[heads["l_pruned"] > heads["l0"]]
    capacity = np.log((1 - known["rate"].to_numpy(dtype=float)) ** -2 - 1)
    design = np.stack([np.ones(len(known)), capacity, np.log(known["n0"].to_numpy(dtype=float))], axis=1)
    a, b, c = np.linalg.lstsq(design, np.log((known["l_pruned"] - known["l0"]).to_numpy(dtype=float)), rcond=None)[0]
    return float(a), float(b), float(c)


def _run(like: pd.DataFrame, n0: float, rate: float, l0: float, damage: tuple[float, float, float]) -> pd.DataFrame:
    a, b, c = damage
    l_pruned = l0 + float(np.exp(a + b * np.log((1 - rate) ** -2 - 1) + c * np.log(n0)))
    inner = float((like["n0_nonembedding"] / like["n0"]).iloc[0])
    same = {"n0": n0, "n_pruned": n0 * (1 - rate), "n0_nonembedding": inner * n0}
    return like.assign(**same, rate=rate, l0=l0, l_pruned=l_pruned)


def _judged(text: pd.DataFrame, law: Law, rng: np.random.Generator) -> Iterator[dict[str, object]]:
    """Losses of a truth in place of the measured ones, and what the mixture covers of new runs of it."""
    made, truths = text.copy(), {}
    for key, group in groups(text):
        truth = fit_new_model(law, text, key["family"], key["method"]).fit
        truths[str(key)] = truth
        made.loc[group.index, "loss"] = _measured(truth.predict(group), group["curve"].to_numpy(), rng)
    for key, group in groups(made):
        news = []
        for place in PLACES:
            for run in new_runs(made, group, place):
                loss = _measured(truths[str(key)].predict(run), np.zeros(len(run), dtype=int), rng)
                news.append((place, run.assign(loss=loss)))
        for known in (True, False):
            fitted = mixture(made, key, None, known)
            for place, run in news if fitted.has_interval else []:
                yield {"place": place, **key, "l_pruned_known": known, **covered(fitted, run, known)}


def _measured(predicted: Array, curve: NDArray[np.int64], rng: np.random.Generator) -> Array:
    """Predicted losses (n,) with a level for every curve and noise in every row."""
    level = RUN_SD * rng.normal(size=curve.max() + 1)
    return np.asarray(predicted + level[curve] + ROW_SD * rng.normal(size=len(curve)))


def main() -> None:
    """Print the table."""
    from leaderboard.logs.load import load_logs

    judged = planted(load_logs(*sys.argv[1:2]).frame)
    print(summary(judged).to_string(float_format="{:.3f}".format, index=False))


if __name__ == "__main__":
    main()
