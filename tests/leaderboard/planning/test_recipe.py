"""Every answer says how the runs behind it were trained, and in what they differ."""

import numpy as np
import pytest

from leaderboard import forecast, recommend_tokens
from leaderboard.planning.plan import plan
from leaderboard.planning.recipe import recipe_differences, recipe_words, usual_recipe
from leaderboard.serving.as_json import data

OF_THE_SEED = {
    "schedule": "constant-with-warmup", "peak_rate": 2e-4, "batch": 16_384, "precision": "fp32-master-bf16-autocast",
    "text": "p2lab/docs-heldout", "objective": "clm", "vocabulary": 16_384,
}  # fmt: skip
ASKED = {"family": "llama-3", "method": "depth", "rate": 0.25, "n0": 34e6, "l0": 2.72, "excess": 0.1, "law": "p2"}


@pytest.fixture(scope="module")
def depth(seed):
    return seed[(seed["method"] == "depth") & (seed["family"] == "llama-3")].astype({"schedule": object})


def test_answers_state_it(seed, depth):
    assert usual_recipe(seed) == OF_THE_SEED
    assert recommend_tokens(depth, **ASKED).as_dict()["recipe"] == OF_THE_SEED
    assert plan(depth, deployed=8e6, tokens=1e7, law="p2-no-l0").attrs["recipe"] == OF_THE_SEED
    own = seed[seed["run_id"] == seed["run_id"].iloc[0]].iloc[:8]
    assert forecast(seed.iloc[:0], own).recipe == OF_THE_SEED
    assert forecast(seed.iloc[:0], own[["tokens", "loss"]]).recipe == dict.fromkeys(OF_THE_SEED)
    from leaderboard import load_logs

    assert data(load_logs())["recipe"] == OF_THE_SEED


def test_it_is_said_in_words():
    said = recipe_words({"schedule": "cosine", "peak_rate": 1e-4, "batch": None})
    assert said == "schedule cosine, peak rate 0.0001"


def test_differences_are_said_beside_the_answer(depth):
    runs = np.unique(depth["run_id"].astype(str))[:3]
    other = depth["run_id"].isin(runs)
    rates = depth.assign(lr_peak=np.where(other, 1e-4, depth["lr_peak"]))
    (said,) = recipe_differences(rates)
    assert said.startswith("The runs behind this differ in peak rate: 0.0002 (7), 0.0001 (3)")
    assert said in recommend_tokens(rates, **ASKED).why
    moving = depth.assign(schedule=np.where(other, "cosine", depth["schedule"]))
    assert [line[:30] for line in recipe_differences(moving)][1] == "Of 3 of 10 runs the learning r"
    assert recipe_differences(depth) == []


def test_rows_midway_of_a_decaying_rate_do_not_move_an_answer(depth):
    runs = np.unique(depth["run_id"].astype(str))[:3]
    other = depth["run_id"].isin(runs)
    moving = depth.assign(schedule=np.where(other, "cosine", depth["schedule"]))
    end = moving["tokens"] == moving.groupby("run_id", observed=True)["tokens"].transform("max")
    midway = moving.assign(loss=moving["loss"] + np.where(other & ~end, 5.0, 0.0))
    assert recommend_tokens(midway, **ASKED).tokens == recommend_tokens(moving, **ASKED).tokens
