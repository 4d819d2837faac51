"""Minimise a sum of squared or Huber residuals of a separable law, from a deterministic grid of starts.

Two steps: over a grid of the nonlinear parameters the linear ones are solved exactly under their signs (variable
projection, Golub & Pereyra 1973); from the best grid points all parameters are polished by Levenberg-Marquardt with
the analytic Jacobian inside their bounds. Knows laws only as arrays; names, pins and statuses are fit.py's.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np

from leaderboard.law import Array, Inputs, Law

LOSSES = ("ls", "log-ls", "huber", "log-huber")
STARTS = 3  # grid points polished
GRID_ROWS = 400  # rows that judge the grid
MAX_STEPS = 200


@dataclass(frozen=True)
class Problem:
    """Rows of one fit: inputs in the law's units, losses (n,) in nats per token; `delta` None means least squares.

    `held` gives every parameter its pinned value, NaN where it is free.
    """

    law: Law
    x: Inputs
    loss: Array
    log: bool
    delta: float | None
    held: Array

    @property
    def free(self) -> Array:
        """Indices of the parameters to be found."""
        return np.flatnonzero(np.isnan(self.held))

    def bounds(self) -> tuple[Array, Array]:
        """Lower and upper bounds, shape (p,), of all parameters."""
        low, high = np.array([q.bounds for q in self.law.parameters], dtype=float).T
        return low, high

    def residuals(self, z: Array) -> tuple[Array, Array]:
        """Predicted minus measured (n,) in nats, or in log nats, and its Jacobian (n, p)."""
        law, p = self.law, len(self.law.nonlinear)
        theta, c = z[:p, None], z[p:]
        with np.errstate(all="ignore"):
            basis = law.basis(theta, self.x)
            predicted = law.offset(self.x) + c @ basis
            jacobian = np.concatenate([np.einsum("k,pkn->pn", c, law.jacobian(theta, self.x)), basis]).T
            if self.log:
                return np.log(predicted) - np.log(self.loss), jacobian / predicted[:, None]
        return predicted - self.loss, jacobian


@dataclass(frozen=True)
class Solution:
    """Where a descent ended: parameters, objective (a sum), largest scaled gradient entry, whether it settled."""

    z: Array
    objective: float
    gradient: float
    converged: bool
    condition: float  # of the scaled Jacobian over the free, unbounded parameters


def objective(r: Array, delta: float | None) -> float:
    """0.5 * sum r^2, or the sum of Huber terms; infinite where a residual is not finite."""
    if not np.isfinite(r).all():
        return np.inf
    if delta is None:
        return float(0.5 * r @ r)
    a = np.abs(r)
    return float(np.where(a <= delta, 0.5 * r * r, delta * (a - 0.5 * delta)).sum())


def solve(problem: Problem) -> list[Solution]:
    """Local optima reached from the best grid points, best first. Empty when no start is finite."""
    polished = []
    for start in grid_starts(problem):
        z = start
        for delta in _continuation(problem.delta, problem.residuals(start)[0]):
            solution = descend(problem, z, delta)
            z = solution.z
        polished.append(solution)
    return sorted((s for s in polished if np.isfinite(s.objective)), key=lambda s: s.objective)


def _continuation(delta: float | None, r: Array) -> list[float | None]:
    """Huber widths from one that covers the residuals down to `delta`: each optimum starts the next."""
    if delta is None:
        return [None]
    widest = float(np.median(np.abs(r))) if np.isfinite(r).all() else delta
    steps = max(0, int(np.ceil(np.log10(max(widest, delta) / delta))))
    return [delta * 10.0**k for k in range(steps, -1, -1)]


def grid_starts(problem: Problem) -> list[Array]:
    """The best `STARTS` points of the exponent grid, their linear parameters solved exactly under their signs."""
    law, p = problem.law, len(problem.law.nonlinear)
    rows = np.linspace(0, len(problem.loss) - 1, min(GRID_ROWS, len(problem.loss))).round().astype(int)
    x = {name: v[rows] for name, v in problem.x.items()}
    axes = [q.start if np.isnan(h) else (h,) for q, h in zip(law.nonlinear, problem.held[:p], strict=True)]
    theta = np.array(list(product(*axes)), dtype=float).T[:, :, None]
    if not law.nonlinear:
        theta = np.zeros((0, 1, 1))
    weight = 1 / problem.loss[rows] if problem.log else np.ones(len(rows))
    with np.errstate(all="ignore"):
        basis = np.moveaxis(law.basis(theta, x) * weight, 0, 1)  # (grid, k, n)
        target = (problem.loss[rows] - law.offset(x)) * weight
    c, cost = best_linear(basis, target, problem.held[p:], np.array([q.sign for q in law.linear]))
    order = np.argsort(cost, kind="stable")[:STARTS]
    return [np.concatenate([theta[:, g, 0], c[g]]) for g in order if np.isfinite(cost[g])]


def best_linear(basis: Array, target: Array, held: Array, sign: Array) -> tuple[Array, Array]:
    """Least-squares coefficients (grid, k) under signs, and their cost (grid,), for basis (grid, k, n).

    With at most a few signed terms the exact answer is the best feasible one over all subsets at zero.
    """
    grid, k, _ = basis.shape
    known = ~np.isnan(held)
    fixed = np.where(known, held, 0.0)
    target = target - np.einsum("k,gkn->gn", fixed, basis)
    scale = np.sqrt(np.einsum("gkn,gkn->gk", basis, basis))
    scale = np.where((scale > 0) & np.isfinite(scale), scale, 1.0)
    unit = basis / scale[:, :, None]
    gram = np.einsum("gin,gjn->gij", unit, unit)
    right = np.einsum("gkn,gn->gk", unit, target)
    power = np.einsum("gn,gn->g", target, target)
    best, cost = np.zeros((grid, k)), np.where(np.isfinite(gram).all(axis=(1, 2)), 0.5 * power, np.inf)
    for on in product(*((False,) if known[i] else (True, False) if sign[i] else (True,) for i in range(k))):
        used = np.flatnonzero(on)
        if not len(used):
            continue
        a = np.where(np.isfinite(gram), gram, 0.0)[:, used[:, None], used] + 1e-12 * np.eye(len(used))
        b = np.where(np.isfinite(right), right, 0.0)[:, used]
        c = np.linalg.solve(a, b[:, :, None])[:, :, 0]
        value = 0.5 * (power - 2 * (c * b).sum(1) + np.einsum("gi,gij,gj->g", c, a, c))
        better = (c * sign[used] >= 0).all(axis=1) & (value < cost)
        cost = np.where(better, value, cost)
        best[better] = 0
        best[np.ix_(better, used)] = (c / scale[:, used])[better]
    return best + fixed, cost


def descend(problem: Problem, z: Array, delta: float | None) -> Solution:
    """Levenberg-Marquardt inside bounds from `z`; the Huber curvature is that of its quadratic part."""
    low, high = problem.bounds()
    z, damping, scale = np.clip(z, low, high), 1e-3, np.zeros(len(z))
    r, jacobian = problem.residuals(z)
    value, converged, gradient, condition = objective(r, delta), False, np.inf, np.inf
    for _ in range(MAX_STEPS):
        if not (np.isfinite(value) and np.isfinite(jacobian).all()):
            break
        slope, curvature = _huber_slope(r, delta)
        g = jacobian.T @ slope
        at_edge = ((z <= low) & (g > 0)) | ((z >= high) & (g < 0))
        move = problem.free[~at_edge[problem.free]]
        scale = np.maximum(scale, np.linalg.norm(jacobian, axis=0))
        unit = np.where(scale > 0, scale, 1.0)
        gradient = float(np.abs(g[move] / unit[move]).max(initial=0.0))
        a = jacobian[:, move] / unit[move]
        condition = _condition(a)
        factor = np.linalg.qr(np.concatenate([a * np.sqrt(curvature)[:, None], np.zeros((len(move), len(move)))]), "r")
        improved = False
        while damping < 1e12 and len(move):
            step = _step(factor, g[move] / unit[move], damping) / unit[move]
            trial = z.copy()
            trial[move] = np.clip(z[move] + step, low[move], high[move])
            r_new, j_new = problem.residuals(trial)
            new = objective(r_new, delta)
            if new < value:
                improved = True
                break
            damping = max(damping, 1e-12) * 8
        if not improved:
            converged = True
            break
        gain = (value - new) / max(value, 1e-300)
        z, r, jacobian, value, damping = trial, r_new, j_new, new, damping / 10
        if gain < 1e-13 and damping < 1:
            converged = True
            break
    return Solution(z, value, gradient, converged, condition)


def _huber_slope(r: Array, delta: float | None) -> tuple[Array, Array]:
    """First derivative of the loss in r, and the curvature used for steps."""
    if delta is None:
        return r, np.ones_like(r)
    inside = np.abs(r) <= delta
    return np.clip(r, -delta, delta), np.where(inside, 1.0, 1e-3)


def _step(factor: Array, g: Array, damping: float) -> Array:
    """Solve (R'R + damping I) s = -g by QR of the stacked factor."""
    p = len(g)
    r = np.linalg.qr(np.concatenate([factor, np.sqrt(damping) * np.eye(p)]), "r")
    r = r + 1e-300 * np.eye(p)
    return np.linalg.solve(r, np.linalg.solve(r.T, -g))


def _condition(a: Array) -> float:
    """Condition number of the columns, each scaled to length one; 1 without columns."""
    if a.shape[1] == 0:
        return 1.0
    s = np.linalg.svd(a / np.maximum(np.linalg.norm(a, axis=0), 1e-300), compute_uv=False)
    return float(s[0] / max(s[-1], 1e-300))


