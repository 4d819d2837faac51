"""Variable projection (Golub & Pereyra 1973, with Kaufman's Jacobian) for many starts or resamples at once.

    min over theta of  |r|^2 / 2,     r = W (Phi c(theta) - y),     J = (I - W Phi (W Phi)^+) W (d Phi / d theta) c

It leaves a few exponents where there were twice as many parameters, and needs no start for the others. For given
exponents the linear parameters of a law are solved exactly under their signs, so Levenberg-Marquardt moves the
exponents alone. Residuals are in nats; a log loss is met to first order, by weights 1 / L.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from leaderboard.fitting.problem import TINY, Problem
from leaderboard.laws.law import Array

GRID_ROWS = 240  # rows that judge the grid
STARTS = 8  # grid points that are projected
STEPS = 30
FIRST_DAMPING, WEAKER, STRONGER = 1e-3, 10, 8  # damping: where it begins, its factor after a good and after a bad step
MOST_DAMPING = 1e6  # a step this short that still fails ends the descent
SETTLED = 1e-12  # relative decrease of the cost at which a descent ends
RIDGE = 1e-13  # on normal equations of unit columns: keeps equal columns solvable, moves no digit that counts
STEP_RIDGE = 1e-14  # the same for a step, which is damped besides


def grid_starts(problem: Problem) -> Array:
    """The best points of the exponent grid, shape (p, starts), judged on a spread of rows by least squares."""
    law, p = problem.law, len(problem.law.nonlinear)
    n = problem.x.size
    rows = np.unique(np.linspace(0, n - 1, min(GRID_ROWS, n)).round().astype(int))
    axes = [q.start if np.isnan(h) else (h,) for q, h in zip(law.nonlinear, problem.held[:p], strict=True)]
    points = list(product(*axes))
    theta = np.array(points, dtype=float).reshape(len(points), p).T
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
        a = gram[:, used[:, None], used] + RIDGE * np.eye(len(used))
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


def _evaluate(problem: Problem, theta: Array, weight: Array, target: Array) -> _Projected:
    """Best linear parameters at theta (p, batch); `weight` and `target` (batch or 1, rows)."""
    basis = problem.curves.apply(problem.law.basis(theta[:, :, None], problem.x))
    c, _ = best_linear(problem, basis, target, weight)
    r = (np.einsum("bk,kbn->bn", c, basis) - target) * weight
    cost = 0.5 * np.einsum("bn,bn->b", r, r)
    return _Projected(c, np.where(np.isfinite(cost), cost, np.inf), basis * weight, r)


def project(
    problem: Problem,
    theta: Array,
    weight: Array | None = None,
    target: Array | None = None,
    steps: int = STEPS,
    settled: float = SETTLED,
) -> tuple[Array, Array, Array]:
    """Levenberg-Marquardt on the exponents of a batch, shape (p, batch): exponents, linear (batch, k), costs (batch,).

    Minimises squared residuals in nats, or their first-order stand-in for log losses, until the relative gain of a step
    is below `settled`. `weight` (batch, rows) scales residuals and `target` (batch, rows) replaces the losses, for
    resamples.
    """
    p = len(problem.law.nonlinear)
    low, high = (bound[:p, None] for bound in problem.bounds)
    free = problem.free[problem.free < p]
    weight = level_weight(problem)[None] if weight is None else weight
    target = (problem.curves.loss[None] if target is None else target) - problem.curves.apply(problem.offset)
    theta = theta.copy()
    now = _evaluate(problem, theta, weight, target)
    damping = np.full(theta.shape[1], FIRST_DAMPING)
    active = np.isfinite(now.cost) & (len(free) > 0)
    for _ in range(steps):
        at = np.flatnonzero(active)
        if not len(at):
            break
        w, y = (v if len(v) == 1 else v[at] for v in (weight, target))
        here = _Projected(now.c[at], now.cost[at], now.basis[:, at], now.r[at])
        trial = np.clip(theta[:, at] + _projected_step(problem, theta[:, at], here, w, free, damping[at]), low, high)
        new = _evaluate(problem, trial, w, y)
        better = new.cost < here.cost
        good, bad = at[better], at[~better]
        gain = (here.cost - new.cost) / np.maximum(here.cost, TINY)
        theta[:, good], now.c[good], now.cost[good] = trial[:, better], new.c[better], new.cost[better]
        now.basis[:, good], now.r[good] = new.basis[:, better], new.r[better]
        damping[good], damping[bad] = damping[good] / WEAKER, damping[bad] * STRONGER
        active[good] = gain[better] > settled
        active[bad] = damping[bad] < MOST_DAMPING
    return theta, now.c, now.cost


def level_weight(problem: Problem) -> Array:
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
    size = np.maximum(np.sqrt(np.einsum("bkn,bkn->bk", used, used)), TINY)
    used = used / size[:, :, None]
    gram = used @ np.swapaxes(used, 1, 2) + RIDGE * np.eye(used.shape[1])
    j = j - np.swapaxes(np.linalg.solve(gram, used @ np.swapaxes(j, 1, 2)), 1, 2) @ used
    g = np.einsum("bpn,bn->bp", j, now.r)
    low, high = problem.bounds
    pressed = ((low[free] >= theta[free].T) & (g > 0)) | ((high[free] <= theta[free].T) & (g < 0))
    j, g = np.where(pressed[:, :, None], 0.0, j), np.where(pressed, 0.0, g)
    h = j @ np.swapaxes(j, 1, 2)
    scale = np.sqrt(np.maximum(np.einsum("bpp->bp", h), TINY))
    h = (
        h / (scale[:, :, None] * scale[:, None, :])
        + damping[:, None, None] * np.eye(len(free))
        + STEP_RIDGE * np.eye(len(free))
    )
    step = np.zeros_like(theta)
    fine = np.isfinite(h).all(axis=(1, 2)) & np.isfinite(g).all(axis=1)
    h[~fine], g[~fine] = np.eye(len(free)), 0.0
    step[free] = (np.linalg.solve(h, -(g / scale)[:, :, None])[:, :, 0] / scale).T
    return np.where(np.isfinite(step), step, 0.0)
