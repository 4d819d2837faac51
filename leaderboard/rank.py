"""Which law predicts best: every law, in every group, on every track, and the order that follows.

A law's score is the geometric mean over testable held-out cells of its ASD divided by the best law's there. A law that
fails in a testable cell has no rank. `recommended` marks the law with the lowest mean held-out RMSE over the size and
rate cells: the one to answer questions about new models with.
"""

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from leaderboard.asd import asd, asd_doubling
from leaderboard.errors import FitError, P2Error
from leaderboard.fit import Fit, fit
from leaderboard.law import Array, Law
from leaderboard.laws import LAWS
from leaderboard.runlog import GROUP, curve_numbers, require, usable
from leaderboard.tracks import HELD_OUT, TRACKS, groups, split

NEEDED = ("run_id", "base_model", "n0", "rate", "tokens", "loss")  # group columns may be absent: one group then
METRICS = ("asd", "asd_doubling", "r2", "huber", "rmse")
NEW_MODEL = ("size", "rate")  # the tracks that stand for a model not seen before
NOT_TESTABLE = "not_testable"
FAILED = "failed"
HUBER_DELTA = 1e-3
TINY = 1e-12  # keeps a ratio finite where the best law is exact


def rank(frame: pd.DataFrame, laws: Mapping[str, Law] | None = None, cells: pd.DataFrame | None = None) -> pd.DataFrame:
    """One row a law, best first: law, rank, score, score_doubling, rmse_heldout, n_cells, recommended.

    `frame` is a run-log frame; `cells` may be handed over when `score_cells` has been called already.
    """
    cells = score_cells(frame, laws) if cells is None else cells
    tested = cells[cells["track"].isin(HELD_OUT) & (cells["status"] != NOT_TESTABLE)]
    rows = [_summary(law, own, tested) for law, own in tested.groupby("law", sort=False)]
    missing = [law for law in cells["law"].unique() if law not in set(tested["law"])]
    columns = ["law", "score", "score_doubling", "rmse_heldout", "n_cells"]
    table = pd.DataFrame(rows + [{"law": law, "n_cells": 0} for law in missing], columns=columns)
    table["recommended"] = (table["rmse_heldout"] == table["rmse_heldout"].min()) & ~table["rmse_heldout"].duplicated()
    table.insert(1, "rank", table["score"].rank(method="min").astype("Int64"))
    return table.sort_values(["score", "law"], na_position="last", ignore_index=True)


def _summary(law: object, own: pd.DataFrame, tested: pd.DataFrame) -> dict[str, object]:
    """A law's figures over its testable held-out cells; missing stays missing."""
    new_model = own[own["track"].isin(NEW_MODEL)]
    failed = (own["status"] == FAILED).any()
    return {
        "law": law,
        "score": np.nan if failed else _relative(own, tested, "asd"),
        "score_doubling": np.nan if failed else _relative(own, tested, "asd_doubling"),
        "rmse_heldout": new_model["rmse"].mean(skipna=False) if len(new_model) else np.nan,
        "n_cells": int((own["status"] != FAILED).sum()),
    }


def _relative(own: pd.DataFrame, tested: pd.DataFrame, metric: str) -> float:
    """Geometric mean over cells of a law's metric divided by the best law's."""
    best = tested.groupby("cell")[metric].min()
    ratio = (own.set_index("cell")[metric] + TINY) / (best + TINY).loc[own["cell"]]
    return float(np.exp(np.log(ratio.dropna()).mean()))


def score_cells(
    frame: pd.DataFrame, laws: Mapping[str, Law] | None = None, tracks: Iterable[str] = TRACKS
) -> pd.DataFrame:
    """One row a law, group and track: group columns, track, cell, law, status, and the metrics on the test rows.

    `status` is the fit's, `not_testable` or `failed`; metrics of those two are NaN. Units: asd in nats per billion
    tokens, asd_doubling in nats per doubling, huber the mean Huber(1e-3) term, rmse in nats per token.
    """
    laws = LAWS if laws is None else laws
    require(frame, NEEDED, "rank")
    texts = [rows for _, rows in _texts(usable(frame))]
    if not texts:
        raise P2Error("rank: no usable row (tokens > warmup_tokens, something pruned) in these logs.")
    rows: list[dict[str, object]] = []
    for text in texts:
        for track in tracks:
            rows += _score_text(text, track, laws)
    return pd.DataFrame(rows)


def _texts(frame: pd.DataFrame) -> list[tuple[object, pd.DataFrame]]:
    """Rows that a pooled law may share: one held-out text and objective."""
    columns = [c for c in GROUP[2:] if c in frame]
    return list(frame.groupby(columns, observed=True)) if columns else [((), frame)]


def _score_text(text: pd.DataFrame, track: str, laws: Mapping[str, Law]) -> list[dict[str, object]]:
    """All cells of one held-out text and track. Groups that cannot test it still lend their rows to pooled laws."""
    parts = [(key, group, split(group, track)) for key, group in groups(text)]
    shared = pd.concat([group if part is None else group[part.train] for _, group, part in parts])
    rows: list[dict[str, object]] = []
    for name, law in laws.items():
        pooled = _try_fit(law, shared) if law.pool else None
        for key, group, part in parts:
            row: dict[str, object] = {**key, "track": track, "cell": "|".join((*key.values(), track)), "law": name}
            if part is None:
                rows.append(row | {"status": NOT_TESTABLE, **dict.fromkeys(METRICS, np.nan)})
                continue
            fitted = pooled if law.pool else _try_fit(law, group[part.train])
            rows.append(row | _judge(fitted, group[part.test]))
    return rows


def _try_fit(law: Law, frame: pd.DataFrame) -> Fit | None:
    try:
        return fit(law, frame)
    except FitError:
        return None


def _judge(fitted: Fit | None, test: pd.DataFrame) -> dict[str, object]:
    """Status and metrics of one fit on the test rows."""
    predicted = fitted.predict(test) if fitted else np.full(len(test), np.nan)
    if fitted is None or not np.isfinite(predicted).all():
        return {"status": FAILED, **dict.fromkeys(METRICS, np.nan)}
    return {"status": str(fitted.status), **metrics(test, predicted)}


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
