"""Do intervals cover what they promise? Every ordered hold-out that the logs allow, answered as a budget would be.

A fold keeps runs of one kind everywhere on a text (larger or smaller sizes, higher or lower rates, later tokens, a
family, two at once). Laws, weights and refits come from the other rows alone; `growth`, the error that grows with
distance, and the scale of the whole from the other folds: no choice sees what it is judged on. Judged are every
held-out loss, and the tokens at which a curve had the losses of its quarter, middle and end. Coverage is the mean over
curves; losses are nats per token.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from leaderboard.errors import P2Error
from leaderboard.laws.law import Array
from leaderboard.logs.contract import GROUP, curve_numbers, usable
from leaderboard.planning.budget import Question, intervals
from leaderboard.planning.mixture import GROWTH, Mixture
from leaderboard.planning.recommend import mixture
from leaderboard.ranking.tracks import groups
from leaderboard.studies.crossval import Fold, folds

LEVELS = (0.8, 0.95)
TARGETS = (0.25, 0.5, 1.0)  # shares of a curve's evaluations at which its loss is asked for
LATER = {"second half": 0.5, "last three quarters": 0.25}  # shares of the tokens that are left to the fit
NO_GROWTH = dict.fromkeys(GROWTH, 0.0)
COLUMNS = (
    "kind", "fold", *GROUP, "l_pruned_known", "curve", "far_size", "far_rate", "far_tokens", "new_family", "rmse",
    "loss_80", "loss_95", "tokens_80", "tokens_95",
)  # fmt: skip


@dataclass(frozen=True)
class Trial:
    """One group of one fold: what was fitted without it, and its rows."""

    fold: Fold
    known: bool
    fitted: Mixture
    rows: pd.DataFrame


def calibrate(frame: pd.DataFrame) -> pd.DataFrame:
    """One row a fold, held-out curve and whether l_pruned is known: COLUMNS.

    `far_*` are the mean log distances of the curve's rows, `rmse` in nats, the rest shares of its losses and targets
    that lie in the 80 and 95 % intervals. Raises P2Error where the logs allow no fold.
    """
    rows = usable(frame).reset_index(drop=True)
    trials = []
    for _, text in groups(rows, GROUP[2:]) if len(rows) else []:
        text = text.reset_index(drop=True).assign(curve=curve_numbers(text))
        for fold in ordered(text):
            trials += list(_trials(text, fold))
    if not trials:
        raise P2Error("calibration: no run of these logs can be held out; two sizes or two rates a base are needed.")
    missed = pd.concat([_missed(trial) for trial in trials], ignore_index=True)
    judged = []
    for trial in trials:
        others = missed[(missed["fold"] != trial.fold.name) | (missed["kind"] != trial.fold.kind)]
        judged += list(_judge(tuned(trial.fitted, fit_growth(others), fit_scale(others)), trial))
    return pd.DataFrame(judged, columns=list(COLUMNS))


def ordered(text: pd.DataFrame) -> Iterator[Fold]:
    """The folds of crossval.py but for whole methods, later tokens in two more ways, and tokens with size and rate."""
    every = [fold for fold in folds(text) if fold.kind != "method"]
    yield from every
    share = text["tokens"] / text.groupby("curve")["tokens"].transform("max")
    for name, left in LATER.items():
        late = (share > left).to_numpy()
        yield Fold("tokens", name, late, late)
        for fold in every:
            if fold.kind in ("size", "rate"):
                yield Fold(f"{fold.kind} and tokens", f"{fold.name}, {name}", fold.held | late, fold.test & late)


def _trials(text: pd.DataFrame, fold: Fold) -> Iterator[Trial]:
    """Every group of a fold with and without l_pruned, where what is left can be fitted."""
    if not fold.test.any() or fold.held.all():
        return
    for key, rows in groups(text[fold.test]):
        for known in (True, False):
            try:
                fitted = mixture(text[~fold.held], key, None, known)
            except P2Error:
                continue
            if fitted.has_interval:
                yield Trial(fold, known, fitted, rows)


def tuned(fitted: Mixture, growth: Mapping[str, float], scale: float = 1.0) -> Mixture:
    """The same laws and refits with another growth and scale of the error."""
    other = replace(fitted, growth=growth, scale=scale)
    vars(other)["resamples"] = fitted.resamples
    return other


def _missed(trial: Trial) -> pd.DataFrame:
    """Each row's squared error, its variance without growth, and what a growth of 1 on each axis would add."""
    none = tuned(trial.fitted, NO_GROWTH).band(trial.rows)
    error = trial.rows["loss"].to_numpy(dtype=float) - none.center
    variance = np.where(error < 0, none.below, none.above) ** 2
    grown = {
        axis: tuned(trial.fitted, NO_GROWTH | {axis: 1.0}).band(trial.rows).below ** 2 - none.below**2
        for axis in GROWTH
    }
    about = {"kind": trial.fold.kind, "fold": trial.fold.name, "curve": trial.rows["curve"].to_numpy()}
    return pd.DataFrame({**about, "error": error**2, "variance": variance, "t": none.quantile(LEVELS[0]), **grown})


def fit_growth(missed: pd.DataFrame) -> dict[str, float]:
    """For every axis the least growth with which its folds err no more than they say: mean of error over variance 1.

    Curves count alike, in folds that lie outside on this axis alone.
    """
    out = {}
    for axis in GROWTH:
        others = missed[[name for name in GROWTH if name != axis]].sum(axis=1)
        mine = missed[(missed[axis] > 0) & (others <= missed[axis] * 0)]
        out[axis] = _least(mine, axis) if len(mine) else GROWTH[axis]
    return out


def fit_scale(missed: pd.DataFrame) -> float:
    """The scale with which the 80 % interval covers 80 % of the held-out losses, curves counting alike."""
    away = np.sqrt(missed["error"] / missed["variance"]) / missed["t"]
    share = 1 / missed.groupby(["kind", "fold", "curve"])["error"].transform("size")
    order = np.argsort(away.to_numpy(), kind="stable")
    reached = np.cumsum(share.to_numpy()[order]) / share.sum()
    return float(away.to_numpy()[order][np.searchsorted(reached, LEVELS[0])])


def _least(rows: pd.DataFrame, axis: str) -> float:
    grid = np.linspace(0.0, 1.0, 101)
    curves = [rows["kind"], rows["fold"], rows["curve"]]
    for growth in grid:
        ratio = rows["error"] / (rows["variance"] + growth**2 * rows[axis])
        if float(ratio.groupby(curves).mean().mean()) <= 1:
            return float(growth)
    return float(grid[-1])


def _judge(fitted: Mixture, trial: Trial) -> Iterator[dict[str, object]]:
    """The rows of COLUMNS for one trial, a held-out curve each."""
    band, far = fitted.band(trial.rows), fitted.range.distances(trial.rows)
    loss = trial.rows["loss"].to_numpy(dtype=float)
    ends = {level: band.ends(level) for level in LEVELS}
    new = fitted.group["family"] not in fitted.range.families
    for curve in trial.rows["curve"].unique():
        own = (trial.rows["curve"] == curve).to_numpy()
        inside = {
            f"loss_{level * 100:.0f}": float(((low <= loss) & (loss <= high))[own].mean())
            for level, (low, high) in ends.items()
        }
        yield (
            {"kind": trial.fold.kind, "fold": trial.fold.name, **fitted.group, "l_pruned_known": trial.known}
            | {"curve": int(curve), "new_family": new}
            | {f"far_{axis}": float(d[own].mean()) for axis, d in far.items()}
            | {"rmse": float(np.sqrt(((band.center - loss)[own] ** 2).mean())), **inside}
            | tokens_covered(fitted, trial.rows[own], trial.known)
        )


def tokens_covered(fitted: Mixture, curve: pd.DataFrame, known: bool) -> dict[str, float]:
    """Shares of a curve's targets whose tokens lie in the intervals of a budget asked for that loss: `tokens_80` and
    `tokens_95`. `known`: the budget is told l_pruned."""
    curve = curve.sort_values("tokens")
    first = curve.iloc[0]
    covered: list[list[bool]] = []
    for share in TARGETS:
        row = curve.iloc[max(round(share * len(curve)) - 1, 0)]
        asked = Question(
            family=str(first["family"]), method=str(first["method"]), rate=float(first["rate"]), n0=float(first["n0"]),
            l0=float(first["l0"]), l_pruned=float(first["l_pruned"]) if known else None,
            target_loss=float(row["loss"]),
        )  # fmt: skip
        ends = intervals(fitted, asked)
        tokens = float(row["tokens"])
        covered.append([end is not None and end[0] <= tokens <= end[1] for end in ends])
    share_80, share_95 = np.mean(covered, axis=0)
    return {"tokens_80": float(share_80), "tokens_95": float(share_95)}


def summary(judged: pd.DataFrame) -> pd.DataFrame:
    """Coverage over all curves and by kind of distance, with and without l_pruned: curves, rmse, and the four shares.

    Means over curves; `interior` folds lie between what was measured.
    """
    figures = ["rmse", "loss_80", "loss_95", "tokens_80", "tokens_95"]
    rows = [_mean_row("all", known, own, figures) for known, own in judged.groupby("l_pruned_known")]
    for (kind, known), own in judged.groupby(["kind", "l_pruned_known"], sort=False):
        rows.append(_mean_row(str(kind), known, own, figures))
    return pd.DataFrame(rows)


def _mean_row(kind: str, known: object, own: pd.DataFrame, figures: list[str]) -> dict[str, object]:
    rmse = float(np.sqrt((own["rmse"] ** 2).mean()))
    return {"kind": kind, "l_pruned_known": bool(known), "curves": len(own), **own[figures].mean(), "rmse": rmse}


def by_distance(judged: pd.DataFrame, edges: Array | None = None) -> pd.DataFrame:
    """The same by how far outside the curve lay: inside, and up to a factor 1.5, 3 and more on its farthest axis."""
    edges = np.log([1.001, 1.5, 3.0]) if edges is None else edges
    names = ["inside", "to 1.5 x", "to 3 x", "farther"]
    far = judged[["far_size", "far_rate", "far_tokens"]].max(axis=1).to_numpy()
    place = np.searchsorted(edges, far)
    rows = [
        _mean_row(names[i], known, own, ["rmse", "loss_80", "loss_95", "tokens_80", "tokens_95"])
        for i in range(len(names))
        for known, own in judged[place == i].groupby("l_pruned_known")
    ]
    return pd.DataFrame(rows)
