"""Budgets: every goal checked by predicting at the answer, every status, every refusal."""

import json

import numpy as np
import pandas as pd
import pytest

from leaderboard import LAWS, P2Error, fit, recommend_tokens
from leaderboard.logs.contract import usable
from leaderboard.planning.budget import Question, invert
from leaderboard.planning.gpus import GPUS, MFU, check_offer, gpu_hours

ASKED = {"family": "llama-3", "method": "depth", "rate": 0.25, "n0": 34e6, "l0": 2.72}
KEYS = {
    "tokens", "tokens_80", "tokens_95", "at_most", "loss", "status", "state", "law", "weights", "group",
    "extrapolation", "recipe", "evidence", "gpu_hours", "cost", "why", "sentence", "warning",
}  # fmt: skip


@pytest.fixture(scope="module")
def fitted(seed):
    """P² on the group the question is about."""
    return fit(LAWS["p2"], seed[(seed["family"] == "llama-3") & (seed["method"] == "depth")])


def _predict(fitted, tokens: float, l_pruned: float | None = None) -> float:
    row = {"tokens": [float(tokens)], "rate": [0.25], "n0": [34e6], "l0": [2.72], "l_pruned": [l_pruned]}
    return float(fitted.predict(pd.DataFrame(row))[0])


def ask(seed, **goal):
    return recommend_tokens(seed, **(ASKED | {"law": "p2"} | goal))


@pytest.mark.parametrize(("goal", "target"), [({"target_loss": 2.82}, 2.82), ({"excess": 0.08}, 2.8)])
def test_a_loss_is_reached_where_the_answer_says(goal, target, seed, fitted):
    answer = ask(seed, **goal)
    assert answer.status == "reached"
    assert isinstance(answer.tokens, int)
    assert _predict(fitted, answer.tokens) == pytest.approx(target, abs=1e-6)
    assert _predict(fitted, answer.tokens - 1) >= target - 1e-9
    assert answer.loss == pytest.approx(target, abs=1e-6)


@pytest.mark.parametrize("gain", [0.015, 0.02, 0.05])
def test_a_marginal_gain_stops_where_the_next_doubling_wins_less(gain, seed, fitted):
    answer = ask(seed, gain=gain)
    won = _predict(fitted, answer.tokens) - _predict(fitted, 2 * answer.tokens)
    assert won == pytest.approx(gain, rel=1e-6)
    assert _predict(fitted, answer.tokens / 2) - _predict(fitted, answer.tokens) > gain


def test_a_gain_of_a_hundredth_is_the_default(seed):
    assert ask(seed).tokens == ask(seed, gain=0.01).tokens
    assert "less than 0.01 nats" in ask(seed).goal


def test_more_is_asked_more_tokens_are_needed(seed):
    tokens = [ask(seed, excess=excess).tokens for excess in (0.15, 0.12, 0.09, 0.06)]
    assert tokens == sorted(set(tokens))


def test_what_is_met_already_needs_nothing(seed):
    answer = ask(seed, target_loss=3.5, l_pruned=3.4)
    assert (answer.status, answer.tokens, answer.loss) == ("already_met", 0, 3.4)


def test_what_lies_under_the_floor_is_unreachable(seed):
    answer = ask(seed, target_loss=1.0)
    assert (answer.status, answer.tokens) == ("unreachable", None)
    assert answer.loss > 1.0
    assert f"floor is {answer.loss:.4f}" in " ".join(answer.why)
    assert answer.gpu_hours is None
    assert answer.extrapolation["tokens"] == pytest.approx(1e13 / 1e7, rel=0.5)


def test_what_is_met_at_the_fewest_tokens_measured_is_answered_with_at_most(seed):
    fewest = int(usable(seed)["tokens"].min())
    easy = recommend_tokens(seed, **(ASKED | {"rate": 0.14}), excess=0.6)
    assert (easy.tokens, easy.at_most, easy.status) == (fewest, True, "reached")
    assert easy.tokens_80 == (fewest, fewest)
    hard = recommend_tokens(seed, **ASKED, excess=0.05)
    assert not hard.at_most
    assert hard.tokens_95[0] >= fewest


def test_a_drift_that_never_ends_makes_a_gain_unreachable(seed):
    rows = usable(seed[(seed["family"] == "llama-3") & (seed["method"] == "depth")])
    steady = rows.assign(loss=rows["l0"] - 0.05 * np.log2(rows["tokens"] / 1e12))
    found = fit(LAWS["damage-drift"], steady)
    asked = Question(family="llama-3", method="depth", rate=0.2, n0=34e6, l0=2.72, l_pruned=3.2, gain=0.01)
    assert invert(found, asked)[0] is None


def test_laws_answer_together_and_l_pruned_brings_more_of_them(seed, seed_cells):
    with_damage = recommend_tokens(seed, **ASKED, l_pruned=3.4)
    without = recommend_tokens(seed, **ASKED)
    for told in (with_damage, without):
        assert told.law == "mixture"
        assert sum(told.weights.values()) == pytest.approx(1, abs=1e-3)
    assert set(without.weights) < set(with_damage.weights)
    assert not any("l_pruned" in LAWS[name].inputs for name in without.weights)
    assert any("Measure the loss once after pruning" in line for line in without.why)
    assert not any("Without l_pruned" in line for line in with_damage.why)
    rmse = seed_cells[seed_cells["track"].isin(["size", "rate"])].groupby("law")["rmse"].mean()
    assert next(iter(with_damage.weights)) == rmse.idxmin()


def test_text_columns_may_be_plain_strings(seed):
    text = seed.astype(dict.fromkeys(seed.columns[seed.dtypes == "category"], str))
    assert ask(text, excess=0.2).tokens == pytest.approx(ask(seed, excess=0.2).tokens, rel=1e-6)
    assert ask(text.astype(object), excess=0.2).group == ask(seed, excess=0.2).group


def test_the_group_defaults_to_where_most_runs_are(seed):
    few = seed[(seed["n0"] == seed["n0"].min()) & (seed["rate"] > 0)]
    few = few.astype({"eval_data": str, "run_id": str}).assign(eval_data="another")
    both = pd.concat([seed.astype({"eval_data": str, "run_id": str}), few.assign(run_id=few["run_id"] + "x")])
    assert ask(both).group == ASKED_GROUP
    assert ask(both, eval_data="another").group["eval_data"] == "another"
    with pytest.raises(P2Error, match="Did you mean 'another'"):
        ask(both, eval_data="anothr")


ASKED_GROUP = {"family": "llama-3", "method": "depth", "eval_data": "p2lab/docs-heldout", "objective": "clm"}


def test_extrapolation_is_a_factor_for_each_axis(seed):
    inside = ask(seed, excess=0.2).extrapolation
    assert inside["size"] == pytest.approx(34e6 / 33930176)
    assert inside["family"] is False
    far = ask(seed, n0=8e9, rate=0.9, gain=0.001).extrapolation
    largest = seed[(seed["family"] == "llama-3") & (seed["method"] == "depth")][["n0", "rate", "tokens"]].max()
    assert far["size"] == pytest.approx(8e9 / largest["n0"])
    assert far["rate"] == pytest.approx(0.9 / largest["rate"])
    assert far["tokens"] > 1
    assert ask(seed, n0=1e6).extrapolation["size"] == pytest.approx(seed["n0"].min() / 1e6)


def test_a_pooled_law_answers_for_a_new_family_and_says_so(seed):
    answer = ask(seed, family="mistral", law="damage-pooled", l_pruned=3.4)
    assert answer.extrapolation["family"] is True


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"rate": 25}, "rate is 25; it must be a share"),
        ({"rate": 0}, "rate is 0"),
        ({"rate": float("nan")}, "rate is nan"),
        ({"n0": 8}, "n0 is 8; it must be a number of parameters"),
        ({"n0": 1e300}, "it must be a number of parameters"),
        ({"gain": 1e300, "excess": None}, "nats won by the next doubling"),
        ({"method": "none"}, "what is not pruned needs no tokens"),
        ({"n0": float("inf")}, "n0 is inf"),
        ({"l0": -1}, "l0 is -1"),
        ({"l_pruned": 0}, "l_pruned is 0"),
        ({"l_pruned": 2.5}, "l_pruned is 2.5, below l0"),
        ({"excess": -0.1}, "excess is -0.1; it must be 0 or more"),
        ({"gain": 0}, "gain is 0"),
        ({"excess": float("inf")}, "excess is inf"),
        ({"target_loss": -2}, "target_loss is -2"),
        ({"target_loss": 3, "excess": 0.1}, "give one goal"),
        ({"family": "lama-3"}, "unknown family 'lama-3'. Did you mean 'llama-3'"),
        ({"method": "widht"}, "unknown method 'widht'. Did you mean 'width'"),
        ({"law": "damge"}, "unknown law 'damge'. Did you mean 'damage'"),
        ({"law": "damage"}, "needs l_pruned"),
        ({"gpu": "h1000"}, "unknown gpu 'h1000'. Did you mean 'h100'"),
        ({"objective": "distil"}, "unknown objective 'distil'"),
    ],
)
def test_what_cannot_be_asked_is_refused(wrong, words, seed):
    with pytest.raises(P2Error, match=words.replace(".", r"\.")):
        ask(seed, **wrong)


@pytest.mark.parametrize("name", ["run_id", "family", "method", "eval_data", "objective", "n0"])
def test_a_missing_column_is_named(name, seed):
    with pytest.raises(P2Error, match=f"budget: needs the column {name};"):
        ask(seed.drop(columns=name))


def test_logs_without_a_usable_row(seed):
    with pytest.raises(P2Error, match="no usable rows"):
        ask(seed[seed["tokens"] == 0])


def test_gpu_hours_are_six_flops_a_parameter_and_token():
    hours, cost = gpu_hours(1e9, 1e9, 0.25, "depth", "h100")
    assert hours == pytest.approx(6 * 0.75e9 * 1e9 / (989e12 * MFU) / 3600)
    assert cost == pytest.approx(hours * GPUS["h100"].price)
    assert gpu_hours(1e9, 1e9, 0.4, "2:4", "h100")[0] == pytest.approx(hours / 0.75)  # masked weights still cost
    for method in ("depth+2:4", "unstructured"):
        assert gpu_hours(1e9, 1e9, 0.4, method, "h100")[0] == pytest.approx(hours / 0.75)


def test_a_distillation_pays_its_teacher(seed):
    """Two FLOPs a parameter and token of the model before pruning, whatever is cut from the student."""
    for rate in (0.25, 0.5):
        extra = (gpu_hours(1e9, 1e9, rate, "depth", "h100", objective=o)[0] for o in ("distill", "clm"))
        assert next(extra) - next(extra) == pytest.approx(1e9 * 2 * 1e9 / (989e12 * MFU) / 3600)
    taught = ask(seed.assign(objective="distill"), excess=0.2, gpu="a100")
    plain = ask(seed, excess=0.2, gpu="a100")
    assert taught.gpu_hours / plain.gpu_hours == pytest.approx((6 * 0.75 + 2) / (6 * 0.75))


def test_an_answer_counts_gpu_hours(seed):
    answer = ask(seed, excess=0.2, gpu="a100")
    assert (answer.gpu_hours, answer.cost) == gpu_hours(answer.tokens, 34e6, 0.25, "depth", "a100")


def test_the_json_has_the_contracts_keys(seed):
    answer = ask(seed, excess=0.2, gpu="h100").as_dict()
    assert set(answer) == KEYS
    plain = json.loads(json.dumps(answer, allow_nan=False))
    assert plain["status"] == "reached"
    assert plain["group"] == ASKED_GROUP
    assert plain["tokens_80"] is None or len(plain["tokens_80"]) == 2
    assert set(plain["extrapolation"]) == {"size", "rate", "tokens", "family"}


def test_no_answer_is_less_than_what_was_measured_to_be_too_little(seed):
    """A run of one's own that is slower than the laws say bounds the answer, though they leave it out."""
    question = {"family": "llama-3", "method": "depth", "rate": 0.169, "n0": 12.9e6, "l0": 2.8612, "l_pruned": 3.375}
    rows = seed.astype({"run_id": str, "contributor": str})
    own = rows[rows["run_id"] == "2bde7f81fc953cfc"].assign(run_id="0" * 16, contributor="me")
    both = pd.concat([rows, own.assign(loss=own["loss"] + 0.1 * (own["tokens"] > 0))], ignore_index=True)
    before, after = (recommend_tokens(frame, **question, target_loss=2.95) for frame in (rows, both))
    assert before.tokens < 5e6
    assert after.tokens == own["tokens"].max() + 1
    assert after.tokens_80[1] >= after.tokens
    assert "so many are too few" in " ".join(after.why)


@pytest.mark.parametrize(("name", "key"), [("H100", "h100"), ("RTX 4090", "rtx-4090"), (" a100 ", "a100")])
def test_a_gpu_is_known_as_people_write_it(name, key):
    assert check_offer(name, None) == key
    assert gpu_hours(1e9, 1e9, 0.25, "depth", name) == gpu_hours(1e9, 1e9, 0.25, "depth", key)


def test_a_goal_that_only_the_bases_own_progress_meets_is_told(seed):
    """Over l0, and below what the laws leave at any number of tokens once their drift is taken out."""
    below, above = (ask(seed, law="capacity", excess=excess) for excess in (0.0, 0.1))
    assert below.status == above.status == "reached"
    assert any("still improving" in line and "a control" in line for line in below.why)
    assert not any("still improving" in line for line in above.why)
