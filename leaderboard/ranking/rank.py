"""Which law predicts best: the order that the cells of cells.py give.

A law's score is the geometric mean over testable held-out cells of its ASD divided by the best law's there. A law that
fails in a testable cell has no rank. Laws tie where their paired difference over whole-run draws may be zero: a law's
rank is one more than the number of laws that are surely better. `recommended` marks the law with the lowest mean
held-out RMSE over the size and rate cells: the one to answer questions about new models with.

Two processors fit the same law to some nine digits. Scores and errors are therefore rounded to six decimals before
anything is compared, and what is equal then stands in order of names: the table is the same everywhere.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from leaderboard.laws.law import Array, Law
from leaderboard.ranking.cells import FAILED, NOT_TESTABLE, score_cells
from leaderboard.ranking.tracks import HELD_OUT

NEW_MODEL = ("size", "rate")  # the tracks that stand for a model not seen before
TINY = 1e-12  # keeps a ratio finite where the best law is exact
LEVEL = 0.9
DECIMALS = 6  # of scores (from 1 up) and of held-out errors (nats per token, about 0.01)


def rank(frame: pd.DataFrame, laws: Mapping[str, Law] | None = None, cells: pd.DataFrame | None = None) -> pd.DataFrame:
    """One row a law, best first: law, rank, score, score_doubling, rmse_heldout, n_cells, recommended; then the 90 %
    interval of the score (`score_low`, `score_high`) and `wins`, the share of draws the law wins.

    `frame` is a run-log frame; `cells` may be handed over when `score_cells` has been called already.
    """
    cells = score_cells(frame, laws) if cells is None else cells
    tested = cells[cells["track"].isin(HELD_OUT) & (cells["status"] != NOT_TESTABLE)]
    rows = [_summary(law, own, tested) for law, own in tested.groupby("law", sort=False)]
    missing = [law for law in cells["law"].unique() if law not in set(tested["law"])]
    columns = ["law", "score", "score_doubling", "rmse_heldout", "n_cells"]
    table = pd.DataFrame(rows + [{"law": law, "n_cells": 0} for law in missing], columns=columns)
    table = table.sort_values(["score", "law"], na_position="last", ignore_index=True)
    lowest = table.loc[table["rmse_heldout"] == table["rmse_heldout"].min(), "law"].min()
    table["recommended"] = table["law"] == lowest
    table.insert(1, "rank", table["score"].rank(method="min").astype("Int64"))
    return _with_draws(table, tested)


def _summary(law: object, own: pd.DataFrame, tested: pd.DataFrame) -> dict[str, object]:
    """A law's figures over its testable held-out cells; missing stays missing."""
    new_model = own[own["track"].isin(NEW_MODEL)]
    failed = (own["status"] == FAILED).any()
    return {
        "law": law,
        "score": np.nan if failed else _relative(own, tested, "asd"),
        "score_doubling": np.nan if failed else _relative(own, tested, "asd_doubling"),
        "rmse_heldout": round(new_model["rmse"].mean(skipna=False), DECIMALS) if len(new_model) else np.nan,
        "n_cells": int((own["status"] != FAILED).sum()),
    }


def _relative(own: pd.DataFrame, tested: pd.DataFrame, metric: str) -> float:
    """Geometric mean over cells of a law's metric divided by the best law's."""
    best = tested.groupby("cell")[metric].min()
    ratio = (own.set_index("cell")[metric] + TINY) / (best + TINY).loc[own["cell"]]
    return round(float(np.exp(np.log(ratio.dropna()).mean())), DECIMALS)


def _with_draws(table: pd.DataFrame, tested: pd.DataFrame) -> pd.DataFrame:
    """Intervals, shares of wins and ties from `asd_draws` of the cells; NaN where there are none."""
    table = table.assign(score_low=np.nan, score_high=np.nan, wins=np.nan)
    scored = table.index[table["score"].notna()]
    if "asd_draws" not in tested or not len(scored):
        return table
    scores = score_draws(tested, table.loc[scored, "law"].tolist())
    tail = (1 - LEVEL) / 2
    table.loc[scored, "score_low"], table.loc[scored, "score_high"] = np.quantile(scores, [tail, 1 - tail], axis=1)
    table.loc[scored, "wins"] = (scores == scores.min(axis=0)).mean(axis=1)
    better = np.quantile(scores[:, None] - scores[None], tail, axis=2) > 0  # [i, j]: j is surely better than i
    table.loc[scored, "rank"] = 1 + np.maximum.accumulate(better.sum(axis=1))  # ranks never fall as scores rise
    return table


def score_draws(tested: pd.DataFrame, laws: list[str]) -> Array:
    """Scores of ranked laws in every draw, shape (laws, draws)."""
    log_ratio = []
    for _, cell in tested[tested["law"].isin(laws)].groupby("cell"):
        draws = np.stack(cell.set_index("law").loc[laws, "asd_draws"].tolist()) + TINY
        log_ratio.append(np.log(draws / draws.min(axis=0)))
    return np.asarray(np.exp(np.mean(log_ratio, axis=0))).round(DECIMALS)
