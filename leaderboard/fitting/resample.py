"""How sure a fit is, by whole runs: the rows of one curve are not independent, so runs are what is drawn.

`runs`: every run gets an exponential weight (the Bayesian bootstrap, Rubin 1981), so no draw loses a size or a rate.
`wild`: every run's residuals keep or flip their sign as one (wild cluster bootstrap, Cameron et al. 2008). Both refit
every draw and widen its departure by the degrees of freedom that the fit used between runs. Seeded.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from leaderboard.errors import unknown_name
from leaderboard.fitting.compressed import Curves, compress, plain
from leaderboard.fitting.identifiability import fitted_rows
from leaderboard.fitting.one_step_draws import predict_draws
from leaderboard.fitting.problem import TINY, Problem
from leaderboard.fitting.result import Fit
from leaderboard.fitting.solve import one_thread
from leaderboard.fitting.variable_projection import level_weight, project
from leaderboard.laws.law import Array, Columns

METHODS = ("runs", "wild")
DRAWS = 1000
NODES = 16  # a run in a resample: interpolation error far below sampling error
BATCH = 100  # draws at once, fewer where that would be more than so many values at once
AT_ONCE = 200_000
SETTLED = 1e-6
LEAST_FREEDOM = 0.1
LEFT_OUT = 1e-6


@dataclass(frozen=True)
class Resamples:
    """Refitted parameters, one row a draw, and what spreads around the mean curve.

    `widen` multiplies departures from the fit (degrees of freedom); `freedom` are those left between runs. `run_sd` and
    `row_sd` are the spread of whole runs and of evaluations within a run, in nats, around the fitted law.
    """

    fit: Fit
    drawn: Array  # (draws, parameters)
    widen: float
    freedom: float
    run_sd: float
    row_sd: float

    def predict(self, frame: Columns) -> Array:
        """Losses of every draw, shape (draws, n), already widened around the fit's own."""
        center = self.fit.predict(frame)
        return np.asarray(center + self.widen * (predict_draws(self.fit, self.drawn, frame) - center))

    def quantile(self, level: float) -> float:
        """Student's t for a two-sided interval."""
        return float(stdtrit(self.freedom, 0.5 + level / 2))

    def interval(self, frame: Columns, level: float = 0.9, new_run: bool = False) -> tuple[Array, Array]:
        """Interval of the mean curve at each row, or of one evaluation of a new run; two arrays of shape (n,).

        Student's t on the spread of the draws: with few runs their percentiles are too narrow.
        """
        spread = self.predict(frame).std(axis=0)
        if new_run:
            spread = np.sqrt(spread**2 + self.run_sd**2 + self.row_sd**2)
        half = self.quantile(level) * spread
        center = self.fit.predict(frame)
        return center - half, center + half


def resample(fitted: Fit, frame: pd.DataFrame, method: str = "wild", draws: int = DRAWS, seed: int = 0) -> Resamples:
    """Refit `fitted`'s law to `draws` resamples of the runs of the frame it was fitted to."""
    if method not in METHODS:
        raise unknown_name("resampling method", method, METHODS, "resample")
    rows, held, _ = fitted_rows(fitted.law, frame)
    curves = compress(rows, fitted.law.inputs, NODES)
    problem = Problem(fitted.law, curves, fitted.loss.startswith("log-"), None, held)
    start = np.array([fitted.params[q.name] for q in fitted.law.nonlinear])[:, None]
    leverage = run_leverage(fitted, rows, held)
    freedom = max(1.0, curves.runs - float(leverage.sum()))
    weight, residual = level_weight(problem), _residuals(problem, fitted)
    residual = residual / np.sqrt(np.maximum(1 - leverage, LEAST_FREEDOM))[curves.run]
    rng = np.random.default_rng(seed)
    refits = []
    with np.errstate(all="ignore"), one_thread():
        for size in _batches(draws, len(curves.loss)):
            theta = np.repeat(start, size, axis=1)
            if method == "runs":
                share = np.sqrt(rng.exponential(size=(size, curves.runs)))[:, curves.run]
                refits.append(project(problem, theta, weight * share, settled=SETTLED))
            else:
                sign = rng.choice([-1.0, 1.0], size=(size, curves.runs))[:, curves.run]
                target = curves.apply(fitted.law.value(fitted.params, problem.x)) + sign * residual
                refits.append(project(problem, theta, weight[None], target, settled=SETTLED))
    run_sd, row_sd = _spread(rows, fitted, freedom)
    return Resamples(
        fitted,
        np.concatenate([np.concatenate([theta.T, c], axis=1) for theta, c, _ in refits]),
        float(np.sqrt(curves.runs / freedom)) if method == "runs" else 1.0,
        freedom,
        run_sd,
        row_sd,
    )


def refits(fitted: Fit, frame: pd.DataFrame, keep: Array) -> Array:
    """Parameters (draws, parameters) of `fitted`'s law refitted to the frame with each run weighted by `keep`, shape
    (draws, runs); a weight of 0 leaves a run out, but for a millionth, so that no parameter loses its last row.
    """
    rows, held, _ = fitted_rows(fitted.law, frame)
    curves = compress(rows, fitted.law.inputs, NODES)
    problem = Problem(fitted.law, curves, fitted.loss.startswith("log-"), None, held)
    start = np.array([fitted.params[q.name] for q in fitted.law.nonlinear])[:, None]
    weight, share = level_weight(problem), np.sqrt(np.maximum(keep, LEFT_OUT))[:, curves.run]
    parts, at = [], 0
    with np.errstate(all="ignore"), one_thread():
        for size in _batches(len(keep), len(curves.loss)):
            theta, c, _ = project(
                problem, np.repeat(start, size, axis=1), weight * share[at : at + size], settled=SETTLED
            )
            parts.append(np.concatenate([theta.T, c], axis=1))
            at += size
    return np.concatenate(parts)


def run_leverage(fitted: Fit, rows: pd.DataFrame, held: Array) -> Array:
    """How far each run's mean pulls the fit to itself, shape (runs,): the diagonal of the hat matrix between runs."""
    problem = Problem(fitted.law, plain(rows), False, None, held)
    z = np.array([fitted.params[q.name] for q in fitted.law.parameters])
    jacobian = problem.residuals(z)[1][:, problem.free]
    q, _ = np.linalg.qr(jacobian / np.maximum(np.linalg.norm(jacobian, axis=0), TINY))
    run = problem.curves.run
    sums = np.stack([np.bincount(run, column) for column in q.T])
    return np.asarray((sums**2).sum(axis=0) / np.bincount(run))


def _batches(draws: int, rows: int) -> list[int]:
    most = max(1, min(BATCH, AT_ONCE // rows))
    return [min(most, draws - i) for i in range(0, draws, most)]


def _residuals(problem: Problem, fitted: Fit) -> Array:
    """Measured minus fitted, shape (rows,), in the space of the targets."""
    predicted = fitted.law.value(fitted.params, problem.x)
    return problem.curves.loss - problem.curves.apply(predicted)


def _spread(rows: pd.DataFrame, fitted: Fit, freedom: float) -> tuple[float, float]:
    """Standard deviations of whole runs and of rows within a run around the fitted law."""
    curves: Curves = plain(rows)
    error = curves.losses - fitted.predict(curves.frame)
    mean = np.bincount(curves.run, error) / np.bincount(curves.run)
    within = error - mean[curves.run]
    return float(np.sqrt((mean**2).sum() / freedom)), float(np.sqrt((within**2).mean()))
