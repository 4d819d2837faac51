"""The loss right after pruning, guessed from the rate where nobody measured it: L_0 (1 - rho)^-alpha.

This is the pruning law of arXiv:2504.04342v2, score = score_0 P_0 (1 - r)^alpha with 1 / L as the score of language
modelling, at P_0 = 1: nothing removed, nothing lost. (P_0 left free errs more on sizes not fitted: .67 in place of .55
in ln damage for depth, .50 in place of .43 for width, on the seed.) One alpha a method, over all families: a guess
whose damage is off by a factor of 1.5 (width) to 2.1 (2:4) on the seed, which is why it comes with an interval. Losses
are nats per token.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import t as student

from leaderboard.errors import P2Error
from leaderboard.logs.contract import require

FEWEST_BASES = 3  # that an interval over bases stands on


@dataclass(frozen=True)
class PrunedLoss:
    """The law fitted to the runs of one method. `spread` is the root mean square error of ln damage on a base model
    that the fit did not see; `n_bases` how many there are."""

    method: str
    alpha: float
    spread: float
    n_bases: int

    def predict(self, l0: float, rate: float) -> float:
        """The loss right after pruning a model of loss `l0`."""
        return float(l0 * (1 - rate) ** -self.alpha)

    def interval(self, l0: float, rate: float, level: float = 0.8) -> tuple[float, float]:
        """Where the loss right after pruning lies with probability `level`: its damage is taken as log-normal."""
        damage = self.predict(l0, rate) - l0
        wide = student.ppf((1 + level) / 2, self.n_bases - 1) * self.spread
        return l0 + damage * float(np.exp(-wide)), l0 + damage * float(np.exp(wide))


def pruned_loss(frame: pd.DataFrame, method: str) -> PrunedLoss:
    """Fit the law to the first rows of the runs of `method` in run logs (columns base_model, method, rate, l0,
    l_pruned); runs that pruning did not harm are left out. Raises P2Error for fewer than three base models.
    """
    require(frame, ("run_id", "base_model", "method", "rate", "l0", "l_pruned"), "pruned_loss")
    harmed = (frame["method"] == method) & (frame["l_pruned"] > frame["l0"]) & (frame["rate"] > 0)
    runs = frame[harmed].drop_duplicates("run_id")
    base = runs["base_model"].astype(str).to_numpy()
    bases = np.unique(base)
    if len(bases) < FEWEST_BASES:
        raise P2Error(
            f"pruned_loss: these logs have {len(bases)} base models pruned by {method}; a guess of l_pruned needs "
            f"{FEWEST_BASES}. Measure l_pruned: one evaluation right after pruning."
        )
    lost = -np.log1p(-runs["rate"].to_numpy(dtype=float))
    risen = np.log((runs["l_pruned"] / runs["l0"]).to_numpy(dtype=float))
    errors = np.concatenate([_error(lost, risen, base == name) for name in bases])
    return PrunedLoss(method, _alpha(lost, risen), float(np.sqrt(np.mean(errors**2))), len(bases))


def _alpha(lost: np.ndarray, risen: np.ndarray) -> float:
    return float(lost @ risen / (lost @ lost))


def _error(lost: np.ndarray, risen: np.ndarray, left_out: np.ndarray) -> np.ndarray:
    """Predicted minus measured ln damage over l0 of the runs left out."""
    alpha = _alpha(lost[~left_out], risen[~left_out])
    return np.asarray(np.log(np.expm1(alpha * lost[left_out]) / np.expm1(risen[left_out])))
