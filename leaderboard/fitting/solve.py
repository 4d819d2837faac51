"""The local optima of one problem: a grid, projection of its best points, descent from the best of those.

A Huber width is narrowed step by step, each optimum starting the next. Deterministic: no random start anywhere.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache

import numpy as np
from threadpoolctl import ThreadpoolController

from leaderboard.fitting.levenberg_marquardt import Solution, descend
from leaderboard.fitting.problem import Problem
from leaderboard.fitting.variable_projection import grid_starts, project
from leaderboard.laws.law import Array

POLISHED = 3  # projected starts that are descended from
PROJECTED_RUNS = 60  # runs that decide between starts
SAME_COST, SAME_PLACE = 1e-9, 1e-3  # relative: two descents that met in one optimum
HOPELESS = 1.5  # times the best objective: a basin this much worse is not polished


def solve(problem: Problem) -> list[Solution]:
    """Local optima, best first, reached from the best grid points. Empty when no start is finite."""
    with np.errstate(all="ignore"), one_thread():
        thin = replace(problem, curves=problem.curves.thin(PROJECTED_RUNS))
        theta = grid_starts(thin)
        if not theta.shape[1]:
            return []
        theta, c, cost = project(thin, theta)
        solutions: list[Solution] = []
        for z in _distinct(np.concatenate([theta, c.T]), cost):
            limit = HOPELESS * min((s.objective for s in solutions), default=np.inf)
            for delta in _widths(problem, z):
                solution = descend(problem, z, delta, limit)
                z = solution.z
            solutions.append(solution)
    return sorted((s for s in solutions if np.isfinite(s.objective)), key=lambda s: s.objective)


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
        met = any(
            abs(cost[i] - cost[j]) <= SAME_COST * cost[j] and np.allclose(z[:, i], z[:, j], rtol=SAME_PLACE)
            for j in kept
        )
        if np.isfinite(cost[i]) and not met:
            kept.append(int(i))
    return [z[:, i] for i in kept[:POLISHED]]


def _widths(problem: Problem, z: Array) -> list[float | None]:
    """Huber widths from one that covers most residuals down to the one asked: each optimum starts the next."""
    if problem.delta is None:
        return [None]
    spread = float(np.median(np.abs(problem.residuals(z)[0])))
    if not np.isfinite(spread):
        return [problem.delta]
    steps = max(0, int(np.ceil(2 * np.log10(max(spread, problem.delta) / problem.delta))))
    return [problem.delta * 10.0 ** (k / 2) for k in range(steps, -1, -1)]
