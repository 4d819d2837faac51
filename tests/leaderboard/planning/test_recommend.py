"""The recommended fit: for every family and method, from its input columns alone, close on runs it never saw."""

import numpy as np
import pandas as pd
import pytest

from leaderboard import LAWS, P2Error, fit, recommend_tokens, recommended_fit
from leaderboard.fitting.pooled import fit_group, joined, lend, marked
from leaderboard.logs.contract import usable

GROUPS = [(f, m) for f in ("llama-3", "qwen-2.5") for m in ("depth", "width", "2:4")]
COLUMNS = ["n0", "rate", "l0", "l_pruned", "n_pruned", "tokens"]
LAW = LAWS["capacity-damage"]


def _new(n0: float, rate: float, l0: float, damage: float) -> pd.DataFrame:
    tokens = np.array([5e5, 2e6, 1e7])
    row = {"n0": n0, "rate": rate, "l0": l0, "l_pruned": l0 + damage, "n_pruned": n0 * (1 - rate)}
    return pd.DataFrame({"tokens": tokens, **row})


@pytest.mark.parametrize(("family", "method"), GROUPS)
@pytest.mark.parametrize("known", [True, False])
def test_every_group_has_a_fit_that_predicts_new_models(family, method, known, seed):
    fitted = recommended_fit(seed, family=family, method=method, l_pruned_known=known)
    assert known or not any("l_pruned" in member.fit.law.inputs for member in fitted.members)
    assert any("laws answer together" in line for line in fitted.why)
    assert any("Fitted to" in line for line in fitted.why)
    for new in (_new(104e6, 0.3, 2.6, 0.5), _new(34e6, 0.45, 2.72, 2.0)):
        excess = fitted.predict(new[COLUMNS]) - new["l0"].to_numpy()
        assert np.isfinite(excess).all()
        assert (np.diff(excess) < 0).all()
        assert -0.1 < excess[-1] < excess[0] < 3


def test_a_larger_model_is_predicted_within_two_hundredths(seed):
    small, large = seed[seed["n0"] < 2e7], usable(seed[seed["n0"] > 2e7])
    for method in ("depth", "width"):
        fitted = recommended_fit(small, family="llama-3", method=method)
        test = large[large["method"] == method]
        error = fitted.predict(test[COLUMNS]) - test["loss"].to_numpy()
        assert np.sqrt((error**2).mean()) < 0.02


def test_families_share_exponents_and_keep_their_amplitude(seed):
    text = usable(seed)
    one, other = (fit_group(LAW, text, {"family": f, "method": "depth"}) for f in ("llama-3", "qwen-2.5"))
    shared = [q.name for q in LAW.parameters if q.name not in LAW.own]
    assert [one.fit.params[n] for n in shared] == pytest.approx([other.fit.params[n] for n in shared], rel=1e-12)
    assert one.fit.params["a"] != pytest.approx(other.fit.params["a"], rel=0.01)
    rows = one.rows[one.rows["family"] == "llama-3"]
    np.testing.assert_allclose(one.fit.predict(rows), one.joint.predict(rows), rtol=1e-13)


def test_a_family_without_runs_gets_the_mean_amplitude(seed):
    text = usable(seed)
    known = [fit_group(LAW, text, {"family": f, "method": "depth"}).fit.params["a"] for f in ("llama-3", "qwen-2.5")]
    new = fit_group(LAW, text, {"family": "olmo-2", "method": "depth"}).fit.params["a"]
    assert new == pytest.approx(np.mean(known), rel=1e-12)


def test_a_method_with_few_runs_borrows_all_rows(seed):
    text = usable(seed)
    assert set(lend(LAW, text, {"family": "llama-3", "method": "2:4"})[1]["method"]) == {"2:4"}
    few = text[(text["method"] != "2:4") | (text["family"] == "llama-3")]
    assert set(lend(LAW, few, {"family": "llama-3", "method": "2:4"})[1]["method"]) == {"2:4", "depth", "width"}


def test_a_joint_laws_derivatives_are_those_of_its_basis(seed):
    law = joined(LAW, ["llama-3", "qwen-2.5"])
    x = law.read(marked(law, usable(seed).iloc[::40]))
    theta = np.array([0.8, 0.4, 0.2, 0.4])[:, None]
    jacobian = law.jacobian(theta, x)
    assert jacobian.shape == (4, *law.basis(theta, x).shape) == (4, 4, x.size)
    for p in range(4):
        step = np.zeros((4, 1))
        step[p] = 1e-6
        numeric = (law.basis(theta + step, x) - law.basis(theta - step, x)) / 2e-6
        np.testing.assert_allclose(jacobian[p], numeric, rtol=1e-6, atol=1e-9)


def test_draws_of_a_family_spread_around_its_fit(seed):
    shared = fit_group(LAW, usable(seed), {"family": "qwen-2.5", "method": "width"})
    spread = shared.resample(draws=60)
    new = _new(34e6, 0.3, 2.72, 1.5)
    drawn = spread.predict(new)
    assert drawn.shape == (60, 3)
    assert (np.abs(drawn.mean(axis=0) - shared.fit.predict(new)) < 3 * drawn.std(axis=0)).all()


def test_one_family_alone_is_a_plain_fit(seed):
    rows = usable(seed[(seed["family"] == "llama-3") & (seed["method"] == "width")])
    shared = fit_group(LAW, rows, {"family": "llama-3", "method": "width"})
    assert shared.fit.params == fit(LAW, rows).params


def test_an_unknown_text_is_refused(seed):
    with pytest.raises(P2Error, match="eval_data"):
        recommended_fit(seed, family="llama-3", method="depth", eval_data="p2lab/docs-heldou")


@pytest.mark.parametrize("name", ["capacity-damage", "capacity"])
@pytest.mark.parametrize(("family", "method"), [g for g in GROUPS if g[1] != "2:4"])  # 2:4 has one rate
def test_beyond_the_data_losses_stay_finite_fall_with_tokens_and_rise_with_the_rate(name, family, method, seed):
    fitted = fit_group(LAWS[name], usable(seed), {"family": family, "method": method}).fit
    tokens = np.geomspace(1e6, 1e8, 20)
    for n0 in (34e6, 102e6):  # the largest of the seed, and three times that
        losses = []
        for rate in np.linspace(0.1, 0.6, 11):
            damage = 3 * rate / (1 - rate)
            new = {"n0": n0, "rate": rate, "l0": 2.5, "l_pruned": 2.5 + damage, "n_pruned": n0 * (1 - rate)}
            losses.append(fitted.predict(pd.DataFrame({"tokens": tokens, **new})))
        assert np.isfinite(losses).all()
        assert (np.diff(losses, axis=1) < 0).all()
        assert (np.diff(losses, axis=0) > 0).all()


@pytest.mark.parametrize("runs", [1, 2, 3])
def test_a_few_runs_of_ones_own_get_an_answer(seed, runs):
    """Nothing can be held out of so few, so laws of each kind answer with equal weight, and none is NaN."""
    own = seed[(seed["family"] == "llama-3") & (seed["method"] == "depth") & (seed["base_model"] == "p2lab/llama-3-s2")]
    own = own[own["run_id"].isin(own["run_id"].astype(str).unique()[:runs])]
    first = own.iloc[0]
    told = recommend_tokens(
        own, family="llama-3", method="depth", rate=first["rate"], n0=first["n0"], l0=first["l0"],
        l_pruned=first["l_pruned"], excess=0.1,
    )  # fmt: skip
    assert told.status in ("reached", "unreachable")
    assert told.loss is not None
    assert sum(told.weights.values()) == pytest.approx(1, abs=1e-3)
