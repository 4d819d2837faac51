"""Does the law of clean runs predict noisy ones, and if not, how far off is it? `shift(clean, noisy, law)`.

The law is fitted to the clean runs alone and read at the noisy ones. What is left is told twice: as one gap, measured
less predicted, and as loss = l0 + scale (predicted - l0) + offset. Losses are nats per token. Intervals resample whole
runs, clean and noisy, since the rows of one curve are not independent.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import t as student

from leaderboard.errors import P2Error
from leaderboard.fitting.fit import fit
from leaderboard.fitting.resample import resample
from leaderboard.laws.catalogue import LAWS
from leaderboard.laws.law import Array, Law
from leaderboard.logs.contract import GROUP, curve_numbers, require, usable
from leaderboard.logs.origin import protocol

LEVEL = 0.95
LEAST_RUNS = 3  # noisy runs from which there is an interval
NEEDED = ("run_id", *GROUP, "l0", "tokens", "loss")


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval; NaN ends where the runs are too few for one."""

    value: float
    low: float
    high: float

    def holds(self, truth: float) -> bool:
        """Whether `truth` lies in the interval; an interval that is not known excludes nothing."""
        return not (truth < self.low or truth > self.high)


@dataclass(frozen=True)
class Shift:
    """How noisy curves lie to the clean law. RMSE in nats: on its own runs, on the noisy ones, and on those shifted."""

    law: str
    clean_runs: int
    noisy_runs: int
    gap: Estimate  # mean of measured - predicted
    offset: Estimate
    scale: Estimate  # of the excess over l0
    rmse_clean: float
    rmse_noisy: float
    rmse_shifted: float

    @property
    def predicted(self) -> bool | None:
        """Whether the clean law predicts the noisy curves as far as these runs can tell; None if they cannot."""
        if np.isnan(self.gap.low):
            return None
        return self.gap.holds(0) and self.scale.holds(1)


def shift(clean: pd.DataFrame, noisy: pd.DataFrame, law: str | Law = "p2", draws: int = 400, seed: int = 0) -> Shift:
    """Fit `law` to the clean runs of one group and compare it with the noisy runs of the same group.

    Raises P2Error where a side has no usable run, or the two are not of one family, method, text and objective.
    """
    chosen = LAWS[law] if isinstance(law, str) else law
    for name, frame in (("clean", clean), ("noisy", noisy)):
        require(frame, NEEDED, f"shift: {name}")
    known, asked = usable(clean), usable(noisy)
    if known.empty or asked.empty:
        raise P2Error(
            f"shift: {len(known)} usable rows of clean runs and {len(asked)} of noisy ones; both must be some."
        )
    if mixed := [c for c in GROUP if len({*known[c].astype(str), *asked[c].astype(str)}) > 1]:
        raise P2Error(f"shift: the runs differ in {', '.join(mixed)}; compare one group at a time.")
    if len(ways := set(protocol(pd.concat([known, asked], ignore_index=True)))) > 1:
        raise P2Error(f"shift: the runs were measured with {' and with '.join(sorted(ways))}; compare like with like.")
    fitted = fit(chosen, known)
    curve, l0 = curve_numbers(asked), asked["l0"].to_numpy(dtype=float)
    runs, excess = int(curve.max()) + 1, asked["loss"].to_numpy(dtype=float) - l0
    predicted = fitted.predict(asked) - l0
    gap, offset, scale = _line(predicted, excess, np.ones(len(asked)))
    spread = np.full(3, np.nan)
    if runs >= LEAST_RUNS:
        rng = np.random.default_rng(seed)
        drawn = resample(fitted, known, "runs", draws, seed).predict(asked) - l0
        weights = rng.exponential(size=(len(drawn), runs))[:, curve]
        found = np.array([_line(p, excess, w) for p, w in zip(drawn, weights, strict=True)])
        spread = found[np.isfinite(found).all(axis=1)].std(axis=0) * np.sqrt(runs / (runs - 1))
        spread = spread * student.ppf((1 + LEVEL) / 2, runs - 1)
    told = [Estimate(float(v), float(v - s), float(v + s)) for v, s in zip((gap, offset, scale), spread, strict=True)]
    return Shift(
        law=chosen.name,
        clean_runs=fitted.n_runs,
        noisy_runs=runs,
        gap=told[0],
        offset=told[1],
        scale=told[2],
        rmse_clean=fitted.rmse,
        rmse_noisy=_rms(excess - predicted),
        rmse_shifted=_rms(excess - offset - scale * predicted),
    )


def _line(predicted: Array, measured: Array, weight: Array) -> tuple[float, float, float]:
    """Weighted mean of measured - predicted, and offset and scale of the weighted least-squares line."""
    weight = weight / weight.sum()
    at, level = float(weight @ predicted), float(weight @ measured)
    spread = float(weight @ (predicted - at) ** 2)
    scale = float(weight @ ((predicted - at) * (measured - level))) / spread if spread > 0 else float("nan")
    return level - at, level - scale * at, scale


def _rms(error: Array) -> float:
    return float(np.sqrt(np.mean(error**2)))
