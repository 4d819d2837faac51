"""The backtest of forecasts: what each case may know, and that the targets hold on the bundled curves."""

import numpy as np
import pandas as pd
import pytest

from leaderboard.studies.forecasts import _cases, backtest, curve_alone, summary


def test_no_case_knows_what_it_is_judged_on(seed):
    kinds = set()
    for kind, own, others in _cases(seed, ("run", "size", "rate")):
        head, kinds = own.iloc[0], kinds | {kind}
        assert not set(own["run_id"]) & set(others["run_id"])
        twins = others[(others["base_model"] == head["base_model"]) & (others["method"] == head["method"])]
        if kind == "run":
            assert not np.isclose(twins["rate"], head["rate"], rtol=0.01).any()
        if kind == "size":
            assert others["n0"].max() < head["n0"] / 1.01
        if kind == "rate":
            assert (twins["rate"] < head["rate"]).all()
    assert kinds == {"run", "size", "rate"}


def test_a_curve_alone_finds_a_power(seed):
    tokens = np.geomspace(1e6, 1e7, 20)
    begin = pd.DataFrame({"tokens": tokens, "loss": 3 + 0.2 * (tokens / 1e6) ** -0.5})
    assert curve_alone(begin, np.array([1e8])) == pytest.approx(3 + 0.2 * 100**-0.5, abs=2e-3)


def test_a_sample_of_the_backtest(seed):
    some = seed[(seed["method"] == "depth") & (seed["n0"] > 3e7)]
    table = summary(backtest(some, shares=(0.2,), kinds=("run",)))
    (row,) = table.to_dict("records")
    assert row["runs"] >= 2
    assert row["rmse"] < 0.025
    assert row["inside_95"] > 0.7


@pytest.mark.slow
def test_forecasts_meet_their_targets_on_every_bundled_curve(seed):
    table = summary(backtest(seed, shares=(0.2,))).set_index("kind")
    assert table.loc["size", "rmse"] <= 0.010
    assert table.loc["rate", "rmse"] <= 0.025
    assert (table["rmse"] <= table[["law", "curve"]].min(axis=1)).all()
    assert table["inside_80"].loc[["run", "rate"]].between(0.72, 0.90).all()
    assert (table["inside_95"] >= 0.90).all()
