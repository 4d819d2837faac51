"""What other runs would have given, fast: weighted-run draws of a fit by one Gauss-Newton step.

Draw b gives run g the weight w_bg ~ Exp(1), the Bayesian bootstrap over whole runs (Rubin 1981). With each run's
J'J and J'r at the optimum, the draw's parameters are one step away: z - (sum_g w_bg J_g'J_g)^-1 sum_g w_bg J_g'r_g.
resample.py refits instead, where an interval is the answer itself.
"""

import numpy as np
import pandas as pd

from leaderboard.fitting.compressed import Curves, Members, plain
from leaderboard.fitting.identifiability import enters, fitted_rows
from leaderboard.fitting.problem import TINY, Problem
from leaderboard.fitting.result import Fit
from leaderboard.laws.law import Array, Columns

WILD = 100.0  # nats: what a draw predicts where it runs away
RIDGE = 1e-9  # of the scaled normal matrix: keeps a flat direction where it is


def parameter_draws(fitted: Fit, rows: pd.DataFrame, weight: Array, curves: Curves | None = None) -> Array:
    """Parameters (draws, parameters) of a least-squares fit to `rows` under run weights (draws, curves).

    The column `curve` of `rows` numbers the columns of `weight`.
    """
    held = np.array([np.nan] * len(fitted.law.parameters))
    for i, q in enumerate(fitted.law.parameters):
        if q.name in fitted.pinned or (q.pin is not None and not q.pin.of):
            held[i] = fitted.params[q.name]
    curves = _curves_of(fitted, rows, curves)
    problem = Problem(fitted.law, curves, False, None, held)
    z = np.array([fitted.params[q.name] for q in fitted.law.parameters])
    low, high = problem.bounds
    move = problem.free[(z > low)[problem.free] & (z < high)[problem.free]]
    with np.errstate(all="ignore"):
        r, jacobian = problem.residuals(z)
    scale = np.maximum(np.linalg.norm(jacobian[:, move], axis=0), TINY)
    j = jacobian[:, move] / scale
    starts = np.flatnonzero(np.diff(curves.run, prepend=-1))
    slope = np.add.reduceat(j * r[:, None], starts)
    normal = np.add.reduceat(j[:, :, None] * j[:, None, :], starts)
    if curves.members is None:
        w = weight[:, curves.frame["curve"].to_numpy()[starts]]
        right = w @ slope
    else:
        w, right = _merged_weight(curves.members, j, slope, weight)
    left = np.einsum("bg,gij->bij", w, normal) + RIDGE * np.eye(len(move))
    drawn = np.repeat(z[None], len(weight), axis=0)
    drawn[:, move] -= np.linalg.solve(left, right[:, :, None])[:, :, 0] / scale
    return np.asarray(np.clip(drawn, low, high))


def _curves_of(fitted: Fit, rows: pd.DataFrame, curves: Curves | None) -> Curves:
    """The runs that were fitted, in nodes where they are at hand."""
    if curves is not None and set(fitted.law.inputs) <= set(curves.frame):
        if fitted.n_rows == curves.evaluations:
            return curves
        if (kept := curves.where(enters(fitted.law, curves.frame))) is not None:
            return kept
    return plain(fitted_rows(fitted.law, rows)[0])


def _merged_weight(members: Members, j: Array, slope: Array, weight: Array) -> tuple[Array, Array]:
    """Weights (draws, lots) of merged runs' normal matrices, and the draws' right sides (draws, parameters).

    G runs with one f share J = sqrt(G) R df, so run g adds w_g J'J / G and w_g (J'r / G - J'(z_g - mean z) / sqrt(G)).
    """
    count = np.bincount(members.lot)
    order = np.argsort(members.lot, kind="stable")
    own = weight[:, members.curve[order]]
    w = np.add.reduceat(own, np.concatenate([[0], np.cumsum(count)[:-1]]), axis=1) / count
    shaped = j.reshape(len(count), -1, j.shape[1]) / np.sqrt(count)[:, None, None]
    runs = np.split(order, np.cumsum(count)[:-1])
    apart = np.concatenate([members.apart[own_runs] @ slopes for own_runs, slopes in zip(runs, shaped, strict=True)])
    return w, w @ slope - own @ apart


def predict_draws(fitted: Fit, drawn: Array, frame: Columns) -> Array:
    """Losses (draws, n) of drawn parameters (draws, parameters)."""
    law = fitted.law
    x, p = law.read(frame), len(law.nonlinear)
    with np.errstate(all="ignore"):
        excess = np.einsum("bk,kbn->bn", drawn[:, p:], law.basis(drawn[:, :p].T[:, :, None], x))
        losses = law.offset(x) + np.where(law.domain(x), excess, 0.0)
    return np.asarray(np.nan_to_num(losses, nan=WILD, posinf=WILD, neginf=-WILD).clip(-WILD, WILD))


def parameter_slopes(fitted: Fit, frame: pd.DataFrame) -> Array:
    """How the predicted losses move with each parameter, shape (n, parameters)."""
    law = fitted.law
    x, p = law.read(frame), len(law.nonlinear)
    z = np.array([fitted.params[q.name] for q in law.parameters])
    with np.errstate(all="ignore"):
        by_theta = np.einsum("k,pkn->pn", z[p:], law.jacobian(z[:p, None], x))
        slopes = np.concatenate([by_theta, law.basis(z[:p, None], x)]).T
    return np.asarray(np.nan_to_num(np.where(law.domain(x)[:, None], slopes, 0.0), posinf=0.0, neginf=0.0))
