"""From a good start to the optimum over all parameters: Levenberg-Marquardt, then Newton, inside bounds.

    (J'CJ + damping I) s = -J'h'(r),     then     (|H| + damping I) s = -J'h'(r)

J is the Jacobian with its columns scaled to length one, C the loss's curvature (0 beyond Huber's width), H the whole
Hessian, |H| with the absolute values of its eigenvalues (Nocedal & Wright, Numerical Optimization, 3.4 and 10.3). The
first is cheap and safe from far; where a valley is curved it crawls, and there the second arrives. Damping is raised
until a step lowers the objective and lowered after it has: as columns have length one, 1 is strong and 1e-14 none.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from leaderboard.fitting.problem import TINY, Problem, objective
from leaderboard.laws.law import Array

MAX_STEPS = 60
NEWTON_STEPS = 200
TALL = 4_000  # rows from which normal equations are formed
LARGE = 20_000  # rows from which Newton's last digits are left to Levenberg-Marquardt
SETTLED = 1e-14  # relative decrease of the objective at which a descent ends
ROUNDING = 4e-16  # relative: two evaluations of the objective at one point differ by no more


@dataclass(frozen=True)
class Damping:
    """How damping moves: where it begins, the factor up after a failed step and down after a good one, and its ends."""

    first: float
    up: float
    down: float
    most: float  # no step has failed at this: there is none
    least: float = 1e-14


LEVENBERG = Damping(first=1e-6, up=16, down=16, most=1e10)  # the start is good already
NEWTON = Damping(first=1e-10, up=64, down=1024, most=1e8)  # undamped steps are what makes it fast
STEP = 1e-5  # relative step of the differences that give the Hessian: between rounding and curvature
LEAST_STEP = 1e-3  # of a parameter near 0, in units of its residual column
STEEPEST = 1e12  # for an entry of the Hessian that is not finite
LEAST_DAMPING = 1e-24  # keeps a triangle without full rank solvable


@dataclass(frozen=True)
class Solution:
    """Where a descent ended."""

    z: Array  # all parameters
    objective: float  # a sum over rows
    gradient: float  # largest entry, each in units of its residual column
    converged: bool
    condition: float  # of the scaled Jacobian over parameters that are free and off their bounds


def descend(problem: Problem, z: Array, delta: float | None, limit: float = np.inf) -> Solution:
    """Levenberg-Marquardt over all parameters inside their bounds, from `z`, then Newton.

    Where the first ends above the objective `limit`, the second is not worth its time.
    """
    low, high = problem.bounds
    z, damping = np.clip(z, low, high), LEVENBERG.first
    here = _Point(problem, z, delta)
    for _ in range(MAX_STEPS):
        if not np.isfinite(here.value):
            return Solution(z, np.inf, np.inf, False, np.inf)
        move, scale = here.move, here.scale[here.move]
        factor = _triangle(here.jacobian[:, move] / scale * np.sqrt(here.curvature)[:, None])
        new = here
        while damping < LEVENBERG.most and len(move):
            step = _step(factor, here.gradient[move] / scale, damping) / scale
            new = _Point(problem, _moved(here.z, move, step, low, high), delta)
            if new.value < here.value:
                break
            damping *= LEVENBERG.up
        if not new.value < here.value:
            break
        gain = (here.value - new.value) / max(here.value, TINY)
        here, damping = new, max(damping / LEVENBERG.down, LEVENBERG.least)
        if gain < SETTLED:
            break
    if delta != problem.delta or here.value + problem.rest > limit:
        return _solution(problem, here, False)
    return _solution(problem, here, True) if delta is None and len(here.jacobian) > LARGE else _newton(problem, here)


@dataclass(frozen=True)
class _Point:
    """Parameters and what a descent needs to know there."""

    problem: Problem
    z: Array
    delta: float | None

    @cached_property
    def residuals(self) -> tuple[Array, Array]:
        return self.problem.residuals(self.z)

    @cached_property
    def value(self) -> float:
        """The objective; infinite where it or its slope is not finite."""
        r, jacobian = self.residuals
        return objective(r, self.delta) if np.isfinite(jacobian).all() else np.inf

    @property
    def jacobian(self) -> Array:
        return self.residuals[1]

    @property
    def curvature(self) -> Array:
        """Second derivative of the loss in each residual."""
        r = self.residuals[0]
        return np.ones_like(r) if self.delta is None else (np.abs(r) <= self.delta).astype(float)

    @cached_property
    def gradient(self) -> Array:
        r = self.residuals[0]
        slope = r if self.delta is None else np.clip(r, -self.delta, self.delta)
        gradient: Array = self.jacobian.T @ slope
        return gradient

    @cached_property
    def move(self) -> NDArray[np.int64]:
        """Parameters that are free and not pressed against a bound."""
        low, high = self.problem.bounds
        pressed = ((self.z <= low) & (self.gradient > 0)) | ((self.z >= high) & (self.gradient < 0))
        free = self.problem.free
        return free[~pressed[free]]

    @cached_property
    def scale(self) -> Array:
        """Length of each parameter's residual column."""
        length: Array = np.maximum(np.linalg.norm(self.jacobian, axis=0), TINY)
        return length

    @property
    def steepness(self) -> float:
        """Largest scaled gradient entry over the parameters that may move."""
        return float(np.abs(self.gradient[self.move] / self.scale[self.move]).max(initial=0.0))


def _newton(problem: Problem, here: _Point) -> Solution:
    """Newton steps with the Hessian differenced from the gradient: fast in curved valleys and among Huber's kinks.

    Goes on while the objective falls or, below its rounding, the gradient does.
    """
    low, high = problem.bounds
    damping, settled = NEWTON.first, False
    for _ in range(NEWTON_STEPS):
        move, unit = here.move, here.scale[here.move]
        if not len(move):
            settled = True
            break
        values, vectors = np.linalg.eigh(_hessian(problem, here))
        g = vectors.T @ (here.gradient[move] / unit)
        better = None
        while damping < NEWTON.most and better is None:
            step = -(vectors @ (g / (np.abs(values) + damping))) / unit
            trial = _Point(problem, _moved(here.z, move, step, low, high), here.delta)
            flat = trial.value <= here.value * (1 + ROUNDING) and trial.steepness < here.steepness / 2
            if trial.value < here.value * (1 - SETTLED) or flat:
                better = trial
            else:
                damping *= NEWTON.up
        if better is None:
            settled = True
            break
        here, damping = better, max(damping / NEWTON.down, NEWTON.least)
    return _solution(problem, here, settled)


def _solution(problem: Problem, here: _Point, settled: bool) -> Solution:
    a = here.jacobian[:, here.move] / here.scale[here.move]
    return Solution(here.z, here.value + problem.rest, here.steepness, settled, _condition(a))


def _hessian(problem: Problem, here: _Point) -> Array:
    """Second derivatives over the parameters that may move, in units of their residual columns."""
    columns = []
    for i in here.move:
        h = STEP * max(abs(here.z[i]), LEAST_STEP / here.scale[i])
        up, down = here.z.copy(), here.z.copy()
        up[i] += h
        down[i] -= h
        slopes = [_Point(problem, z, here.delta).gradient for z in (up, down)]
        columns.append((slopes[0] - slopes[1])[here.move] / (2 * h) / (here.scale[here.move] * here.scale[i]))
    hessian = np.array(columns)
    symmetric: Array = np.nan_to_num((hessian + hessian.T) / 2, posinf=STEEPEST, neginf=-STEEPEST)
    return symmetric


def _moved(z: Array, move: NDArray[np.int64], step: Array, low: Array, high: Array) -> Array:
    """z with a step in some parameters, kept inside the bounds."""
    moved = z.copy()
    moved[move] = np.clip(z[move] + step, low[move], high[move])
    return moved


def _step(factor: Array, g: Array, damping: float) -> Array:
    """Solve (R'R + damping I) s = -g without forming R'R."""
    r = _triangle(np.concatenate([factor, np.sqrt(max(damping, LEAST_DAMPING)) * np.eye(len(g))]))
    return np.linalg.solve(r, np.linalg.solve(r.T, -g))


def _triangle(a: Array) -> Array:
    """The upper triangular factor R of a = Q R; of a tall matrix by Cholesky, where that is safe."""
    if len(a) > TALL:
        try:
            return np.asarray(np.linalg.cholesky(a.T @ a).T)
        except np.linalg.LinAlgError:
            pass
    return np.linalg.qr(a)[1]


def _condition(a: Array) -> float:
    """Condition number of the columns, each scaled to length one; 1 without columns."""
    if a.shape[1] == 0:
        return 1.0
    s = np.linalg.svd(_triangle(a / np.maximum(np.linalg.norm(a, axis=0), TINY)), compute_uv=False)
    return float(s[0] / max(s[-1], TINY))
