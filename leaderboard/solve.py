"""Minimise a sum of squared or Huber residuals of a separable law, from a deterministic grid of starts.

Variable projection (Golub & Pereyra 1973, with Kaufman's Jacobian): for given exponents the linear parameters are
solved exactly under their signs, so Levenberg-Marquardt moves the exponents alone, for many starts or many resamples
at once. The best points are then polished over all parameters, where a Huber width is narrowed step by step. Knows
laws only as arrays; pins, statuses and names are fit.py's.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import product

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from leaderboard.curves import Curves
from leaderboard.law import Array, Inputs, Law

LOSSES = ("ls", "log-ls", "huber", "log-huber")
GRID_ROWS = 240  # rows that judge the grid
STARTS = 8  # grid points that are projected
POLISHED = 3  # of those, polished
PROJECTED_STEPS = 30
MAX_STEPS = 100
SHARPENED = 12
SETTLED = 1e-14  # relative decrease of the objective at which a descent ends


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


@dataclass(frozen=True)
class Solution:
    """Where a descent ended."""

    z: Array  # all parameters
    objective: float  # a sum over rows
    gradient: float  # largest entry, each in units of its residual column
    converged: bool
    condition: float  # of the scaled Jacobian over parameters that are free and off their bounds


def objective(r: Array, delta: float | None) -> float:
    """0.5 * sum r^2, or the sum of Huber terms; infinite where a residual is not finite."""
    if not np.isfinite(r).all():
        return np.inf
    if delta is None:
        return float(0.5 * r @ r)
    a = np.abs(r)
    return float(np.where(a <= delta, 0.5 * r * r, delta * (a - 0.5 * delta)).sum())


def solve(problem: Problem) -> list[Solution]:
    """Local optima, best first, reached from the best grid points. Empty when no start is finite."""
    with np.errstate(all="ignore"), one_thread():
        theta = grid_starts(problem)
        if not theta.shape[1]:
            return []
        theta, c, cost = project(problem, theta)
        found = []
        for z in _distinct(np.concatenate([theta, c.T]), cost):
            for delta in _widths(problem, z):
                solution = descend(problem, z, delta)
                z = solution.z
            found.append(solution)
    return sorted((s for s in found if np.isfinite(s.objective)), key=lambda s: s.objective)


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep BLAS on one thread: its matrices here are too small to share."""
    with _blas().limit(limits=1, user_api="blas"):
        yield


@cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController()


def _distinct(z: Array, cost: Array) -> list[Array]:
    """The columns of z with the lowest costs, leaving out those that met in one optimum."""
    kept: list[int] = []
    for i in np.argsort(cost, kind="stable"):
        met = any(abs(cost[i] - cost[j]) <= 1e-9 * cost[j] and np.allclose(z[:, i], z[:, j], rtol=1e-3) for j in kept)
        if np.isfinite(cost[i]) and not met:
            kept.append(int(i))
    return [z[:, i] for i in kept[:POLISHED]]


def _widths(problem: Problem, z: Array) -> list[float | None]:
    """Huber widths from one that covers most residuals down to the one asked: each optimum starts the next."""
    if problem.delta is None:
        return [None]
    spread = float(np.median(np.abs(problem.residuals(z)[0])))
    steps = max(0, int(np.ceil(np.log10(max(spread, problem.delta) / problem.delta))))
    return [problem.delta * 10.0**k for k in range(steps, -1, -1)]


def grid_starts(problem: Problem) -> Array:
    """The best points of the exponent grid, shape (p, starts), judged on a spread of rows by least squares."""
    law, p = problem.law, len(problem.law.nonlinear)
    n = problem.x.size
    rows = np.unique(np.linspace(0, n - 1, min(GRID_ROWS, n)).round().astype(int))
    axes = [q.start if np.isnan(h) else (h,) for q, h in zip(law.nonlinear, problem.held[:p], strict=True)]
    theta = np.array(list(product(*axes)), dtype=float).reshape(-1, p).T
    x = problem.x.take(rows)
    losses = problem.curves.losses[rows]
    weight = 1 / losses if problem.log else np.ones(len(rows))
    _, cost = best_linear(problem, law.basis(theta[:, :, None], x), losses - law.offset(x), weight)
    best = np.argsort(cost, kind="stable")[:STARTS]
    return theta[:, best[np.isfinite(cost[best])]]


def best_linear(problem: Problem, basis: Array, target: Array, weight: Array) -> tuple[Array, Array]:
    """Coefficients (batch, k) under signs and pins, and costs (batch,), of the weighted least squares.

    `basis` (k, batch, n); `target` and `weight` broadcast to (batch, n). With at most a few signed terms the exact
    answer is the best feasible one over all subsets held at zero.
    """
    held = problem.held[len(problem.law.nonlinear) :]
    known = ~np.isnan(held)
    fixed = np.where(known, held, 0.0)
    columns = np.moveaxis(basis, 0, 1) * weight[..., None, :]
    y = (target - np.einsum("k,kbn->bn", fixed, basis)) * weight
    batch, k, _ = columns.shape
    scale = np.sqrt(np.einsum("bkn,bkn->bk", columns, columns))
    fine = np.isfinite(scale).all(axis=1)
    scale = np.where((scale > 0) & np.isfinite(scale), scale, 1.0)
    unit = np.where(fine[:, None, None], columns, 0.0) / scale[:, :, None]
    gram, right = unit @ np.swapaxes(unit, 1, 2), np.einsum("bkn,bn->bk", unit, y)
    power = np.einsum("bn,bn->b", y, y)
    best, cost = np.zeros((batch, k)), np.where(fine, 0.5 * power, np.inf)
    signs = np.array([q.sign for q in problem.law.linear])
    choices = [(False,) if known[i] else (True, False) if signs[i] else (True,) for i in range(k)]
    for on in product(*choices):
        used = np.flatnonzero(on)
        if not len(used):
            continue
        a = gram[:, used[:, None], used] + 1e-13 * np.eye(len(used))
        solved = np.linalg.solve(a, right[:, used, None])[:, :, 0]
        value = 0.5 * (power - np.einsum("bi,bi->b", solved, right[:, used]))
        better = fine & (solved * signs[used] >= 0).all(axis=1) & (value < cost)
        cost = np.where(better, value, cost)
        best[better] = 0
        best[np.ix_(better, used)] = (solved / scale[:, used])[better]
    return best + fixed, cost


@dataclass(frozen=True)
class _Projected:
    """One evaluation of the projected problem for a batch of exponents."""

    c: Array  # (batch, k)
    cost: Array  # (batch,)
    basis: Array  # mapped and weighted, (k, batch, rows)
    r: Array  # (batch, rows)


def _evaluate(problem: Problem, theta: Array, weight: Array) -> _Projected:
    """Best linear parameters at theta (p, batch); `weight` (batch or 1, rows)."""
    curves = problem.curves
    basis = curves.apply(problem.law.basis(theta[:, :, None], problem.x))
    target = curves.loss - curves.apply(problem.offset)
    c, _ = best_linear(problem, basis, target, weight)
    r = (np.einsum("bk,kbn->bn", c, basis) - target) * weight
    cost = 0.5 * np.einsum("bn,bn->b", r, r)
    return _Projected(c, np.where(np.isfinite(cost), cost, np.inf), basis * weight, r)


def project(
    problem: Problem, theta: Array, weight: Array | None = None, steps: int = PROJECTED_STEPS
) -> tuple[Array, Array, Array]:
    """Levenberg-Marquardt on the exponents of a batch, shape (p, batch): exponents, linear (batch, k), costs (batch,).

    `weight` (batch, rows) scales residuals, e.g. by the square root of how often a resample drew a run. Minimises
    squared residuals in nats, or their first-order stand-in for log losses.
    """
    p = len(problem.law.nonlinear)
    weight = _project_weight(problem)[None] if weight is None else weight
    free = problem.free[problem.free < p]
    now = _evaluate(problem, theta, weight)
    damping = np.full(theta.shape[1], 1e-3)
    active = np.isfinite(now.cost) & (len(free) > 0)
    for _ in range(steps):
        if not active.any():
            break
        at = np.flatnonzero(active)
        w = weight if len(weight) == 1 else weight[at]
        here = _Projected(now.c[at], now.cost[at], now.basis[:, at], now.r[at])
        step = _projected_step(problem, theta[:, at], here, w, free, damping[at])
        trial = theta[:, at] + step
        low, high = problem.bounds
        trial = np.clip(trial, low[:p, None], high[:p, None])
        new = _evaluate(problem, trial, w)
        better = new.cost < here.cost
        good, bad = at[better], at[~better]
        gain = (here.cost - new.cost) / np.maximum(here.cost, 1e-300)
        theta[:, good], now.c[good], now.cost[good] = trial[:, better], new.c[better], new.cost[better]
        now.basis[:, good], now.r[good] = new.basis[:, better], new.r[better]
        damping[good], damping[bad] = damping[good] / 10, damping[bad] * 8
        active[good] = gain[better] > 1e-12
        active[bad] = damping[bad] < 1e6
    return theta, now.c, now.cost


def _project_weight(problem: Problem) -> Array:
    """Row weights that make residuals in nats stand for those of the loss asked: 1, or a run's mean 1 / L for logs."""
    if not problem.log:
        return np.ones(problem.x.size)
    run = problem.curves.run
    return (np.bincount(run, 1 / problem.curves.losses) / np.bincount(run))[run]


def _projected_step(
    problem: Problem, theta: Array, now: _Projected, weight: Array, free: NDArray[np.int64], damping: Array
) -> Array:
    """Damped Gauss-Newton step of the exponents, zero for those held or pressed against a bound."""
    slopes = np.einsum("bk,pkbn->pbn", now.c, problem.law.jacobian(theta[:, :, None], problem.x)[free])
    j = np.moveaxis(problem.curves.apply(slopes) * weight, 0, 1)  # (batch, free, rows)
    used = np.moveaxis(now.basis, 0, 1) * (now.c != 0)[:, :, None]
    size = np.maximum(np.sqrt(np.einsum("bkn,bkn->bk", used, used)), 1e-300)
    used = used / size[:, :, None]
    gram = used @ np.swapaxes(used, 1, 2) + 1e-13 * np.eye(used.shape[1])
    j = j - np.swapaxes(np.linalg.solve(gram, used @ np.swapaxes(j, 1, 2)), 1, 2) @ used
    g = np.einsum("bpn,bn->bp", j, now.r)
    low, high = problem.bounds
    pressed = ((low[free] >= theta[free].T) & (g > 0)) | ((high[free] <= theta[free].T) & (g < 0))
    j, g = np.where(pressed[:, :, None], 0.0, j), np.where(pressed, 0.0, g)
    h = j @ np.swapaxes(j, 1, 2)
    scale = np.sqrt(np.maximum(np.einsum("bpp->bp", h), 1e-300))
    h = (
        h / (scale[:, :, None] * scale[:, None, :])
        + damping[:, None, None] * np.eye(len(free))
        + 1e-14 * np.eye(len(free))
    )
    step = np.zeros_like(theta)
    fine = np.isfinite(h).all(axis=(1, 2)) & np.isfinite(g).all(axis=1)
    h[~fine], g[~fine] = np.eye(len(free)), 0.0
    step[free] = (np.linalg.solve(h, -(g / scale)[:, :, None])[:, :, 0] / scale).T
    return np.where(np.isfinite(step), step, 0.0)


def descend(problem: Problem, z: Array, delta: float | None) -> Solution:
    """Levenberg-Marquardt over all parameters inside their bounds, from `z`."""
    low, high = problem.bounds
    z, damping, unit = np.clip(z, low, high), 1e-6, np.zeros(len(z))
    r, jacobian = problem.residuals(z)
    value, converged, gradient, condition = objective(r, delta), False, np.inf, np.inf
    for _ in range(MAX_STEPS):
        if not (np.isfinite(value) and np.isfinite(jacobian).all()):
            break
        slope, curvature = _huber_slope(r, delta)
        g = jacobian.T @ slope
        pressed = ((z <= low) & (g > 0)) | ((z >= high) & (g < 0))
        move = problem.free[~pressed[problem.free]]
        unit = np.maximum(unit, np.linalg.norm(jacobian, axis=0))
        scale = np.where(unit > 0, unit, 1.0)[move]
        gradient = float(np.abs(g[move] / scale).max(initial=0.0))
        a = jacobian[:, move] / scale
        factor = _triangle(a * np.sqrt(curvature)[:, None])
        condition = _condition(a)
        new = np.inf
        while damping < 1e10 and len(move):
            trial = z.copy()
            trial[move] = np.clip(z[move] + _step(factor, g[move] / scale, damping) / scale, low[move], high[move])
            r_new, j_new = problem.residuals(trial)
            new = objective(r_new, delta)
            if new < value:
                break
            damping *= 16
        if not new < value:
            converged = True
            break
        gain = (value - new) / max(value, 1e-300)
        z, r, jacobian, value, damping = trial, r_new, j_new, new, max(damping / 16, 1e-14)
        if gain < SETTLED:
            converged = True
            break
    z, gradient = _sharpen(problem, z, delta, gradient) if converged else (z, gradient)
    return Solution(z, value + problem.rest, gradient, converged, condition)


def _sharpen(problem: Problem, z: Array, delta: float | None, gradient: float) -> tuple[Array, float]:
    """Undamped steps while they shrink the gradient: below the rounding of the objective only it still tells."""
    low, high = problem.bounds
    best, smallest = z, np.inf
    for _ in range(SHARPENED):
        r, jacobian = problem.residuals(z)
        slope, curvature = _huber_slope(r, delta)
        g = jacobian.T @ slope
        move = problem.free[(z > low)[problem.free] & (z < high)[problem.free]]
        scale = np.maximum(np.linalg.norm(jacobian[:, move], axis=0), 1e-300)
        size = float(np.abs(g[move] / scale).max(initial=0.0))
        if not size < smallest / 2:
            break
        best, smallest = z, size
        factor = _triangle(jacobian[:, move] / scale * np.sqrt(curvature)[:, None])
        z = z.copy()
        z[move] = np.clip(z[move] + _step(factor, g[move] / scale, 0.0) / scale, low[move], high[move])
    return best, min(gradient, smallest)


def _huber_slope(r: Array, delta: float | None) -> tuple[Array, Array]:
    """First derivative of the loss in r, and the curvature used for steps."""
    if delta is None:
        return r, np.ones_like(r)
    return np.clip(r, -delta, delta), np.where(np.abs(r) <= delta, 1.0, 1e-3)


def _step(factor: Array, g: Array, damping: float) -> Array:
    """Solve (R'R + damping I) s = -g without forming R'R."""
    r = _triangle(np.concatenate([factor, np.sqrt(max(damping, 1e-24)) * np.eye(len(g))]))
    return np.linalg.solve(r, np.linalg.solve(r.T, -g))


def _triangle(a: Array) -> Array:
    """The upper triangular factor R of a = Q R."""
    return np.linalg.qr(a)[1]


def _condition(a: Array) -> float:
    """Condition number of the columns, each scaled to length one; 1 without columns."""
    if a.shape[1] == 0:
        return 1.0
    s = np.linalg.svd(_triangle(a / np.maximum(np.linalg.norm(a, axis=0), 1e-300)), compute_uv=False)
    return float(s[0] / max(s[-1], 1e-300))
