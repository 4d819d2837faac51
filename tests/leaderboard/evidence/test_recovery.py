"""The recovery law: finds a planted truth, predicts models it has not seen, and answers plainly at its edges."""

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from leaderboard import P2Error, evidence, recovery
from leaderboard.evidence import load_evidence
from leaderboard.evidence.backtest import backtest, failures, left_out_errors
from leaderboard.evidence.forms import FORMS, chosen_blind, depth_rows, left_out
from leaderboard.evidence.recovery_law import D0, RecoveryLaw, fit_law

QUESTION = {"method": "depth", "rate": 0.25, "n0": 8.03e9, "l0": 1.98, "l_pruned": 4.5, "tokens": D0}


def width(answer, level=0.8):
    low, high = answer.interval(level)
    return high - low


@pytest.fixture(scope="module")
def table():
    return backtest().set_index(["method", "known", "rates"])


@pytest.mark.parametrize(("rates", "most"), [("0.1 to 0.36", 0.20), ("0.1 to 0.5", 0.32)])
def test_models_left_out_are_predicted(table, rates, most):
    row = table.loc[("depth", "control and damage", rates)]
    assert row["rmse"] <= most
    assert row["rmse_healed"] <= 0.20
    assert row["covered_80"] >= 0.72
    assert row["covered_95"] >= 0.90


def test_intervals_cover_where_less_is_known(table):
    assert (table["covered_80"] >= 0.72).all()
    assert (table["covered_95"] >= 0.90).all()


def test_the_measured_damage_and_control_each_make_the_prediction_better(table):
    for rates in ("0.1 to 0.36", "0.1 to 0.5", "0 to 1"):
        known = table.loc["depth"].xs(rates, level="rates")
        assert known.loc["control and damage", "rmse"] < known.loc["control", "rmse"]
        assert known.loc["control and damage", "rmse_loss"] < known.loc["neither", "rmse_loss"]


def test_a_left_out_model_is_told_by_the_others_alone():
    """Whatever its own losses were: the error of each row changes by what its loss changed."""
    errors = left_out_errors()
    own = errors[(errors["model"] == "Qwen/Qwen2.5-14B") & (errors["known"] == "control and damage")]
    rows = load_evidence()
    others = fit_law(rows[rows["model"] != "Qwen/Qwen2.5-14B"])
    predicted = others.excess(own["damage"].to_numpy(), (own["rate"] / (1 - own["rate"])).to_numpy(), D0)
    assert np.log(own["excess"] / predicted).to_numpy() == pytest.approx(own["error"].to_numpy(), abs=1e-9)


def test_the_law_is_one_of_the_forms_tried():
    errors = left_out_errors()
    errors = errors[(errors["method"] == "depth") & (errors["known"] == "control and damage")]
    rows = depth_rows()
    tried = left_out(FORMS["damage x odds, below damage (2)"], rows)[rows["judged"]]
    assert sorted(tried) == pytest.approx(sorted(errors["error"]), abs=1e-4)


@pytest.mark.slow
def test_choosing_the_form_without_the_model_it_is_judged_on_keeps_the_targets():
    blind = chosen_blind()
    assert blind["0.1 to 0.36"] <= 0.20
    assert blind["0.1 to 0.5"] <= 0.33


def test_failed_cuts_are_told_apart():
    failed = failures()
    assert len(failed)
    assert (failed["share_left"] > 0.9).all()


def planted(law: RecoveryLaw) -> pd.DataFrame:
    """Evidence of the same shape whose losses follow a law to the last digit."""
    rows = load_evidence()
    rows = rows[rows["damage"].notna()].copy()
    odds = rows["rate"] / (1 - rows["rate"])
    control = rows["l0"].where(rows["l0_control"].isna(), rows["l0"] * math.exp(law.drift))
    rows["l0_control"] = control.where(rows["l0_control"].notna())
    rows["excess"] = law.excess(rows["damage"].to_numpy(), odds.to_numpy(), rows["tokens"].to_numpy(float))
    rows["loss"] = control + rows["excess"]
    return rows.assign(healed=True)


@pytest.mark.parametrize("truth", [(-0.1, 0.4, 0.5, -0.02), (0.2, 0.7, 0.3, 0.0)])
def test_a_planted_law_is_found(truth):
    level, power, decay, drift = truth
    law = fit_law(planted(RecoveryLaw(level, power, decay, drift)))
    assert (law.level, law.power, law.decay, law.drift) == pytest.approx(truth, abs=1e-4)
    assert all(t.sd < 1e-3 for t in law.tables)


def test_the_loss_lies_between_the_control_and_the_pruned_model():
    answer = recovery(**QUESTION, l0_control=2.0)
    low, high = answer.interval(0.8)
    assert 2.0 < low < answer.loss < high < QUESTION["l_pruned"]
    assert answer.loss == pytest.approx(2.0 + answer.excess)


def test_more_tokens_less_loss_and_never_more_than_the_damage():
    losses = [recovery(**QUESTION | {"tokens": 10.0**n}, l0_control=1.98).loss for n in range(3, 13)]
    assert all(later < earlier for earlier, later in pairwise(losses))
    assert 1.98 < losses[-1] < losses[0] < QUESTION["l_pruned"]


@pytest.mark.parametrize("name", ["rate", "l_pruned"])
def test_a_larger_cut_leaves_more(name):
    values = {"rate": (0.1, 0.2, 0.4, 0.6), "l_pruned": (2.1, 2.8, 4.0, 7.0)}[name]
    losses = [recovery(**QUESTION | {name: value}).loss for value in values]
    assert losses == sorted(losses)


def test_what_was_not_measured_makes_the_interval_wider():
    whole = width(recovery(**QUESTION, l0_control=1.98))
    assert whole < width(recovery(**QUESTION))
    assert whole < width(recovery(**QUESTION | {"l_pruned": None}, l0_control=1.98))
    assert width(recovery(**QUESTION), 0.5) < width(recovery(**QUESTION), 0.8) < width(recovery(**QUESTION), 0.95)


@pytest.mark.parametrize(
    "further", [{"tokens": 1e7}, {"tokens": 1e10}, {"method": "width"}, {"n0": 4e11}, {"n0": 4e6}, {"rate": 0.95}]
)
def test_further_from_what_is_published_is_less_sure_and_says_so(further):
    near, far = recovery(**QUESTION, l0_control=1.98), recovery(**QUESTION | further, l0_control=1.98)
    assert far.sd > near.sd
    assert not near.note
    assert far.note


def test_2of4_answers_from_2of4():
    answer = recovery(method="2:4", rate=0.434, n0=8.03e9, l0=1.95, tokens=5.2e9)
    assert "2:4" in answer.source
    assert answer.degrees > recovery(**QUESTION).degrees
    low, high = answer.interval(0.8)
    assert low < answer.loss < high < answer.l_pruned


def test_where_published_cuts_did_not_heal_it_warns_and_reaches_up_to_the_pruned_model():
    answer = recovery(method="depth", rate=0.39, n0=494e6, l0=2.75, l_pruned=6.3, tokens=D0, l0_control=2.57)
    assert 0 < answer.failed <= answer.similar
    assert "did not heal" in answer.note
    assert answer.interval(0.8)[1] >= 6.3
    small = recovery(method="depth", rate=0.12, n0=14.7e9, l0=1.8, l_pruned=2.4, tokens=D0)
    assert small.failed == 0


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"method": "dept"}, "unknown pruning method 'dept'. Did you mean 'depth'"),
        ({"rate": 25}, "rate is 25; it must be between 0 and 1"),
        ({"rate": 0.0}, "rate is 0.0"),
        ({"rate": None}, "rate is None"),
        ({"tokens": 0}, "tokens is 0; it must be a count above 0"),
        ({"tokens": math.inf}, "tokens is inf"),
        ({"n0": "8B"}, "n0 is 8B"),
        ({"l0": None}, "l0 is None; it must be a loss in nats"),
        ({"l0": math.nan}, "l0 is nan"),
        ({"l_pruned": 1.9}, "l_pruned is 1.9 and l0 1.98; a pruned model starts above its base"),
        ({"l_pruned": 90.0}, "l_pruned is 90.0"),
        ({"l0_control": 5.0}, "l0_control is 5.0 and l_pruned 4.5"),
        ({"l0_control": -1.0}, "l0_control is -1.0"),
    ],
)
def test_what_no_pruned_model_has_is_refused(wrong, words):
    with pytest.raises(P2Error, match="recovery: ") as refusal:
        recovery(**QUESTION | wrong)
    assert words in str(refusal.value)


@pytest.mark.parametrize("level", [0, 1, 80])
def test_a_level_is_a_share(level):
    with pytest.raises(P2Error, match=f"level is {level}"):
        recovery(**QUESTION).interval(level)


def test_the_pages_example_runs():
    page = (Path(evidence.__file__).parent / "README.md").read_text(encoding="utf-8")
    block = page.partition("```python\n")[2].partition("```")[0]
    names = {}
    exec(block, names)
    assert names["answer"].interval(0.8)[0] < names["answer"].loss
