"""Which of N0, D, rho and L0 matter: held-out ASD of P² without each, over that of the whole law.

Cells and draws are those of cells.py. A ratio of 1 says that the input adds nothing to slopes of unseen curves; its
interval is over other runs, the same ones for both laws.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from leaderboard.laws.catalogue import P2, P2_NO_L0, P2_NO_N0, P2_NO_NC, P2_NO_RATE, without_tokens
from leaderboard.laws.law import Law
from leaderboard.ranking.cells import FAILED, NOT_TESTABLE, score_cells
from leaderboard.ranking.rank import LEVEL, TINY
from leaderboard.ranking.tracks import HELD_OUT

WHOLE = "nothing"
P2_NO_D = without_tokens(P2)
WITHOUT: dict[str, Law] = {
    WHOLE: P2,
    "N0": P2_NO_N0,
    "D": P2_NO_D,
    "rho": P2_NO_RATE,
    "L0": P2_NO_L0,
    "the N_C term": P2_NO_NC,
}


def ablate(frame: pd.DataFrame, without: Mapping[str, Law] | None = None) -> pd.DataFrame:
    """One row an ablation, the most telling first: without, law, asd_ratio with its 90 % interval (`low`, `high`),
    doubling_ratio, rmse (nats per token) and n_cells, over the held-out cells that both laws can be judged in.

    Ratios are geometric means over cells of the law's figure over that of the whole law. NaN where a law failed.
    """
    without = WITHOUT if without is None else without
    cells = score_cells(frame, {law.name: law for law in without.values()}, HELD_OUT)
    cells = cells[cells["status"] != NOT_TESTABLE].set_index("cell")
    whole = cells[cells["law"] == without[WHOLE].name]
    rows = [_compare(name, law, cells[cells["law"] == law.name], whole) for name, law in without.items()]
    return pd.DataFrame(rows).sort_values("asd_ratio", ascending=False, na_position="last", ignore_index=True)


def _compare(name: str, law: Law, own: pd.DataFrame, whole: pd.DataFrame) -> dict[str, object]:
    row: dict[str, object] = {"without": name, "law": law.name, "n_cells": int((own["status"] != FAILED).sum())}
    if own.empty or (own["status"] == FAILED).any() or (whole["status"] == FAILED).any():
        return row | dict.fromkeys(("asd_ratio", "low", "high", "doubling_ratio", "rmse"), np.nan)
    whole = whole.loc[own.index]
    drawn = [np.log((a + TINY) / (b + TINY)) for a, b in zip(own["asd_draws"], whole["asd_draws"], strict=True)]
    low, high = np.exp(np.quantile(np.mean(drawn, axis=0), [(1 - LEVEL) / 2, (1 + LEVEL) / 2]))
    ratio, doubling = (np.log((own[m] + TINY) / (whole[m] + TINY)).mean() for m in ("asd", "asd_doubling"))
    return row | {
        "asd_ratio": float(np.exp(ratio)),
        "low": float(low),
        "high": float(high),
        "doubling_ratio": float(np.exp(doubling)),
        "rmse": float(own["rmse"].mean()),
    }
