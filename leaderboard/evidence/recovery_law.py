"""The recovery law and how it is fitted: what is left of the damage at real sizes, by damage, rate and tokens.

    E = exp(a) * (damage * rate / (1 - rate))^b * (tokens / D0)^-k       excess = (damage^-2 + E^-2)^(-1/2)

`damage` is l_pruned - l0 and `excess` the loss above that of the unpruned model trained the same way, in nats a token;
rate is the share of all parameters removed or zeroed, D0 = 81.92 M tokens. The second equation keeps the excess below
the damage. a and b come from depth recoveries at D0; k comes from 2:4 recoveries at 5.2 B tokens, so it also holds what
parts the two tables. Below D0, where nothing is published as a loss, half of k is taken. README.md lists the forms
tried; backtest.py measures this one by leaving a model out.
"""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
import pandas as pd

from leaderboard.evidence.figures import load_evidence

Array = npt.NDArray[np.float64]

D0 = 81_920_000.0
EARLY = 0.5  # share of k below D0: judged. Most of a recovery comes early, so k cannot hold all the way down
HUBER = 0.15  # of ln excess: rows further off pull with a bounded force
ONE_SD = 0.683  # share of a normal within one standard deviation


@dataclass(frozen=True)
class Table:
    """What one kind of published recovery says: tokens, scatter of ln excess, ranges, and damage where only the rate is
    known (ln damage = level + slope ln odds, with odds = rate / (1 - rate))."""

    name: str
    tokens: float
    sd: float
    models: int
    ranges: dict[str, tuple[float, float]]  # of n0, damage and odds
    damage_level: float
    damage_slope: float
    damage_sd: float
    cuts: tuple[tuple[float, float, float, bool], ...]  # damage, odds, n0, healed


@dataclass(frozen=True)
class RecoveryLaw:
    """The fitted a, b and k; the drift of an unpruned model, ln(control / l0); and the tables behind them."""

    level: float
    power: float
    decay: float = 0.0
    drift: float = 0.0
    drift_sd: float = 0.0
    tables: tuple[Table, ...] = ()

    def excess(self, damage: Array | float, odds: Array | float, tokens: Array | float = D0) -> Array:
        """Nats above the control, below the damage. Arrays of one shape, or numbers."""
        folds = np.log(np.asarray(tokens) / D0)
        decay = self.decay * np.where(folds > 0, folds, EARLY * folds)
        power = np.exp(self.level + self.power * np.log(damage * odds) - decay)
        return np.asarray((np.power(damage, -2.0) + power**-2.0) ** -0.5, float)


@cache
def fitted() -> RecoveryLaw:
    """The law of all published rows."""
    return fit_law(load_evidence())


def fit_law(rows: pd.DataFrame) -> RecoveryLaw:
    """The law of rows of `load_evidence()`: depth for a and b, 2:4 for k. Needs two or more models of each.

    Only cuts that healed are fitted. The scatter is that of models left out, so that it holds what parts models.
    """
    rows = losses(rows)
    depth, sparse = rows[rows["method"] == "depth"], rows[rows["method"] == "2:4"]
    alike = fit_power(depth[depth["healed"]])
    controls = depth.groupby("model")[["l0", "l0_control"]].first()
    drift = np.log(controls["l0_control"] / controls["l0"])
    decay, scatter = _decay(alike, sparse)
    return RecoveryLaw(
        level=alike.level,
        power=alike.power,
        decay=decay,
        drift=float(drift.mean()),
        drift_sd=float(drift.std() * math.sqrt(1 + 1 / len(drift))),  # of one more model about the mean
        tables=(_depth_table(depth), _sparse_table(sparse, scatter)),
    )


def losses(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows that know their damage in nats, with `odds`, and `healed` true or false."""
    known = rows[rows["damage"].notna()]
    return known.assign(odds=known["rate"] / (1 - known["rate"]), healed=known["healed"].astype(bool))


def fit_power(healed: pd.DataFrame) -> RecoveryLaw:
    """a and b by least squares on ln excess at D0 under Huber's loss: a few healed cuts lie far from the others."""
    from scipy.optimize import least_squares

    damage, odds, excess = (healed[name].to_numpy(float) for name in ("damage", "odds", "excess"))

    def residuals(p: Array) -> Array:
        return np.asarray(np.log(RecoveryLaw(p[0], p[1]).excess(damage, odds) / excess), float)

    fit = least_squares(residuals, [0.0, 0.4], loss="huber", f_scale=HUBER)
    return RecoveryLaw(float(fit.x[0]), float(fit.x[1]))


def left_out(others: pd.DataFrame, own: pd.DataFrame) -> Array:
    """ln of observed over predicted excess at D0 of a model's rows, by the law of other models' rows."""
    predicted = fit_power(others).excess(own["damage"].to_numpy(float), own["odds"].to_numpy(float))
    return np.asarray(np.log(own["excess"].to_numpy(float) / predicted), float)


def _decay(law: RecoveryLaw, sparse: pd.DataFrame) -> tuple[float, float]:
    """k as the mean over models, and the scatter of ln E about it: what brings E from D0 down to where a row stands."""
    damage, excess = sparse["damage"], sparse["excess"]
    reached = (excess**-2 - damage**-2) ** -0.5
    power = math.exp(law.level) * (damage * sparse["odds"]) ** law.power
    folds = np.log(sparse["tokens"] / D0)
    by_row = np.log(power / reached) / folds
    decay = float(by_row.groupby(sparse["model"]).mean().mean())
    return decay, float(((by_row - decay) * folds).std())


def _depth_table(depth: pd.DataFrame) -> Table:
    errors: list[Array] = []
    damage_errors: list[Array] = []
    for model in depth["model"].unique():
        own, others = depth[depth["model"] == model], depth[depth["model"] != model]
        errors.append(left_out(others[others["healed"]], own[own["healed"]]))
        slope, level = _damage(others)
        damage_errors.append(np.log(own["damage"]) - level - slope * np.log(own["odds"]))
    slope, level = _damage(depth)
    return Table(
        name="depth",
        tokens=D0,
        sd=float(np.quantile(np.abs(np.concatenate(errors)), ONE_SD)),
        models=len(errors),
        ranges=_ranges(depth),
        damage_level=level,
        damage_slope=slope,
        damage_sd=float(np.sqrt(np.mean(np.concatenate(damage_errors) ** 2))),
        cuts=_cuts(depth),
    )


def _damage(depth: pd.DataFrame) -> tuple[float, float]:
    slope, level = np.polyfit(np.log(depth["odds"]), np.log(depth["damage"]), 1)
    return float(slope), float(level)


def _sparse_table(sparse: pd.DataFrame, scatter: float) -> Table:
    """2:4 has one rate a shape, so its damage is a mean and a scatter."""
    damage = np.log(sparse["damage"])
    return Table(
        name="2:4",
        tokens=float(sparse["tokens"].median()),
        sd=scatter,
        models=int(sparse["model"].nunique()),
        ranges=_ranges(sparse),
        damage_level=float(damage.mean()),
        damage_slope=0.0,
        damage_sd=float(damage.std()),
        cuts=_cuts(sparse),
    )


def _cuts(rows: pd.DataFrame) -> tuple[tuple[float, float, float, bool], ...]:
    return tuple(rows[["damage", "odds", "n0", "healed"]].itertuples(index=False, name=None))


def _ranges(rows: pd.DataFrame) -> dict[str, tuple[float, float]]:
    return {name: (float(rows[name].min()), float(rows[name].max())) for name in ("n0", "damage", "odds")}
