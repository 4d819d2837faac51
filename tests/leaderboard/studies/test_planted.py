"""Where the truth is known: intervals cover it inside the data and at three times the size, whatever law is true."""

import numpy as np
import pytest

from leaderboard import LAWS, P2Error
from leaderboard.logs.contract import curve_numbers, usable
from leaderboard.studies.planted import new_runs, planted, summary


@pytest.fixture(scope="module")
def text(seed):
    rows = usable(seed).reset_index(drop=True)
    return rows.assign(curve=curve_numbers(rows))


def test_new_runs_lie_where_they_are_said_to(text):
    own = text[(text["family"] == "llama-3") & (text["method"] == "width")]
    inside, larger = new_runs(text, own, "inside"), new_runs(text, own, "3 x size")
    assert len(inside) == 6  # between the three rates of each of three bases
    for run in inside:
        base = own[own["n0"] == run["n0"].iloc[0]]
        assert base["rate"].min() < run["rate"].iloc[0] < base["rate"].max()
        assert base["l_pruned"].min() < run["l_pruned"].iloc[0] < base["l_pruned"].max()
    (run,) = larger
    assert run["n0"].iloc[0] == pytest.approx(3 * text["n0"].max())
    assert run["l0"].iloc[0] < text["l0"].min() < run["l_pruned"].iloc[0]


def test_no_usable_row_cannot_be_planted_in(text):
    with pytest.raises(P2Error, match="planted: no usable row"):
        planted(text.iloc[:0])


@pytest.mark.slow
def test_planted_truths_are_covered(seed):
    table = summary(planted(seed, draws=1)).set_index(["place", "truth"])
    inside, larger = table.loc[("inside", "all")], table.loc["3 x size"]
    assert inside["tokens_80"].between(0.72, 0.88).all()
    assert inside["tokens_95"].between(0.9, 0.99).all()
    assert (larger[["loss_95", "tokens_95"]] >= 0.88).all(axis=None)
    assert {law for law in LAWS if LAWS[law].testable(usable(seed))} == set(larger.index) - {"all"}
    assert np.isfinite(table["rmse"]).all()
