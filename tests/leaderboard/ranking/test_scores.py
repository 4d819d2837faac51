"""The short cuts for thousands of runs give what the long way gives."""

import numpy as np
import pandas as pd
import pytest

from leaderboard import LAWS, fit
from leaderboard.fitting.compressed import compress
from leaderboard.fitting.one_step_draws import parameter_draws, predict_draws
from leaderboard.ranking.asd import asd, asd_doubling
from leaderboard.ranking.scores import HeldOut, asd_draws

LAW = LAWS["p2"]
TRUE = {"alpha": 0.4, "beta": 0.35, "gamma": -1.6, "delta": 0.3, "N_C": 0.05, "D_C": 0.3, "E": 0.2}


@pytest.fixture(scope="module")
def crowd():
    """72 runs of 120 evaluations: 9 designs, on two grids of tokens, rows shuffled."""
    rng = np.random.default_rng(0)
    rows = []
    for run in range(72):
        n0, rate = (0.5e9, 1e9, 3e9)[run % 3], (0.15, 0.25, 0.35)[run // 3 % 3]
        tokens = np.geomspace(1e7, 1e9, 120).round() * (1 + run % 2)
        own = {"run_id": f"r{run}", "base_model": str(n0), "n0": n0, "rate": rate, "l0": 2.5, "curve": run}
        rows.append(pd.DataFrame({**own, "tokens": tokens, "noise": rng.normal(0, 0.01) + rng.normal(0, 0.002, 120)}))
    frame = pd.concat(rows, ignore_index=True)
    loss = LAW.value(TRUE, LAW.read(frame)) + frame["noise"]
    return frame.assign(loss=loss).sample(frac=1, random_state=0)


@pytest.fixture(scope="module")
def fitted(crowd):
    return fit(LAW, crowd, curves=compress(crowd).designs())


def test_merged_runs_give_the_fit_of_all_rows(crowd, fitted):
    assert compress(crowd).designs().runs == 18
    every_row = fit(LAW, crowd, curves=compress(crowd))
    assert fitted.objective == pytest.approx(every_row.objective, rel=1e-9)
    assert fitted.n_runs == 72
    error = fitted.predict(crowd) - crowd["loss"]
    assert fitted.objective == pytest.approx(0.5 * float(error @ error), rel=1e-9)
    np.testing.assert_allclose(fitted.predict(crowd), every_row.predict(crowd), rtol=1e-9)


def test_draws_of_merged_runs_are_those_of_all_rows(crowd, fitted):
    weight = np.random.default_rng(1).exponential(size=(50, 72))
    merged = parameter_draws(fitted, crowd, weight, compress(crowd).designs())
    np.testing.assert_allclose(
        predict_draws(fitted, merged, crowd),
        predict_draws(fitted, parameter_draws(fitted, crowd, weight), crowd),
        rtol=1e-7,
    )


def test_metrics_on_distinct_rows_are_those_on_all(crowd, fitted):
    judged = HeldOut.of(crowd, LAW.inputs)
    assert len(judged.distinct) == 9 * 240
    predicted, loss = fitted.predict(crowd), crowd["loss"].to_numpy()
    found = judged.metrics(fitted.predict(judged.distinct))
    assert found["rmse"] == pytest.approx(float(np.sqrt(np.mean((predicted - loss) ** 2))), rel=1e-9)
    assert found["r2"] == pytest.approx(
        1 - np.sum((predicted - loss) ** 2) / np.sum((loss - loss.mean()) ** 2), rel=1e-9
    )
    measured = (crowd["tokens"], loss, predicted, crowd["run_id"])
    assert found["asd"] == pytest.approx(asd(*measured), rel=1e-9)
    assert found["asd_doubling"] == pytest.approx(asd_doubling(*measured), rel=1e-9)


def test_draws_of_asd_to_first_order_are_close_to_whole_ones(crowd, fitted):
    weight = np.random.default_rng(2).exponential(size=(400, 72))
    drawn = parameter_draws(fitted, crowd, weight)
    judged = HeldOut.of(crowd, LAW.inputs)
    whole = judged.asd_draws(fitted, drawn, weight)
    np.testing.assert_allclose(whole, asd_draws(crowd, predict_draws(fitted, drawn, crowd), weight), rtol=1e-9)
    short = judged.asd_draws(fitted, drawn, weight, most=0)
    np.testing.assert_allclose(short, whole, rtol=0.02)
    np.testing.assert_allclose(np.quantile(short, [0.05, 0.95]), np.quantile(whole, [0.05, 0.95]), rtol=2e-3)
