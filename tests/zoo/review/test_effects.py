"""What merging would change: shown for every group that shares a fit, and too much of it waits for a person."""

import pandas as pd
import pytest

from leaderboard import load_logs
from leaderboard.logs.findings import UNUSUAL
from zoo.review.effects import GOALS, OTHERS, Effect, effects, outliers


@pytest.mark.parametrize(
    ("factor", "most", "waits"),
    [(1.09, 1.1, False), (1.11, 1.1, True), (None, 1.1, True), (None, None, False), (9.0, None, False)],
)
def test_a_change_beyond_what_is_allowed_waits(factor, most, waits):
    finding = Effect("budget", "80 tokens", "1,299 tokens", factor, most).finding
    assert (finding is not None) == waits
    assert finding is None or (finding.severity == UNUSUAL and "80 tokens -> 1,299 tokens" in finding.got)


def _sent(run: pd.DataFrame, **changes: object) -> pd.DataFrame:
    return run.assign(run_id="f" * 16, contributor="mallory", **changes)


def test_a_curve_is_odd_only_beside_those_measured_alike():
    """A run on longer sequences has other losses; one measured as its group was, and far off, is told."""
    seed = load_logs().frame
    seed = seed.astype(dict.fromkeys(seed.select_dtypes("category"), object))
    own = seed[seed["run_id"] == seed.loc[seed["method"] == "depth", "run_id"].iloc[0]]
    worse = {"loss": own["loss"] + 1.0}
    told = [
        outliers(seed, pd.concat([seed, _sent(own, **worse, **changes)], ignore_index=True))
        for changes in ({}, {"seq_len": 4096})
    ]
    assert [list(found) for found in told] == [["f" * 16], []]


@pytest.mark.slow
def test_a_rising_run_of_a_new_family_is_judged_by_all_groups_it_shares_fits_with():
    seed = load_logs().frame
    seed = seed.astype(dict.fromkeys(seed.select_dtypes("category"), object))
    own = seed[seed["run_id"] == seed.loc[seed["method"] == "depth", "run_id"].iloc[0]]
    new = _sent(own, family="zeta", rate=0.9, loss=own["l_pruned"] - 0.3 * (own["l_pruned"] - own["l0"]))
    shown = list(effects(seed, pd.concat([seed, new], ignore_index=True), "mallory", "p2lab"))
    groups = {effect.what.split(" on ")[0] for effect in shown[1:]}
    known = seed.loc[seed["method"] != "none", ["family", "method"]].drop_duplicates()
    for family, method in [*known.itertuples(index=False), ("zeta", "depth")]:
        assert {f"{goal} of {family} {method}" for goal in GOALS} <= groups
    moved = [e for e in shown if e.most == OTHERS and (e.factor is None or e.factor > OTHERS)]
    assert all(effect.finding is not None for effect in moved)
