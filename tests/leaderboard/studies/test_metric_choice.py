"""In-sample metrics by hand and against those of the cells; how often each chooses the best law."""

import numpy as np
import pandas as pd
import pytest

from leaderboard import LAWS, P2Error, asd, asd_doubling
from leaderboard.studies.metric_choice import IN_SAMPLE, metric_choice, rmse

FEW = {name: LAWS[name] for name in ("p2", "damage", "chinchilla")}


@pytest.fixture
def rows():
    tokens = np.concatenate([np.geomspace(1e6, 1e9, 20), np.geomspace(2e6, 5e8, 15)]).round()
    curve = np.repeat([0, 1], [20, 15])
    loss = 3 - 0.1 * np.log10(tokens) + np.random.default_rng(3).normal(0, 0.02, 35)
    return pd.DataFrame({"curve": curve, "tokens": tokens, "loss": loss}).sample(frac=1, random_state=1)


def test_equal_weights_give_the_plain_metrics(rows):
    predicted = (3 - 0.1 * np.log10(rows["tokens"].to_numpy()))[None]
    even = np.ones((1, 2))
    measured = (rows["tokens"], rows["loss"], predicted[0], rows["curve"])
    error = predicted[0] - rows["loss"].to_numpy()
    assert IN_SAMPLE["asd"](rows, predicted, even, 3) == pytest.approx(asd(*measured))
    assert IN_SAMPLE["asd_doubling"](rows, predicted, even, 3) == pytest.approx(asd_doubling(*measured))
    assert IN_SAMPLE["rmse"](rows, predicted, even, 3) == pytest.approx(np.sqrt((error**2).mean()))
    unexplained = (error**2).sum() / ((rows["loss"] - rows["loss"].mean()) ** 2).sum()
    assert IN_SAMPLE["r2"](rows, predicted, even, 3) == pytest.approx(unexplained)
    n, k = 35, 4
    expected = n * np.log((error**2).mean()) + 2 * k + 2 * k * (k + 1) / (n - k - 1)
    assert IN_SAMPLE["aicc"](rows, predicted, even, 3) == pytest.approx(expected)


def test_a_run_of_weight_nothing_counts_for_nothing(rows):
    predicted = np.full((1, 35), 2.3)
    one = rows[rows["curve"] == 0]
    weighted, alone = np.array([[1.0, 0.0]]), np.ones((1, 2))
    for name in ("asd", "asd_doubling", "huber", "rmse", "r2"):
        own = IN_SAMPLE[name](one, predicted[:, :20], alone, 3)
        assert IN_SAMPLE[name](rows, predicted, weighted, 3) == pytest.approx(own)


def test_shares_and_regrets_on_a_group(seed):
    group = seed[(seed["family"] == "llama-3") & (seed["method"] == "depth")]
    table = metric_choice(group, FEW, draws=20).set_index("metric")
    assert set(table.index) == set(IN_SAMPLE)
    assert (table["n_cells"] == 3).all()
    assert ((table["low"] <= table["high"]) & table["hits"].between(0, 1)).all()
    assert (table[["regret", "regret_low"]] >= 1).all(axis=None)
    assert table["by_chance"].tolist() == pytest.approx([1 / 3] * len(IN_SAMPLE))


def test_one_law_is_always_the_best(seed):
    group = seed[(seed["family"] == "llama-3") & (seed["method"] == "depth")]
    table = metric_choice(group, {"damage": LAWS["damage"]}, draws=5)
    assert (table[["hits", "low", "regret", "regret_high"]] == 1).all(axis=None)


def test_nothing_to_test_is_said(seed):
    one = seed[seed["run_id"] == seed.loc[seed["method"] != "none", "run_id"].iloc[0]]
    short = one.iloc[:6]
    with pytest.raises(P2Error, match="can test no law"):
        metric_choice(short, FEW, draws=2)


def test_rmse_is_in_nats():
    rows = pd.DataFrame({"curve": [0, 0], "loss": [1.0, 2.0]})
    assert rmse(rows, np.array([[1.3, 2.4]]), np.ones((1, 1))) == pytest.approx(np.sqrt(0.125))
