"""Taking an input away from P² costs slope error; the whole law compared with itself costs nothing."""

import numpy as np
import pandas as pd
import pytest

from leaderboard import LAWS, fit
from leaderboard.logs.contract import usable
from leaderboard.studies.ablation import P2_NO_D, WHOLE, WITHOUT, ablate


@pytest.fixture(scope="module")
def table(seed):
    return ablate(seed).set_index("without")


def test_every_input_matters_on_the_seed(table):
    assert set(table.index) == set(WITHOUT)
    assert table.loc[WHOLE, ["asd_ratio", "low", "high"]].tolist() == pytest.approx([1, 1, 1])
    for name in ("N0", "D", "rho", "L0"):
        assert table.loc[name, "asd_ratio"] > table.loc[name, "low"] > 1
    assert table["asd_ratio"].is_monotonic_decreasing


def test_a_failed_law_has_no_ratio(seed):
    rows = seed[(seed["family"] == "llama-3") & (seed["method"] == "depth")]
    blind = {WHOLE: LAWS["p2"], "all": LAWS["damage"]}
    table = ablate(rows.assign(l_pruned=rows["l0"]), blind).set_index("without")
    assert np.isnan(table.loc["all", "asd_ratio"])
    assert table.loc["all", "n_cells"] == 0


def test_without_tokens_every_curve_is_flat(seed):
    rows = usable(seed[(seed["family"] == "llama-3") & (seed["method"] == "width")])
    fitted = fit(P2_NO_D, rows)
    predicted = pd.Series(fitted.predict(rows), index=rows["run_id"].astype(str))
    assert (predicted.groupby(level=0).nunique() == 1).all()
