"""What the solver is asked: a law, its rows, a loss and what is held; residuals and objective follow from it.

    min over z of  sum_i h(r_i(z)),     r = law(z, x) - y  (nats, or log nats),     h(r) = r^2 / 2 or Huber's

The solver knows laws only as arrays, so that one solver serves all of them: one parameter vector z holds the nonlinear
parameters, then the linear ones.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from leaderboard.fitting.compressed import Curves
from leaderboard.laws.law import Array, Inputs, Law

LOSSES = ("ls", "log-ls", "huber", "log-huber")
TINY = 1e-300  # the least that anything is divided by: a column of zeros stays one


@dataclass(frozen=True)
class Problem:
    """A law, its rows and a loss. `held` gives every parameter its pinned value, NaN where it is free."""

    law: Law
    curves: Curves
    log: bool
    delta: float | None  # width of the Huber loss; None means least squares
    held: Array

    @cached_property
    def x(self) -> Inputs:
        """Inputs at the rows or nodes."""
        return self.curves.read(self.law)

    @cached_property
    def offset(self) -> Array:
        """The law's offset, shape (rows,)."""
        return self.law.offset(self.x)

    @property
    def target(self) -> Array:
        """What predictions are compared with."""
        return self.curves.log_loss if self.log else self.curves.loss

    @cached_property
    def free(self) -> NDArray[np.int64]:
        """Indices of the parameters to be found."""
        return np.flatnonzero(np.isnan(self.held))

    @cached_property
    def bounds(self) -> tuple[Array, Array]:
        """Lower and upper bounds, shape (p + k,), of all parameters."""
        low, high = np.array([q.bounds for q in self.law.parameters], dtype=float).T
        return low, high

    def residuals(self, z: Array) -> tuple[Array, Array]:
        """Predicted minus measured (rows,) in nats, or in log nats, and its Jacobian (rows, p + k)."""
        law, p = self.law, len(self.law.nonlinear)
        theta, c = z[:p, None], z[p:]
        basis = law.basis(theta, self.x)
        predicted = self.offset + c @ basis
        jacobian = np.concatenate([np.einsum("k,pkn->pn", c, law.jacobian(theta, self.x)), basis])
        if self.log:
            jacobian, predicted = jacobian / predicted, np.log(predicted)
        return self.curves.apply(predicted) - self.target, self.curves.apply(jacobian).T

    @property
    def rest(self) -> float:
        """The part of the objective that no law can change."""
        rest = self.curves.log_rest if self.log else self.curves.rest
        return 0.0 if rest is None else 0.5 * float(rest.sum())


def objective(r: Array, delta: float | None) -> float:
    """0.5 * sum r^2, or the sum of Huber terms; infinite where a residual is not finite."""
    if not np.isfinite(r).all():
        return np.inf
    if delta is None:
        return float(0.5 * r @ r)
    a = np.abs(r)
    return float(np.where(a <= delta, 0.5 * r * r, delta * (a - 0.5 * delta)).sum())
