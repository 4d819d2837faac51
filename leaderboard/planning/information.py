"""What runs tell about a fitted law, to first order, and how that narrows a token budget (Bayesian linear design).

Around a fit the evaluations of a run are J z + u + e: J the slopes of the law by its parameters z, u the run's own
level (sd `run_sd`), e noise (sd `row_sd`). A run adds the information J'V^-1 J, V = row_sd^2 I + run_sd^2 11', and the
posterior covariance of z is the inverse of prior plus all runs' (Chaloner & Verdinelli 1995). The prior is wide: start
values for exponents, ten times their size for coefficients. It counts where the runs cannot tell parameters apart, also
those that the fit had to hold. A budget D solves miss(z, D) = 0, so ln D has slopes -(d miss/dz) / (d miss/d ln D).
Where several laws answer together, D and d miss/d ln D are those of their mean; the variance is the mean over laws.
"""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from leaderboard.fitting.pooled import SharedFit, marked
from leaderboard.fitting.result import Fit
from leaderboard.laws.law import Array
from leaderboard.logs.contract import curve_numbers
from leaderboard.planning.budget import Predicts, Question

WIDE = 10.0  # prior sd of a coefficient, in units of its own size
H = 1e-4  # step of ln tokens


@dataclass(frozen=True)
class Knowledge:
    """Precision (q, q) of a fit's parameters in units of their prior sd `scale` (q,), which is 0 for constants.

    Where families lend each other rows the parameters are those of the joint fit.
    """

    shared: SharedFit
    scale: Array
    run_sd: float
    row_sd: float
    precision: Array

    def information(self, rows: pd.DataFrame) -> Array:
        """J'V^-1 J, summed over runs, of the evaluations that the rows are (with `family`), shape (q, q)."""
        j, run = slopes(self.shared.joint, rows) * self.scale, curve_numbers(rows)
        length = np.bincount(run)
        level = np.stack([np.bincount(run, column) for column in j.T], axis=1)
        shared = self.run_sd**2 / (self.row_sd**2 + length * self.run_sd**2)
        return np.asarray((j.T @ j - level.T @ (shared[:, None] * level)) / self.row_sd**2)

    def miss_slopes(self, question: Question, tokens: float) -> Array:
        """Slopes (q,) of how far the question's goal is missed at so many tokens."""
        at = np.array([float(tokens)])
        by_z = slopes(self.shared.joint, question.curve(at).assign(family=question.family))[0]
        if question.target is None:
            by_z = by_z - slopes(self.shared.joint, question.curve(2 * at).assign(family=question.family))[0]
        return np.asarray(by_z * self.scale)


def steepness(predictor: Predicts, question: Question, tokens: float) -> float:
    """How fast the miss falls at so many tokens, in nats an e-fold; 0 where it does not fall."""
    at = float(tokens) * np.exp([-H, H])
    miss = question.miss(predictor.predict, at)
    return max(0.0, float(miss[0] - miss[1]) / (2 * H))


def knowledge(shared: SharedFit, run_sd: float, row_sd: float) -> Knowledge:
    """What the runs behind a fit say beside the prior."""
    scale = _prior(shared.joint, shared.rows)
    prior = Knowledge(shared, scale, run_sd, row_sd, np.eye(len(scale)))
    return replace(prior, precision=prior.precision + prior.information(shared.rows))


def variances(precision: Array, questions: Array) -> Array:
    """Variances of ln tokens, shape (questions,), for their slopes (questions, q)."""
    return np.asarray(np.einsum("qi,iq->q", questions, np.linalg.solve(precision, questions.T)))


def slopes(fitted: Fit, frame: pd.DataFrame) -> Array:
    """Derivatives of the losses by every parameter, shape (n, parameters); 0 outside the law's domain."""
    law, x = fitted.law, fitted.law.read(marked(fitted.law, frame))
    theta = np.array([fitted.params[q.name] for q in law.nonlinear])[:, None]
    c = np.array([fitted.params[q.name] for q in law.linear])
    with np.errstate(all="ignore"):
        by_z = np.concatenate([np.einsum("k,pkn->pn", c, law.jacobian(theta, x)), law.basis(theta, x)])
    return np.where(law.domain(x) & np.isfinite(by_z).all(axis=0), by_z, 0.0).T


def _prior(fitted: Fit, rows: pd.DataFrame) -> Array:
    """Prior standard deviations, shape (parameters,); 0 for a parameter that every fit holds."""
    law, x = fitted.law, fitted.law.read(rows)
    theta = np.array([fitted.params[q.name] for q in law.nonlinear])[:, None]
    excess = float(np.abs(fitted.predict(rows) - law.offset(x)).mean())
    size = np.maximum(np.abs(law.basis(theta, x)).mean(axis=1), 1e-300)
    exponents = [float(np.std(q.start)) or 1.0 for q in law.nonlinear]
    coefficients = [WIDE * max(abs(fitted.params[q.name]), excess / s) for q, s in zip(law.linear, size, strict=True)]
    constant = np.array([q.pin is not None and not q.pin.of for q in law.parameters])
    return np.where(constant, 0.0, [*exponents, *coefficients])
