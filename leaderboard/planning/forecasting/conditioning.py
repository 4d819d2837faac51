"""A loss curve given its own beginning: a mixture of Gaussian processes over log tokens, weighed by their evidence.

Each component says what curve to expect and how curves depart from it. There are two kinds:

    law:    L = law(E) + s u(E) + t x,   u smooth in x = ln(E / middle of the law's tokens), fading by FADE
    alone:  L = l + k (r^-b - 1) / b + s v(r),   r = E / the last row's E, less what the warm-up did not teach

with E the tokens at full learning rate (decay.py), t what a law's slope may be wrong by, little where it was measured
and more with every e-fold of size outside (TREND), l the loss now, k the gain an e-fold now and b how fast that gain
fades. All add what coming to rest wins, and noise of scale a: white at each evaluation, and a wander over some hundred
steps, which runs share that saw the same batches. Given rows, a component is one linear solve; s, a, b and the law are
summed over grids. The constants are nats and e-folds; python -m leaderboard.studies.forecasts says how they do.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from leaderboard.laws.law import Array
from leaderboard.planning.forecasting.decay import Decay, Points

Index = NDArray[np.int64]
LEVEL, SMOOTH, CORRELATION, FADE, TILT = 0.025, 0.010, 3.3, 0.4, 0.002
SCALES, SCALE_SPREAD = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0), 0.4
NOISES, NOISE_WEIGHTS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0), (0.5, 1.0, 0.6, 0.3, 0.15, 0.1)
WHITE, WANDER = 0.0035, 0.004
KNOWN_WANDER = 0.003  # where other runs saw the same batches: what they do not tell of it
TREND = 0.004  # nats an e-fold of tokens, an e-fold of size outside those measured
FLAT, GAIN = 0.5, 0.2
FADINGS, FADING_CENTRE, FADING_SPREAD = (-0.1, 0.001, 0.1, 0.2, 0.3, 0.45, 0.6, 0.8, 1.1), 0.3, 0.15
ALONE_SMOOTH, ALONE_FADE, ALONE_CORRELATION = 0.004, 0.5, 2.0
ALONE_SCALES, ALONE_SPREAD = (0.5, 1.0, 2.0, 4.0), 0.9
ALONE_SHARE = 0.2  # of the prior, where laws speak too
NEGLIGIBLE = 1e-4  # of the weight
TINY = 1e-12
BISECTIONS = 60
REACH = 12.0  # standard deviations that hold every quantile


@dataclass(frozen=True)
class Rows:
    """Evaluations to condition on: points (n,), losses (n,) in nats, and how many evaluations each is the mean of."""

    points: Points
    loss: Array
    count: Array


@dataclass(frozen=True)
class Ground:
    """What all components share: the schedule, the wander's length in tokens and its size in nats."""

    decay: Decay
    length: float
    wander: float


@dataclass(frozen=True)
class Laws:
    """Components around laws. `curves` maps effective tokens (n,) to losses (laws, n); arrays (k,) one a component."""

    curves: Callable[[Array], Array]
    middle: float
    trend: float
    law: Index
    scale: Array
    noise: Array

    @staticmethod
    def grid(curves: Callable[[Array], Array], middle: float, prior: Array, far: float) -> "tuple[Laws, Array]":
        """All components and their log prior; `prior` (laws,) weighs the laws. A base `far` times outside the sizes
        measured, 1 inside, departs more."""
        scale, noise = np.array(SCALES), np.array(NOISES)
        i, j, law = (a.ravel() for a in np.meshgrid(range(len(scale)), range(len(noise)), range(len(prior))))
        bell = np.exp(-0.5 * (np.log(scale) / SCALE_SPREAD) ** 2)
        weight = (bell / bell.sum())[i] * _shares(NOISE_WEIGHTS)[j] * (prior / prior.sum())[law]
        return Laws(curves, middle, TREND * np.log(far), law, np.sqrt(far) * scale[i], noise[j]), np.log(weight)

    def mean(self, a: Points) -> Array:
        """Expected losses, shape (k, n)."""
        return self.curves(a.effective)[self.law]

    def departure(self, a: Array, b: Array) -> Array:
        """Covariance of departures at effective tokens that broadcast together, shape (k, ...)."""
        x, y = np.log(a / self.middle), np.log(b / self.middle)
        shape = (LEVEL**2 + SMOOTH**2 * _matern((x - y) / CORRELATION)) * np.exp(-FADE * (x + y)) + TILT**2 * x * y
        return np.asarray(_each(self.scale, shape) ** 2 * shape + self.trend**2 * x * y)

    def take(self, kept: Index) -> "Laws":
        """Some of the components."""
        return Laws(self.curves, self.middle, self.trend, self.law[kept], self.scale[kept], self.noise[kept])


@dataclass(frozen=True)
class Alone:
    """Components that know no law: a curve through `loss` at `last` effective tokens; arrays (k,) one a component.

    `warm` tokens of the warm-up taught nothing, or none did: the rows say.
    """

    last: float
    loss: float
    warm: Array
    fading: Array
    scale: Array
    noise: Array

    @staticmethod
    def grid(last: float, loss: float, warm: float) -> "tuple[Alone, Array]":
        """All components and their log prior."""
        fading, scale, noise = np.array(FADINGS), np.array(ALONE_SCALES), np.array(NOISES)
        begins = np.array([0.0, warm] if warm else [0.0])
        axes = (range(len(values)) for values in (fading, scale, noise, begins))
        i, j, k, m = (a.ravel() for a in np.meshgrid(*axes))
        bend = np.exp(-0.5 * ((fading - FADING_CENTRE) / FADING_SPREAD) ** 2)
        bell = np.exp(-0.5 * (np.log(scale) / ALONE_SPREAD) ** 2)
        weight = (bend / bend.sum())[i] * (bell / bell.sum())[j] * _shares(NOISE_WEIGHTS)[k] / len(begins)
        return Alone(last, loss, begins[m], fading[i], scale[j], noise[k]), np.log(weight)

    def mean(self, a: Points) -> Array:
        """Expected losses, shape (k, n)."""
        return np.full((len(self.fading), len(a.tokens)), self.loss)

    def departure(self, a: Array, b: Array) -> Array:
        """Covariance of level, gain and departures at effective tokens that broadcast together, shape (k, ...)."""
        warm, fading, scale = (_each(values, a * b) for values in (self.warm, self.fading, self.scale))
        x, y = (np.log(np.maximum(e - warm, 1) / (self.last - warm)) for e in (a, b))
        smooth = ALONE_SMOOTH**2 * _matern((x - y) / ALONE_CORRELATION) * np.exp(-ALONE_FADE * (x + y))
        bend = np.expm1(-fading * x) * np.expm1(-fading * y) / fading**2
        return np.asarray(FLAT**2 + GAIN**2 * bend + scale**2 * smooth)

    def take(self, kept: Index) -> "Alone":
        """Some of the components."""
        return Alone(self.last, self.loss, self.warm[kept], self.fading[kept], self.scale[kept], self.noise[kept])


@dataclass(frozen=True)
class Given:
    """Components of one kind given the rows: `weight` (k,), factors `root` (k, n, n), whitened residuals (k, n)."""

    kind: Laws | Alone
    ground: Ground
    rows: Points
    weight: Array
    root: Array
    whitened: Array

    def moments(self, at: Points) -> tuple[Array, Array]:
        """Mean and standard deviation of one evaluation at points (m,): shapes (k, m)."""
        across = np.linalg.solve(self.root, _covariance(self.kind, self.ground, _column(self.rows), at))
        mean = _mean(self.kind, self.ground, at) + np.einsum("kn,knm->km", self.whitened, across)
        left = _covariance(self.kind, self.ground, at, at) - (across**2).sum(axis=1)
        return mean, np.sqrt(np.maximum(left, 0) + (WHITE * self.kind.noise[:, None]) ** 2)

    def falls(self, at: Points, to: Points) -> tuple[Array, Array]:
        """Mean and standard deviation of how far the curve, without its noise, falls between points: shapes (k, m)."""
        quiet = replace(self.ground, wander=0.0)
        here, there = (_covariance(self.kind, quiet, _column(self.rows), p) for p in (at, to))
        across = np.linalg.solve(self.root, here - there)
        fall = _mean(self.kind, quiet, at) - _mean(self.kind, quiet, to)
        own = [_covariance(self.kind, quiet, a, b) for a, b in ((at, at), (to, to), (at, to))]
        left = own[0] + own[1] - 2 * own[2] - (across**2).sum(axis=1)
        return fall + np.einsum("kn,knm->km", self.whitened, across), np.sqrt(np.maximum(left, TINY))


@dataclass(frozen=True)
class Posterior:
    """The mixture given the rows: one curve's losses, each evaluation with its noise."""

    parts: tuple[Given, ...]
    ground: Ground

    def moments(self, tokens: Array) -> tuple[Array, Array, Array]:
        """Weights (k,), means and standard deviations (k, m) of the components at token counts (m,)."""
        at = self.ground.decay.at(tokens)
        return self._joined([part.moments(at) for part in self.parts])

    def falls(self, tokens: Array, to: Array) -> tuple[Array, Array, Array]:
        """The same of how far the curve falls from `tokens` (m,) to `to` (m,)."""
        here, there = self.ground.decay.at(tokens), self.ground.decay.at(to)
        return self._joined([part.falls(here, there) for part in self.parts])

    def _joined(self, moments: list[tuple[Array, Array]]) -> tuple[Array, Array, Array]:
        means, sds = zip(*moments, strict=True)
        return np.concatenate([p.weight for p in self.parts]), np.concatenate(means), np.concatenate(sds)


def condition(rows: Rows, ground: Ground, kinds: list[tuple[Laws | Alone, Array]]) -> Posterior:
    """Condition components with their log priors on the rows; those of no weight are dropped."""
    given: list[tuple[Laws | Alone, Array, Array]] = []
    logs: list[Array] = []
    for kind, prior in kinds:
        covariance = _covariance(kind, ground, _column(rows.points), rows.points)
        white = (WHITE * kind.noise) ** 2
        covariance += white[:, None, None] * np.diag(1 / rows.count)
        root: Array = np.asarray(np.linalg.cholesky(covariance), dtype=np.float64)
        residual = rows.loss - _mean(kind, ground, rows.points)
        whitened = np.linalg.solve(root, residual[:, :, None])[:, :, 0].astype(np.float64)
        logs.append(prior - 0.5 * (whitened**2).sum(axis=1) - np.log(np.einsum("kii->ki", root)).sum(axis=1))
        given.append((kind, root, whitened))
    top = max(float(log.max()) for log in logs)
    weights = [np.exp(log - top) for log in logs]
    total = sum(float(w.sum()) for w in weights)
    parts = []
    for (kind, root, whitened), weight in zip(given, weights, strict=True):
        kept = np.flatnonzero(weight > NEGLIGIBLE * total)
        if len(kept):
            parts.append(Given(kind.take(kept), ground, rows.points, weight[kept], root[kept], whitened[kept]))
    total = sum(float(p.weight.sum()) for p in parts)
    return Posterior(tuple(replace(p, weight=p.weight / total) for p in parts), ground)


def quantile(weight: Array, mean: Array, sd: Array, share: float) -> Array:
    """The value below which the mixture has `share` of its weight, shape (m,), by bisection."""
    low, high = (mean - REACH * sd).min(axis=0), (mean + REACH * sd).max(axis=0)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        below = weight @ ndtr((middle - mean) / sd) < share
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return np.asarray((low + high) / 2)


def _mean(kind: Laws | Alone, ground: Ground, at: Points) -> Array:
    return np.asarray(kind.mean(at) - ground.decay.gain * at.rest)


def _covariance(kind: Laws | Alone, ground: Ground, a: Points, b: Points) -> Array:
    """All but the white noise, at points that broadcast together, shape (k, ...)."""
    total = kind.departure(a.effective, b.effective) + ground.decay.spread**2 * a.rest * b.rest
    if ground.wander:
        wander = ground.wander**2 * np.exp(-np.abs(a.tokens - b.tokens) / ground.length)
        total += _each(kind.noise, wander) ** 2 * wander
    return np.asarray(total)


def _column(points: Points) -> Points:
    """Points (n,) as (n, 1), to meet others in a matrix."""
    return Points(points.tokens[:, None], points.effective[:, None], points.rest[:, None])


def _each(values: Array, like: Array) -> Array:
    """Values (k,) one a component, to multiply an array shaped as `like`."""
    return values.reshape(-1, *(1,) * like.ndim)


def _matern(distance: Array) -> Array:
    """Matern correlation of order 3/2."""
    d = np.sqrt(3) * np.abs(distance)
    return np.asarray((1 + d) * np.exp(-d))


def _shares(weights: tuple[float, ...]) -> Array:
    return np.array(weights) / sum(weights)
