"""What a fit minimises, what it refuses, and what it does with frames that hold less than a run log."""

import numpy as np
import pandas as pd
import pytest

from leaderboard import LAWS, FitError, P2Error, fit
from leaderboard.logs.contract import usable

P2 = LAWS["p2"]


@pytest.fixture(scope="module")
def group(seed) -> pd.DataFrame:
    """One family and method of the seed, all rows."""
    return seed[(seed["family"] == "llama-3") & (seed["method"] == "depth")]


def _objective(kind: str, measured: np.ndarray, predicted: np.ndarray, delta: float) -> float:
    r = np.log(predicted) - np.log(measured) if kind.startswith("log-") else predicted - measured
    if kind.endswith("ls"):
        return 0.5 * sum(v * v for v in r)
    return sum(0.5 * v * v if abs(v) <= delta else delta * (abs(v) - delta / 2) for v in r)


@pytest.mark.parametrize("kind", ["ls", "log-ls", "huber", "log-huber"])
def test_the_objective_is_the_sum_over_usable_rows(kind, group):
    found = fit(P2, group, loss=kind, delta=2e-3)
    rows = group[(group["tokens"] > 327_680)]
    expected = _objective(kind, rows["loss"].to_numpy(), found.predict(rows), 2e-3)
    assert found.objective == pytest.approx(expected, rel=1e-6)
    assert found.n_rows == len(rows) == len(usable(group))
    assert found.n_runs == group["run_id"].nunique()
    for name in ("beta", "gamma", "D_C", "E"):  # no step away is better
        for factor in (0.999, 1.001):
            moved = P2.value(found.params | {name: found.params[name] * factor}, P2.read(rows))
            assert _objective(kind, rows["loss"].to_numpy(), moved, 2e-3) >= found.objective * (1 - 1e-9), name


def test_each_objective_has_its_own_optimum(group):
    assert len({round(fit(P2, group, loss=kind).params["beta"], 6) for kind in ("ls", "log-ls", "log-huber")}) == 3


def test_rmse_is_in_nats(group):
    found, rows = fit(P2, group), usable(group)
    assert found.rmse == pytest.approx(np.sqrt(np.mean((found.predict(rows) - rows["loss"]) ** 2)), rel=1e-9)


def test_gamma_is_pinned_with_one_rate_per_base_model(group):
    lowest = group.groupby("base_model", observed=True)["rate"].transform("min")
    found = fit(P2, group[group["rate"] == lowest])
    assert found.params["gamma"] == 0
    assert "needs 2 values of rate in any base model, has 1" in found.pinned["gamma"]
    assert "pinned:gamma" in found.notes
    assert "gamma" not in fit(P2, group).pinned


def test_two_sizes_cannot_tell_alpha(group):
    found = fit(P2, group[group["n0"] < group["n0"].max()])
    assert found.params["alpha"] == 0.35
    assert "needs 3 values of n0, has 2" in found.pinned["alpha"]


def test_a_frame_may_lack_what_the_law_does_not_need(group):
    whole = fit(P2, group)
    rows = usable(group)
    bare = rows[["n0", "tokens", "rate", "l0", "loss"]].reset_index(drop=True)
    assert fit(P2, bare).objective == pytest.approx(whole.objective, rel=1e-6)
    assert fit(P2, bare.assign(base_model=rows["base_model"].astype(str).to_numpy())).params == pytest.approx(
        fit(P2, bare).params, rel=1e-3
    )


def test_neither_row_order_nor_index_matters(group):
    whole = fit(P2, group)
    rows = usable(group)
    shuffled = rows.sample(frac=1, random_state=0)
    same_index = rows.set_axis(np.zeros(len(rows), dtype=int))
    text = rows.astype(dict.fromkeys(rows.columns[rows.dtypes == "category"], str))
    for other in (shuffled, same_index, text):
        assert fit(P2, other).objective == pytest.approx(whole.objective, rel=1e-6)


def test_rows_that_are_not_finite_are_left_out(group):
    holes = group.assign(loss=group["loss"].where(group["tokens"] % 3 != 0))
    assert fit(P2, holes).n_rows == int(usable(holes)["loss"].notna().sum())


def test_predict_needs_the_laws_inputs_only(group):
    found = fit(P2, group)
    question = pd.DataFrame({"n0": [3e7, 3e7], "rate": [0.2, 0.2], "l0": [2.8, 2.8], "tokens": [0, 1_000_000]})
    value = found.predict(question)
    assert np.isnan(value[0])
    assert 2.8 < value[1] < 4
    with pytest.raises(FitError, match="needs the columns n0") as error:
        found.predict(question.drop(columns="n0"))
    assert error.value.code == "missing_column"


@pytest.mark.parametrize("missing", ["loss", "rate", "tokens"])
def test_a_missing_column_is_named(missing, group):
    with pytest.raises(FitError, match=missing):
        fit(P2, group.drop(columns=missing))


@pytest.mark.parametrize("column", ["eval_data", "objective"])
def test_losses_that_do_not_compare_share_no_fit(column, group):
    mixed = pd.concat([group, group.astype({column: str}).assign(**{column: "another"})])
    with pytest.raises(FitError, match=column) as error:
        fit(P2, mixed)
    assert error.value.code == "mixed_groups"


def test_mixed_families_are_noted(seed):
    assert "families_or_methods_pooled" in fit(P2, seed).notes
    assert "families_or_methods_pooled" not in fit(LAWS["damage-pooled"], seed).notes


def test_nothing_to_fit(group, seed):
    with pytest.raises(FitError) as none:
        fit(P2, group[group["tokens"] == 0])
    assert none.value.code == "no_rows"
    with pytest.raises(FitError):
        fit(P2, seed[seed["method"] == "none"])
    with pytest.raises(FitError) as few:
        fit(LAWS["chinchilla"], usable(group).iloc[:1])
    assert few.value.code == "too_few_rows"


def test_an_unknown_loss_names_the_known(group):
    with pytest.raises(P2Error, match="Did you mean 'huber'"):
        fit(P2, group, loss="hubr")
