"""Every law, in every group, on every track: fitted on the training rows, judged on the test rows.

Draws say how far a law's ASD would move with other runs: each gives every run of the data an exponential weight, the
same one for all laws, so laws can be compared pair by pair. A draw moves a fit by one Gauss-Newton step.
"""

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from leaderboard.asd import asd, asd_doubling
from leaderboard.curves import Curves, compress
from leaderboard.draws import asd_draws, parameter_draws, predict_draws
from leaderboard.errors import FitError, P2Error
from leaderboard.fit import Fit, fit
from leaderboard.law import Array, Law
from leaderboard.laws import LAWS
from leaderboard.runlog import GROUP, curve_numbers, require, usable
from leaderboard.shared import lend, marked
from leaderboard.tracks import TRACKS, groups, split

NEEDED = ("run_id", "base_model", "n0", "rate", "tokens", "loss")  # group columns may be absent: one group then
METRICS = ("asd", "asd_doubling", "r2", "huber", "rmse")
NOT_TESTABLE = "not_testable"
FAILED = "failed"
HUBER_DELTA = 1e-3
DRAWS = 200


def score_cells(
    frame: pd.DataFrame, laws: Mapping[str, Law] | None = None, tracks: Iterable[str] = TRACKS, draws: int = DRAWS
) -> pd.DataFrame:
    """One row a law, group and track: group columns, track, cell, law, status, the metrics on the test rows, and
    `asd_draws`, an array (draws,) of the ASD under other runs.

    `status` is the fit's, `not_testable` or `failed`; metrics of those two are NaN. Units: asd in nats per billion
    tokens, asd_doubling in nats per doubling, huber the mean Huber(1e-3) term, rmse in nats per token.
    """
    laws = LAWS if laws is None else laws
    require(frame, NEEDED, "rank")
    texts = [rows.assign(curve=curve_numbers(rows)) for _, rows in _texts(usable(frame))]
    if not texts:
        raise P2Error("rank: no usable row (tokens > warmup_tokens, something pruned) in these logs.")
    rows: list[dict[str, object]] = []
    for text in texts:
        weight = np.random.default_rng(0).exponential(size=(draws, int(text["curve"].max()) + 1))
        for track in tracks:
            rows += _score_text(text, track, laws, weight)
    return pd.DataFrame(rows)


def _texts(frame: pd.DataFrame) -> list[tuple[object, pd.DataFrame]]:
    """Rows that a pooled law may share: one held-out text and objective."""
    columns = [c for c in GROUP[2:] if c in frame]
    return list(frame.groupby(columns, observed=True)) if columns else [((), frame)]


def _score_text(text: pd.DataFrame, track: str, laws: Mapping[str, Law], weight: Array) -> list[dict[str, object]]:
    """All cells of one held-out text and track. Groups that cannot test it still lend their rows to pooled laws."""
    parts = [(key, group, split(group, track)) for key, group in groups(text)]
    if all(part is None for _, _, part in parts):
        laws_rows = [(law, key) for law in laws for key, _, _ in parts]
        return [_cell(key, track, law) | _no_metrics(NOT_TESTABLE) for law, key in laws_rows]
    shared = pd.concat([group if part is None else group[part.train] for _, group, part in parts])
    rows: list[dict[str, object]] = []
    made: dict[str, Curves] = {}  # of a group's own training rows, for all laws that pool nothing
    for name, law in laws.items():
        fits: dict[str, tuple[Fit, Array] | None] = {}
        for key, group, part in parts:
            if part is None:
                rows.append(_cell(key, track, name) | _no_metrics(NOT_TESTABLE))
                continue
            lot = key.get(law.within, "") if law.pool else str(key)  # whose rows are fitted together
            if lot not in fits:
                joint, lent = lend(law, shared, key)
                if not law.pool and lot not in made:
                    made[lot] = compress(lent)
                fits[lot] = _fit_drawn(joint, lent, weight, None if law.pool else made[lot])
            rows.append(_cell(key, track, name) | _judge(fits[lot], group[part.test], weight))
    return rows


def _cell(key: dict[str, str], track: str, law: str) -> dict[str, object]:
    return {**key, "track": track, "cell": "|".join((*key.values(), track)), "law": law}


def _no_metrics(status: str) -> dict[str, object]:
    return {"status": status, **dict.fromkeys(METRICS, np.nan), "asd_draws": None}


def _fit_drawn(law: Law, train: pd.DataFrame, weight: Array, curves: Curves | None) -> tuple[Fit, Array] | None:
    """A fit and its draws, or None where the law cannot be fitted."""
    try:
        fitted = fit(law, train, curves=curves)
    except FitError:
        return None
    return fitted, parameter_draws(fitted, train, weight, curves)


def _judge(fitted: tuple[Fit, Array] | None, test: pd.DataFrame, weight: Array) -> dict[str, object]:
    """Status and metrics of one fit on the test rows."""
    if fitted is None:
        return _no_metrics(FAILED)
    test = marked(fitted[0].law, test)
    predicted = fitted[0].predict(test)
    if not np.isfinite(predicted).all():
        return _no_metrics(FAILED)
    drawn = asd_draws(test, predict_draws(*fitted, test), weight)
    return {"status": str(fitted[0].status), **metrics(test, predicted), "asd_draws": drawn}


def asd_interval(drawn: Array | None, level: float = 0.9) -> list[float] | None:
    """The interval of an ASD from its draws (draws,); None without draws."""
    if drawn is None or not np.isfinite(drawn).all():
        return None
    return [float(v) for v in np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])]


def metrics(test: pd.DataFrame, predicted: Array) -> dict[str, float]:
    """All metrics of predicted losses, shape (n,), on run-log rows."""
    loss = test["loss"].to_numpy(dtype=float)
    error = predicted - loss
    a = np.abs(error)
    spread = float(((loss - loss.mean()) ** 2).sum())
    measured = (test["tokens"], loss, predicted, curve_numbers(test))
    return {
        "asd": asd(*measured),
        "asd_doubling": asd_doubling(*measured),
        "r2": 1 - float((error**2).sum()) / spread if spread > 0 else float("nan"),
        "huber": float(np.where(a <= HUBER_DELTA, a * a / 2, HUBER_DELTA * (a - HUBER_DELTA / 2)).mean()),
        "rmse": float(np.sqrt((error**2).mean())),
    }
