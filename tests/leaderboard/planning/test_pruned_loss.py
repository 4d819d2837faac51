"""The loss right after pruning from the rate: planted exponents, the seed, what cannot be answered."""

import numpy as np
import pandas as pd
import pytest

from leaderboard import P2Error, pruned_loss


def _runs(alpha: float, scatter: float, bases: int, seed: int = 0) -> pd.DataFrame:
    """Runs at four rates of each base, whose damages differ by a factor of exp(N(0, scatter)) between bases."""
    random = np.random.default_rng(seed)
    rows = []
    for base in range(bases):
        factor, l0 = np.exp(random.normal(0, scatter)), random.uniform(2, 4)
        for rate in (0.1, 0.2, 0.3, 0.4):
            damage = l0 * ((1 - rate) ** -alpha - 1) * factor
            rows.append({"base_model": f"b{base}", "rate": rate, "l0": l0, "l_pruned": l0 + damage})
    return pd.DataFrame(rows).assign(method="depth", run_id=[f"r{i}" for i in range(len(rows))])


def test_a_planted_exponent_is_found_again():
    law = pruned_loss(_runs(0.9, 0.0, 4), "depth")
    assert law.alpha == pytest.approx(0.9)
    assert law.spread == pytest.approx(0, abs=1e-9)
    assert law.predict(3.0, 0.25) == pytest.approx(3.0 * 0.75**-0.9)
    assert law.predict(3.0, 0.0) == 3.0


def test_intervals_hold_new_bases_as_often_as_they_say():
    inside = []
    for seed in range(300):
        runs = _runs(0.9, 0.4, 7, seed)
        new = runs[runs["base_model"] == "b6"].iloc[2]
        low, high = pruned_loss(runs[runs["base_model"] != "b6"], "depth").interval(new["l0"], new["rate"], 0.8)
        inside.append(low < new["l_pruned"] < high)
    assert 0.72 < np.mean(inside) < 0.9


@pytest.mark.parametrize("method", ["depth", "width", "2:4"])
def test_on_the_seed_a_base_not_fitted_is_guessed_within_a_factor_of_about_two(method, seed):
    law = pruned_loss(seed, method)
    assert 0.2 < law.alpha < 2
    assert np.log(1.2) < law.spread < np.log(2.3)


def test_too_few_bases_are_refused_and_unharmed_runs_left_out():
    runs = _runs(0.9, 0.1, 2)
    with pytest.raises(P2Error, match="2 base models pruned by depth; a guess of l_pruned needs 3"):
        pruned_loss(runs, "depth")
    with pytest.raises(P2Error, match="0 base models pruned by width"):
        pruned_loss(runs, "width")
    more = _runs(0.9, 0.1, 3)
    unharmed = more.iloc[:1].assign(l_pruned=more["l0"].iloc[0] - 0.01, run_id="unharmed")
    assert pruned_loss(pd.concat([more, unharmed]), "depth") == pruned_loss(more, "depth")
