"""Several laws answer together: what weight each has, and how wide the answer must be.

    m = sum_k w_k f_k          w_k ~ r_k ** -n(x),  n(x) = 4 exp(-d_rate / 0.1 - d_size / 3)
    s^2 = scale^2 (sum_k w_k (v_k + (f_k - m)^2) + run^2 + row^2 + (e growth . d)^2 + (trend gap)^2)

r_k is a law's held-out RMSE on unseen sizes and rates, so w is an inverse power of its error (pseudo-BMA, Yao et al.
2018, with so few independent errors as 4), and what laws won inside the data says less and less outside it: d are log
distances from the measured range (distance.py). v_k is the variance of a law's own refits, (f_k - m)^2 what the data
cannot part, run and row the scatter of runs and evaluations, the least that any law leaves. e is the excess at the edge
of the data, and `growth` how much of it backtests miss per e-fold beyond what the terms before hold (calibration.py).
gap is the answer with the size held at the edge, less m: N0 ** -d is a trend over a few sizes, and from 30 times on
that it has stopped is as likely as that it goes on; it widens the side of m that it lies on. Losses are nats per token.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from leaderboard.fitting.pooled import SharedFit
from leaderboard.fitting.resample import Resamples
from leaderboard.laws.law import Array, Columns
from leaderboard.planning.distance import Range

NAME = "mixture"
INDEPENDENT = 4.0  # held-out errors that count as independent: 16 curves are of few sizes and rates
FADES = {"size": 3.0, "rate": 0.1}  # e-folds beyond the data in which that evidence falls to a third
STOPS = float(np.log(30.0))  # e-folds of size from which the trend may as well have stopped
DRAWS = 100
STEP = 0.05  # e-folds of tokens over which a slope is taken
FLAT = 1e-12  # nats an e-fold: a curve that falls less does not fall
RUNS_FOR_AN_INTERVAL = 4


@dataclass(frozen=True)
class Width:
    """How wide an interval is: `scale` of its standard deviation (refits, disagreement and scatter each hold some of
    the laws' misfit), `growth` as a share of the excess at the edge, an e-fold of each axis, once for a new family."""

    scale: float
    growth: Mapping[str, float]


WITH_DAMAGE = Width(0.89, {"size": 0.03, "rate": 0.18, "tokens": 0.04, "family": 0.05})
WITHOUT_DAMAGE = Width(0.84, {"size": 0.08, "rate": 0.0, "tokens": 0.04, "family": 0.20})
AXES = tuple(WITH_DAMAGE.growth)


@dataclass(frozen=True)
class Band:
    """A predicted quantity at n points, and its standard deviations below and above, shape (n,) each."""

    center: Array
    below: Array
    above: Array
    freedom: float

    def ends(self, level: float) -> tuple[Array, Array]:
        """The two ends of an interval that holds so much probability, by Student's t."""
        t = self.quantile(level)
        return self.center - t * self.below, self.center + t * self.above

    def quantile(self, level: float) -> float:
        """Student's t for a two-sided interval."""
        return float(stdtrit(self.freedom, 0.5 + level / 2))


@dataclass(frozen=True)
class Mixture:
    """Laws fitted for one family and method, the one with the lowest held-out error first.

    `errors` are held-out RMSEs in nats; equal ones where the data can test none. `range` is what was measured, `group`
    names the family, method, held-out text and objective, `recipe` what was run there most, and `why` says in words why
    these laws. One law alone is a mixture too, of that name.
    """

    members: tuple[SharedFit, ...]
    errors: tuple[float, ...]
    range: Range
    group: dict[str, str]
    recipe: dict[str, object]
    why: tuple[str, ...]
    width: Width = WITHOUT_DAMAGE
    curves: pd.DataFrame = field(default_factory=pd.DataFrame)  # what was measured in the group, discounted runs too

    @property
    def law(self) -> str:
        """`mixture`, or the name of the one law."""
        return NAME if len(self.members) > 1 else self.members[0].fit.law.name

    @property
    def n_runs(self) -> int:
        """Runs that the best law was fitted to."""
        return self.members[0].fit.n_runs

    @property
    def rows(self) -> pd.DataFrame:
        """The rows that the best law was fitted to."""
        return self.members[0].rows

    def named(self, family: str) -> "Mixture":
        """The same, resamples and all, for another family without runs."""
        other = replace(self, group=self.group | {"family": family})
        vars(other).update({name: value for name, value in vars(self).items() if name == "resamples"})
        return other

    @property
    def has_interval(self) -> bool:
        """Whether there are runs enough for one."""
        return self.n_runs >= RUNS_FOR_AN_INTERVAL

    @cached_property
    def resamples(self) -> tuple[Resamples, ...]:
        """Whole-run refits of every law, made once."""
        return tuple(member.resample(draws=DRAWS) for member in self.members)

    def predict(self, frame: Columns) -> Array:
        """Loss in nats per token, shape (n,), from run-log columns; laws that lack an input of a row stand aside."""
        columns = self._columns(frame)
        return _mean(self._losses(columns), self.weights(columns))

    def resting(self) -> "Mixture":
        """The same laws without drift, to predict with: of bases that do not go on improving by themselves."""
        still = [
            replace(member, fit=replace(member.fit, params=member.fit.params | {member.fit.law.drift: 0.0}))
            if member.fit.law.drift
            else member
            for member in self.members
        ]
        return replace(self, members=tuple(still))

    def weights(self, frame: Columns) -> Array:
        """The weight of every law at every row, shape (laws, n)."""
        far = self.range.distances(frame)
        evidence = INDEPENDENT * np.exp(-sum(far[axis] / fade for axis, fade in FADES.items()))
        error = np.log(np.array(self.errors))[:, None]
        weight = np.exp(-evidence * (error - error.min()))
        return np.asarray(weight / weight.sum(axis=0))

    def named_weights(self, frame: Columns) -> dict[str, float]:
        """The weights at the first row by law, the largest first; laws that lack an input there have none."""
        columns = self._columns(frame)
        share = np.where(np.isnan(self._losses(columns)[:, 0]), 0.0, self.weights(columns)[:, 0])
        names = [member.fit.law.name for member in self.members]
        order = np.argsort(-share, kind="stable")
        return {names[i]: round(float(share[i] / share.sum()), 4) for i in order}

    def band(self, frame: Columns) -> Band:
        """The loss of one evaluation of one new run at every row."""
        columns = self._columns(frame)
        scatter = min(r.run_sd**2 + r.row_sd**2 for r in self.resamples)
        return self._spread(columns, lambda predict, at: predict(at), columns["l0"], scatter)

    def span(self, frame: Columns, level: float = 0.8) -> Array:
        """How many e-folds of tokens the interval of the loss is worth at every row: its width over the curve's slope.

        Infinite where the curve does not fall, or where there are too few runs for an interval.
        """
        columns = self._columns(frame)
        if not self.has_interval:
            return np.full(len(columns["tokens"]), np.inf)
        low, high = self.band(columns).ends(level)
        fewer, more = ({**columns, "tokens": columns["tokens"] * np.exp(h)} for h in (-STEP, STEP))
        slope = (self.predict(fewer) - self.predict(more)) / (2 * STEP)
        return np.asarray((high - low) / np.maximum(slope, FLAT))

    def gain_band(self, frame: Columns, times: float = 2.0) -> Band:
        """The loss that a run wins from the tokens of every row to `times` as many; its own level cancels."""

        def won(predict: Callable[[Mapping[str, Array]], Array], at: Mapping[str, Array]) -> Array:
            return predict(at) - predict({**at, "tokens": times * at["tokens"]})

        return self._spread(self._columns(frame), won, 0.0, 0.0)

    def _spread(
        self,
        columns: dict[str, Array],
        quantity: Callable[[Callable[[Mapping[str, Array]], Array], Mapping[str, Array]], Array],
        base: Array | float,
        scatter: float,
    ) -> Band:
        """Center and standard deviations of a quantity made of predicted losses; `base` is where it is nothing."""
        weight = self.weights(columns)

        def mean(at: dict[str, Array]) -> Array:
            return _mean(quantity(self._losses, at), weight)

        each = quantity(self._losses, columns)
        drawn = np.stack([quantity(r.predict, columns).std(axis=0) for r in self.resamples])
        center = _mean(each, weight)
        variance = scatter + _mean(drawn**2 + (each - center) ** 2, weight)
        excess = np.abs(mean(self.range.clipped(columns, ("size", "tokens"))) - base)
        far = self.range.distances(columns)
        new = self.width.growth["family"] * (self.group["family"] not in self.range.families)
        variance = variance + excess**2 * (new**2 + sum((self.width.growth[axis] * d) ** 2 for axis, d in far.items()))
        gap = np.minimum(far["size"] / STOPS, 1) ** 2 * (mean(self.range.clipped(columns, ("size",))) - center)
        below, above = (self.width.scale * np.sqrt(variance + np.minimum(side * gap, 0) ** 2) for side in (1, -1))
        return Band(center, below, above, self._freedom(weight))

    def _freedom(self, weight: Array) -> float:
        return max(1.0, float(np.array([r.freedom for r in self.resamples]) @ weight.mean(axis=1)))

    def _losses(self, columns: Mapping[str, Array]) -> Array:
        """What every law predicts, shape (laws, n); NaN where one cannot say."""
        return np.stack([member.fit.predict(columns) for member in self.members])

    def _columns(self, frame: Columns) -> dict[str, Array]:
        """The columns that laws and distances read, as arrays."""
        names = {"n0", "rate", "tokens", "l0", *(c for member in self.members for c in member.fit.law.inputs)}
        return {c: np.asarray(frame[c], dtype=float) for c in sorted(names) if c in frame}


def _mean(values: Array, weight: Array) -> Array:
    """Mean over laws (laws, n) of those that are not NaN, shape (n,); NaN where none can say."""
    share = np.where(np.isnan(values), 0.0, weight)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.nansum(share * values, axis=0) / share.sum(axis=0))
