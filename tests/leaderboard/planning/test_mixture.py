"""Laws together: weights, a band that grows with distance, states, and questions that must not be answered."""

import json

import numpy as np
import pandas as pd
import pytest

from leaderboard import P2Error, recommend_tokens, recommended_fit
from leaderboard.planning.budget import Question, answer
from leaderboard.planning.too_far import same_cut_words

INSIDE = {"n0": 30e6, "rate": 0.2, "l0": 2.72, "l_pruned": 3.2, "tokens": 5e6}
FAR = [
    {"family": "llama-3", "method": "depth", "rate": 0.25, "n0": 8.03e9, "l0": 1.95, "excess": 0.05},
    {"family": "llama-3", "method": "width", "rate": 0.25, "n0": 1.24e9, "l0": 2.4, "l_pruned": 3.6, "excess": 0.1},
    {"family": "qwen-2.5", "method": "depth", "rate": 0.2, "n0": 494e6, "l0": 2.6, "excess": 0.1},
    {"family": "qwen-2.5", "method": "width", "rate": 0.15, "n0": 1.54e9, "l0": 2.3, "excess": 0.05},
    {"family": "llama-3", "method": "2:4", "rate": 0.44, "n0": 3.21e9, "l0": 2.1, "excess": 0.1},
    {"family": "llama-3", "method": "depth", "rate": 0.35, "n0": 3.21e9, "l0": 2.1, "l_pruned": 5.0, "excess": 0.2},
    {"family": "qwen-2.5", "method": "depth", "rate": 0.25, "n0": 7.6e9, "l0": 1.9, "l_pruned": 2.6},
    {"family": "llama-3", "method": "width", "rate": 0.5, "n0": 70e9, "l0": 1.6, "target_loss": 1.8},
    {"family": "mistral", "method": "depth", "rate": 0.3, "n0": 7.2e9, "l0": 1.9, "excess": 0.1},
    {"family": "llama-3", "method": "2:4", "rate": 0.43, "n0": 8.03e9, "l0": 1.95, "l_pruned": 2.9, "excess": 0.05},
    {"family": "qwen-2.5", "method": "width", "rate": 0.3, "n0": 32e9, "l0": 1.7, "gain": 0.02},
    {"family": "llama-3", "method": "depth", "rate": 0.1, "n0": 500e6, "l0": 2.5, "l_pruned": 2.7, "excess": 0.02},
]  # fmt: skip
NUMBERS = ("tokens", "tokens_80", "tokens_95", "loss", "status", "gpu_hours", "cost")


@pytest.fixture(scope="module")
def fitted(seed):
    """What answers about Llama-3 by width with l_pruned measured."""
    return recommended_fit(seed, family="llama-3", method="width")


def _rows(**changes):
    return pd.DataFrame(INSIDE | changes, index=range(max(map(np.size, changes.values()), default=1)))


@pytest.mark.parametrize("question", FAR, ids=lambda q: f"{q['n0']:.3g} {q['method']}")
def test_a_question_at_real_sizes_has_a_state_and_no_number(question, seed):
    told = recommend_tokens(seed, **question, gpu="h100").as_dict()
    assert told["state"] == "too_far"
    assert all(told[name] is None for name in NUMBERS)
    words = " ".join(told["why"])
    assert "cannot answer" in words
    assert "p2zoo run" in words
    assert "--set train.tokens=" in words
    assert "answer together" not in words  # no law did
    json.dumps(told, allow_nan=False)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(("n0", "rate", "tokens"), [(100e6, 0.25, 5e6), (34e6, 0.45, 5e6), (34e6, 0.25, 9e7)])
def test_near_the_data_every_question_is_answered(n0, rate, tokens, known, seed):
    asked = {"family": "llama-3", "method": "width", "rate": rate, "n0": n0, "l0": 2.6}
    asked |= {"l_pruned": 2.6 + 4 * rate} if known else {}
    fitted = recommended_fit(seed, family="llama-3", method="width", l_pruned_known=known)
    target = float(fitted.predict(Question(**asked).curve(np.array([tokens])))[0])
    told = recommend_tokens(seed, **asked, target_loss=target)
    assert told.state == "beyond"
    assert told.tokens == pytest.approx(tokens, rel=0.01)
    assert told.tokens_95[0] <= told.tokens_80[0] <= told.tokens <= told.tokens_80[1] <= told.tokens_95[1]


def test_what_is_met_already_needs_no_law(seed):
    told = recommend_tokens(seed, **FAR[1] | {"excess": 2.0}, gpu="h100")
    assert (told.tokens, told.status, told.loss) == (0, "already_met", 3.6)
    assert told.state != "too_far"


@pytest.mark.parametrize("n0", [34e6, 8e9])
def test_a_goal_below_the_loss_before_pruning_is_answered_and_its_oddness_said(n0, seed):
    told = recommend_tokens(seed, family="llama-3", method="depth", rate=0.2, n0=n0, l0=2.72, target_loss=2.4)
    assert "goal lies below the loss before pruning" in " ".join(told.why)


def test_a_fixed_pattern_takes_no_more_than_it_zeros():
    with pytest.raises(P2Error, match=r"rate is 0.6; 2:4 takes at most 0.5 of all parameters"):
        Question(family="llama-3", method="2:4", rate=0.6, n0=1e9, l0=2.5)


def test_an_end_that_only_bounds_the_answer_is_told_as_a_bound(seed):
    near = {"family": "llama-3", "n0": 34e6, "l0": 2.72}
    few = recommend_tokens(seed, **near, method="depth", rate=0.1, excess=0.5)
    assert few.at_most
    assert few.interval_words(few.tokens_80) == "at most 492 k tokens"
    many = recommend_tokens(seed, **near, method="width", rate=0.45, excess=0.001)
    assert many.tokens_95[1] == 1e13
    assert many.interval_words(many.tokens_95).endswith("M tokens or more")


def test_where_the_published_law_says_nothing_it_is_not_quoted(seed):
    told = recommend_tokens(seed, family="llama-3", method="depth", rate=0.9, n0=34e6, l0=2.72, excess=0.05)
    assert told.state == "too_far"
    assert not any("A law over published recoveries" in line for line in told.why)


def test_weights_fall_with_the_error_and_even_out_beyond_the_rates(fitted):
    near, far = fitted.weights(_rows())[:, 0], fitted.weights(_rows(rate=0.45))[:, 0]
    order = np.argsort(fitted.errors)
    assert (np.diff(near[order]) < 0).all()
    assert near.sum() == pytest.approx(1)
    assert far.max() - far.min() < 0.2 * (near.max() - near.min())


def test_the_mixture_is_the_weighted_mean_of_its_laws(fitted):
    rows = _rows(tokens=[1e6, 5e6])
    each = np.stack([member.fit.predict(rows) for member in fitted.members])
    np.testing.assert_allclose(fitted.predict(rows), (fitted.weights(rows) * each).sum(axis=0), rtol=1e-12)


def test_a_law_that_lacks_an_input_stands_aside(fitted):
    blind = [i for i, member in enumerate(fitted.members) if "l_pruned" not in member.fit.law.inputs]
    rows = _rows(l_pruned=np.nan)
    each, weight = (np.stack([fitted.members[i].fit.predict(rows) for i in blind]), fitted.weights(rows)[blind])
    np.testing.assert_allclose(fitted.predict(rows), (each * weight).sum(axis=0) / weight.sum(axis=0), rtol=1e-12)


@pytest.mark.parametrize("axis", ["n0", "tokens", "rate"])
def test_the_band_widens_with_distance(axis, fitted):
    edge = {"n0": 34e6, "tokens": 1e7, "rate": 0.33}[axis]
    times = np.array([1, 1.3, 2, 3]) if axis != "rate" else np.array([1, 1.15, 1.3, 1.5])
    values = edge * times
    rows = pd.concat([_rows(**{axis: value, "l_pruned": 4.0}) for value in values])
    band = fitted.band(rows)
    width = (band.above + band.below) / (band.center - 2.72)  # as a share of the excess
    assert width[-1] > 1.05 * width[0]
    low, high = band.ends(0.8)
    wider = band.ends(0.95)
    assert (wider[0] < low).all()
    assert (high < wider[1]).all()


def test_far_above_the_measured_sizes_the_band_reaches_the_level_where_the_trend_stops(fitted):
    band = fitted.band(_rows(n0=8e9))
    assert band.above[0] > band.below[0]
    assert band.ends(0.8)[1][0] > fitted.predict(_rows(n0=34e6))[0]


def test_one_law_alone_is_a_mixture_of_that_name(seed):
    told = recommend_tokens(seed, family="llama-3", method="depth", rate=0.25, n0=34e6, l0=2.72, law="p2", excess=0.08)
    assert (told.law, told.weights) == ("p2", {"p2": 1.0})


def test_the_recipe_behind_an_answer_is_told(seed):
    told = recommend_tokens(seed, family="qwen-2.5", method="depth", rate=0.2, n0=13e6, l0=2.86, excess=0.05)
    assert told.state == "inside"
    assert told.recipe["peak_rate"] == 2e-4
    assert told.recipe["batch"] == 16384
    assert told.recipe["text"] == "p2lab/docs-heldout"


def test_evidence_is_shown_beside_what_is_too_far(seed):
    fitted = recommended_fit(seed, family="llama-3", method="depth", l_pruned_known=False)
    told = answer(fitted, Question(**FAR[0]))
    rows = told.as_dict()["evidence"]
    assert len(rows) == 3
    assert rows[0]["loss"] > rows[0]["l0"]
    assert all(any(row["model"] in line and row["source"] in line for line in told.why) for row in rows)
    assert any("p2zoo run" in line for line in told.why)
    json.dumps(rows, allow_nan=False)


@pytest.mark.parametrize(("change", "said"), [({}, True), ({"rate": 0.25}, False), ({"method": "width"}, False)])
def test_a_published_row_that_is_the_question_goes_before_any_law(change, said):
    published = {"family": "qwen-2.5", "method": "depth", "rate": 0.21, "n0": 494e6, "l0": 2.75, "excess": 0.1}
    lines = same_cut_words(Question(**published | change))
    assert bool(lines) == said
    assert all("stood at 2.996 after 81.9 M tokens, above the goal of 2.850" in line for line in lines)
