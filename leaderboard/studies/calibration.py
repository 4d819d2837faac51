"""Do intervals cover what they promise? Every ordered hold-out that the logs allow, answered as a budget would be.

A fold keeps runs of one kind everywhere on a text (larger or smaller sizes, higher or lower rates, later tokens, a
family, two at once). Laws, weights and refits come from the other rows alone; the width (mixture.py), a scale and the
error that grows with distance, from the other folds, with and without l_pruned apart: no choice sees what it is judged
on. Judged are every
held-out loss, and the tokens at which a curve had the losses of its quarter, middle and end. Coverage is the mean over
curves; losses are nats per token.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from leaderboard.errors import P2Error
from leaderboard.laws.law import Array
from leaderboard.logs.contract import GROUP, curve_numbers, usable
from leaderboard.planning.budget import Question, intervals
from leaderboard.planning.mixture import AXES, WITH_DAMAGE, WITHOUT_DAMAGE, Mixture, Width
from leaderboard.planning.recommend import mixture
from leaderboard.ranking.tracks import groups
from leaderboard.studies.crossval import Fold, folds

LEVELS = (0.8, 0.95)
TARGETS = (0.25, 0.5, 1.0)  # shares of a curve's evaluations at which its loss is asked for
LATER = {"second half": 0.5, "last three quarters": 0.25, "last seven eighths": 0.125}  # shares left to the fit
NO_GROWTH = dict.fromkeys(AXES, 0.0)
ROUNDS = 2
GROWTHS = np.linspace(0.0, 0.6, 61)  # tried
COVERED = ("loss_80", "loss_95", "tokens_80", "tokens_95")
COLUMNS = (
    "kind", "fold", *GROUP, "l_pruned_known", "curve", "far_size", "far_rate", "far_tokens", "new_family", "rmse",
    *COVERED,
)  # fmt: skip


@dataclass(frozen=True)
class Trial:
    """One group of one fold: what was fitted without it, and its rows."""

    fold: Fold
    known: bool
    fitted: Mixture
    rows: pd.DataFrame


def hold_outs(frame: pd.DataFrame) -> list[Trial]:
    """Every group of every ordered hold-out, answered without it. Raises P2Error where the logs allow none."""
    rows = usable(frame).reset_index(drop=True)
    trials = []
    for _, text in groups(rows, GROUP[2:]) if len(rows) else []:
        text = text.reset_index(drop=True).assign(curve=curve_numbers(text))
        for fold in ordered(text):
            trials += list(trials_of(text, fold))
    if not trials:
        raise P2Error("calibration: no run of these logs can be held out; two sizes or two rates a base are needed.")
    return trials


def calibrate(trials: Sequence[Trial]) -> pd.DataFrame:
    """One row a fold, held-out curve and whether l_pruned is known: COLUMNS.

    `far_*` are the mean log distances of the curve's rows, `rmse` in nats, the rest shares of its losses and targets
    that lie in the 80 and 95 % intervals. The width of a fold's intervals is that of all other folds.
    """
    missed = _missed_of(trials)
    fold_widths: dict[tuple[str, str, bool], Width] = {}
    judged = []
    for trial in trials:
        kind, fold, known = key = (trial.fold.kind, trial.fold.name, trial.known)
        if key not in fold_widths:
            other = (missed["fold"] != fold) | (missed["kind"] != kind)
            fold_widths[key] = fit_width(missed[other & (missed["known"] == known)], known)
        judged += list(_judge(tuned(trial.fitted, fold_widths[key]), trial))
    return pd.DataFrame(judged, columns=list(COLUMNS))


def widths(trials: Sequence[Trial]) -> pd.DataFrame:
    """The widths that all folds together ask for, a row with and one without l_pruned: scale, and growth on each axis.

    The constants of mixture.py are those of the seed.
    """
    missed = _missed_of(trials)
    fits = [(known, fit_width(rows, bool(known))) for known, rows in missed.groupby("known", sort=False)]
    return pd.DataFrame([{"l_pruned_known": bool(known), "scale": w.scale, **w.growth} for known, w in fits])


def _missed_of(trials: Sequence[Trial]) -> pd.DataFrame:
    return pd.concat([_missed(trial) for trial in trials], ignore_index=True)


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


def trials_of(text: pd.DataFrame, fold: Fold) -> Iterator[Trial]:
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


def tuned(fitted: Mixture, width: Width) -> Mixture:
    """The same laws and refits with another width."""
    other = replace(fitted, width=width)
    vars(other)["resamples"] = fitted.resamples
    return other


def _missed(trial: Trial) -> pd.DataFrame:
    """Each row's squared error, its variance without growth, and what a growth of 1 on each axis would add."""
    none = tuned(trial.fitted, Width(1.0, NO_GROWTH)).band(trial.rows)
    error = trial.rows["loss"].to_numpy(dtype=float) - none.center
    variance = np.where(error < 0, none.below, none.above) ** 2
    grown = {
        axis: tuned(trial.fitted, Width(1.0, NO_GROWTH | {axis: 1.0})).band(trial.rows).below ** 2 - none.below**2
        for axis in AXES
    }
    about = {
        "kind": trial.fold.kind,
        "fold": trial.fold.name,
        "known": trial.known,
        "curve": trial.rows["curve"].to_numpy(),
    }
    return pd.DataFrame({**about, "error": error**2, "variance": variance, "t": none.quantile(LEVELS[0]), **grown})


def fit_width(missed: pd.DataFrame, known: bool) -> Width:
    """The width with which 80 % intervals cover 80 % of the held-out losses: on every axis the least growth that does
    so for rows outside on it, then the scale for all, and so again; `known`: whether l_pruned is. Curves count alike.

    More rounds move what is lent to the scale into growth, until intervals inside the data are too narrow.
    """
    scale, growth = _scale(missed, NO_GROWTH), dict((WITH_DAMAGE if known else WITHOUT_DAMAGE).growth)
    for _ in range(ROUNDS):
        for axis in AXES:
            if len(outside := missed[missed[axis] > 0]):
                fine = (g for g in GROWTHS if _scale(outside, NO_GROWTH | {axis: float(g)}) <= scale)
                growth[axis] = float(next(fine, GROWTHS[-1]))
        scale = _scale(missed, growth)
    return Width(scale, growth)


def _scale(missed: pd.DataFrame, growth: Mapping[str, float]) -> float:
    """The scale with which 80 % intervals of this growth cover 80 % of the losses."""
    grown = sum(growth[axis] ** 2 * missed[axis] for axis in AXES)
    away = (np.sqrt(missed["error"] / (missed["variance"] + grown)) / missed["t"]).to_numpy()
    share = (1 / missed.groupby(["kind", "fold", "curve"])["error"].transform("size")).to_numpy()
    order = np.argsort(away, kind="stable")
    reached = np.cumsum(share[order]) / share.sum()
    return float(away[order][np.searchsorted(reached, LEVELS[0])])


def _judge(fitted: Mixture, trial: Trial) -> Iterator[dict[str, object]]:
    """The rows of COLUMNS for one trial, a held-out curve each."""
    far = fitted.range.distances(trial.rows)
    new = fitted.group["family"] not in fitted.range.families
    for curve in trial.rows["curve"].unique():
        own = (trial.rows["curve"] == curve).to_numpy()
        yield {
            "kind": trial.fold.kind,
            "fold": trial.fold.name,
            **fitted.group,
            "l_pruned_known": trial.known,
            "curve": int(curve),
            "new_family": new,
            **{f"far_{axis}": float(d[own].mean()) for axis, d in far.items()},
            **covered(fitted, trial.rows[own], trial.known),
        }


def covered(fitted: Mixture, curve: pd.DataFrame, known: bool) -> dict[str, float]:
    """`rmse` of a curve's losses, and the shares of its losses and of its targets' tokens in the intervals: COVERED.

    `known`: the budget is told l_pruned.
    """
    band, loss = fitted.band(curve), curve["loss"].to_numpy(dtype=float)
    ends = [band.ends(level) for level in LEVELS]
    shares = [float(((low <= loss) & (loss <= high)).mean()) for low, high in ends]
    rmse = float(np.sqrt(((band.center - loss) ** 2).mean()))
    return {"rmse": rmse, **dict(zip(COVERED, (*shares, *tokens_covered(fitted, curve, known)), strict=True))}


def tokens_covered(fitted: Mixture, curve: pd.DataFrame, known: bool) -> tuple[float, float]:
    """Shares of a curve's targets whose tokens lie in the 80 and 95 % intervals of a budget asked for that loss."""
    inside = []
    for question, tokens in targets(curve, known):
        ends = intervals(fitted, question)
        inside.append([end is not None and end[0] <= tokens <= end[1] for end in ends])
    share_80, share_95 = np.mean(inside, axis=0)
    return float(share_80), float(share_95)


def targets(rows: pd.DataFrame, known: bool) -> Iterator[tuple[Question, float]]:
    """The losses of every curve at TARGETS as questions, told l_pruned or not, and the tokens at which it had them."""
    for _, curve in rows.groupby("curve", sort=False):
        curve = curve.sort_values("tokens")
        first = curve.iloc[0]
        for share in TARGETS:
            row = curve.iloc[max(round(share * len(curve)) - 1, 0)]
            question = Question(
                family=str(first["family"]), method=str(first["method"]), rate=float(first["rate"]),
                n0=float(first["n0"]), l0=float(first["l0"]), l_pruned=float(first["l_pruned"]) if known else None,
                target_loss=float(row["loss"]),
            )  # fmt: skip
            yield question, float(row["tokens"])


def summary(judged: pd.DataFrame) -> pd.DataFrame:
    """Coverage over all curves and by kind of distance, with and without l_pruned: curves, rmse, and the four shares.

    Means over curves; `interior` folds lie between what was measured.
    """
    rows = [_mean_row("all", known, own) for known, own in judged.groupby("l_pruned_known")]
    for (kind, known), own in judged.groupby(["kind", "l_pruned_known"], sort=False):
        rows.append(_mean_row(str(kind), known, own))
    return pd.DataFrame(rows)


def _mean_row(kind: str, known: object, own: pd.DataFrame) -> dict[str, object]:
    rmse = float(np.sqrt((own["rmse"] ** 2).mean()))
    return {"kind": kind, "l_pruned_known": bool(known), "curves": len(own), "rmse": rmse, **own[list(COVERED)].mean()}


def by_distance(judged: pd.DataFrame, edges: Array | None = None) -> pd.DataFrame:
    """The same by how far outside the curve lay: inside, and up to a factor 1.5, 3 and more on its farthest axis."""
    edges = np.log([1.001, 1.5, 3.0]) if edges is None else edges
    names = ["inside", "to 1.5 x", "to 3 x", "farther"]
    far = judged[["far_size", "far_rate", "far_tokens"]].max(axis=1).to_numpy()
    place = np.searchsorted(edges, far)
    rows = [
        _mean_row(names[i], known, own)
        for i in range(len(names))
        for known, own in judged[place == i].groupby("l_pruned_known")
    ]
    return pd.DataFrame(rows)
